"""Many writes of one kind in one command.

PyMongo's own bulk writes check and wrap every single write, which costs the ingestor a fifth of its processor time;
here the whole batch goes to the server as it is. For batches of some thousand small documents: a command ends at 16 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError

from storage.database import Document

PAYLOAD: Final = {"insert": "documents", "update": "updates"}


async def write_many(
    collection: AsyncCollection[Document],
    kind: Literal["insert", "update"],
    writes: Sequence[Any],
    *,
    ordered: bool,
    session: AsyncClientSession,
) -> int:
    """Send a batch of writes, inside the caller's transaction.

    Args:
        collection: where.
        kind: what each write is.
        writes: documents to insert, or MongoDB's own update statements: ``{"q": …, "u": …, "upsert": …}``.
        ordered: stop at the first that fails.
        session: of the transaction.
    Returns: how many documents were inserted or matched.
    Raises: BulkWriteError, OperationFailure: as PyMongo's own bulk writes do.
    """
    if not writes:
        return 0
    command = {kind: collection.name, "ordered": ordered, PAYLOAD[kind]: writes}
    reply = await collection.database.command(command, session=session)
    if failed := reply.get("writeErrors"):
        raise BulkWriteError({"writeErrors": failed})
    return int(reply["n"])
