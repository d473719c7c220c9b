"""The outbox: messages written in the same transaction as what they tell of, published afterwards.

A worker that dies between the two leaves its entry unpublished; it, or another replica, publishes the entry later under
the same message ids. Consumers count an id once: ``consumed`` remembers which stage has had which message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from pymongo import InsertOne
from pymongo.asynchronous.client_session import AsyncClientSession

from messaging.line import Outgoing
from storage.database import Database, Document
from storage.errors import translated

SWEEP_AFTER: Final = timedelta(seconds=5)
"""An entry that is unpublished for so long was left behind by a worker that died."""

SWEEP_MAX: Final = 100


async def write_outbox(
    database: Database, stage: str, outgoing: Sequence[Outgoing], *, now: datetime, session: AsyncClientSession
) -> None:
    """Write one entry, inside the caller's transaction; the first message's id names it."""
    await database["outbox"].insert_one(
        {
            "_id": outgoing[0].message_id,
            "stage": stage,
            "at": now,
            "published_at": None,
            "messages": [
                {"type": message.type, "id": message.message_id, "body": message.body, "mandatory": message.mandatory}
                for message in outgoing
            ],
        },
        session=session,
    )


async def mark_published(database: Database, entry_id: str, now: datetime) -> None:
    """Note that the broker has confirmed every message of an entry; its bodies are dropped."""
    with translated():
        await database["outbox"].update_one(
            {"_id": entry_id}, {"$set": {"published_at": now}, "$unset": {"messages": True}}
        )


async def left_behind(database: Database, stage: str, now: datetime) -> list[tuple[str, list[Outgoing]]]:
    """Find entries of a stage that nobody published, oldest first, at most ``SWEEP_MAX``."""
    with translated():
        query = {"stage": stage, "published_at": None, "at": {"$lt": now - SWEEP_AFTER}}
        cursor = database["outbox"].find(query).sort("at", 1).limit(SWEEP_MAX)
        return [(entry["_id"], [_outgoing(message) for message in entry["messages"]]) async for entry in cursor]


async def consumed_ids(database: Database, stage: str, message_ids: Iterable[str]) -> set[str]:
    """Which of these messages a stage has stored the effect of already."""
    with translated():
        keys = {f"{stage}|{message_id}": message_id for message_id in message_ids}
        cursor = database["consumed"].find({"_id": {"$in": list(keys)}}, {"_id": True})
        return {keys[entry["_id"]] async for entry in cursor}


async def mark_consumed(
    database: Database, stage: str, message_ids: Sequence[str], *, now: datetime, session: AsyncClientSession
) -> None:
    """Note, inside the caller's transaction, that a stage had these messages; a second time is a conflict."""
    if message_ids:
        marks: list[InsertOne[Document]] = [
            InsertOne({"_id": f"{stage}|{message_id}", "at": now}) for message_id in message_ids
        ]
        await database["consumed"].bulk_write(marks, ordered=True, session=session)


def _outgoing(message: Document) -> Outgoing:
    return Outgoing(
        type=message["type"], message_id=message["id"], body=bytes(message["body"]), mandatory=message["mandatory"]
    )
