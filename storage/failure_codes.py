"""The operators' table of failure codes: one row a code, every change of it kept with who, when and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from pymongo import DESCENDING, InsertOne, ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession

from messaging.contracts import FailureCodeCorrected
from ml.failures.codes import KnownCode, code_key
from storage.audit import audit_entry, record_audit
from storage.database import Database, Document
from storage.errors import StoreConflict, translated

ROWS_READ_MAX: Final = 20_000
CHANGES_READ_MAX: Final = 500


class CodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator says a code means. ``version`` counts its changes; ``category`` None: taken out again."""

    code_key: str = msgspec.field(name="_id")
    gateway: str
    failure_code: str | None
    failure_message: str | None
    category: str | None
    version: int
    changed_at: datetime
    changed_by: str
    reason: str


class CodeChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one row; ``event_id`` is the correction's, so that a repeated one changes nothing."""

    event_id: str
    row: CodeRow
    category_before: str | None
    reclassified: int


def key_of(correction: FailureCodeCorrected) -> str:
    """The row that a correction is about."""
    return code_key(correction.gateway, correction.failure_code, correction.failure_message)


async def find_code_rows(database: Database, keys: Iterable[str]) -> dict[str, CodeRow]:
    """Read the rows with these keys, also those that were taken out, by key."""
    wanted = list(set(keys))
    if not wanted:
        return {}
    with translated():
        cursor = database["failure_codes"].find({"_id": {"$in": wanted}})
        return {document["_id"]: msgspec.convert(document, CodeRow) async for document in cursor}


async def list_code_rows(
    database: Database, *, gateway: str | None = None, limit: int = ROWS_READ_MAX
) -> list[CodeRow]:
    """Read the table in force, by gateway and code."""
    query: Document = {"category": {"$ne": None}} | ({"gateway": gateway} if gateway else {})
    with translated():
        cursor = database["failure_codes"].find(query).sort("_id", 1).limit(min(limit, ROWS_READ_MAX))
        return [msgspec.convert(document, CodeRow) async for document in cursor]


async def list_code_changes(database: Database, *, key: str | None = None, limit: int = 100) -> list[CodeChange]:
    """Read the latest changes, of one row or of all, newest first."""
    query: Document = {"row._id": key} if key else {}
    with translated():
        cursor = database["failure_code_changes"].find(query).sort("row.changed_at", DESCENDING)
        found = await cursor.limit(min(limit, CHANGES_READ_MAX)).to_list()
    return [msgspec.convert(document | {"event_id": document["_id"]}, CodeChange) for document in found]


def rows_to_learn_from(rows: Sequence[CodeRow]) -> list[KnownCode]:
    """The table as examples for training: what was said, and what it means."""
    return [
        KnownCode(
            system=row.gateway,
            code=row.failure_code or "",
            message=row.failure_message or "",
            category=row.category,
        )
        for row in rows
        if row.category is not None and (row.failure_message or row.failure_code)
    ]


async def write_code_changes(
    database: Database, changes: Sequence[CodeChange], *, now: datetime, session: AsyncClientSession
) -> None:
    """Write changed rows, their history and the audit log, inside the caller's transaction.

    Raises: StoreConflict: another replica changed one of these rows first.
    """
    if not changes:
        return
    rows: list[InsertOne[Document] | ReplaceOne[Document]] = []
    for change in changes:
        document: dict[str, Any] = msgspec.to_builtins(change.row, builtin_types=(datetime,))
        if change.row.version == 1:
            rows.append(InsertOne(document))
        else:
            rows.append(ReplaceOne({"_id": document["_id"], "version": change.row.version - 1}, document))
    written = await database["failure_codes"].bulk_write(rows, ordered=True, session=session)
    if written.matched_count != sum(isinstance(row, ReplaceOne) for row in rows):
        raise StoreConflict("another replica changed one of these rows first")
    history = [{"_id": change.event_id} | msgspec.to_builtins(change, builtin_types=(datetime,)) for change in changes]
    await database["failure_code_changes"].insert_many(history, session=session)
    for change in changes:
        row = change.row
        entry = audit_entry(
            now,
            who=row.changed_by,
            what="failure_code.corrected",
            subject=f"failure_code:{row.code_key}"[:200],
            reason=row.reason,
            details={
                "category": row.category,
                "category_before": change.category_before,
                "version": row.version,
                "reclassified": change.reclassified,
            },
        )
        await record_audit(database, entry, session=session)
