"""Notifications that are to be sent: each once, whoever sends it, and again until it arrived or is given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from pymongo import ASCENDING, IndexModel
from pymongo.errors import BulkWriteError

from storage.database import DAY_S, Database
from storage.errors import StoreConflict, translated

COLLECTION: Final = "notifications"
INDEXES: Final = [
    IndexModel([("created_at", ASCENDING)], expireAfterSeconds=7 * DAY_S),
    IndexModel([("done_at", ASCENDING), ("due_at", ASCENDING)]),
]
LEASE: Final = timedelta(seconds=60)
"""Whoever takes a notification has so long to send it; then another process may."""

TURN: Final = timedelta(seconds=1.5)
"""Less than the pause between two looks of one process."""

TAKEN_MAX: Final = 100
GIVE_UP: Final = timedelta(hours=24)
ERROR_CHARS_MAX: Final = 200
DUPLICATE: Final = 11000


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """Something that people shall hear of. ``key`` names the event, so that it is told once."""

    key: str
    kind: str
    at: datetime
    title: str
    text: str
    severity: str = ""
    link: str = ""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A notification that was taken for sending."""

    id: str
    notification: Notification
    created_at: datetime
    tries: int


async def declare_notifications(database: Database) -> None:
    """Create the indexes; a second time changes nothing."""
    with translated():
        await database[COLLECTION].create_indexes(INDEXES)


async def enqueue(
    database: Database, notifications: Sequence[Notification], channels: Sequence[str], now: datetime, due_at: datetime
) -> None:
    """Put notifications into the queue of each channel; those that were put there before stay as they are."""
    documents: list[dict[str, Any]] = [
        {
            "_id": f"{channel}|{one.key}",
            "channel": channel,
            "notification": msgspec.to_builtins(one, builtin_types=(datetime,)),
            "created_at": now,
            "due_at": due_at,
            "tries": 0,
            "done_at": None,
        }
        for one in notifications
        for channel in channels
    ]
    if not documents:
        return
    with translated():
        try:
            await database[COLLECTION].insert_many(documents, ordered=False)
        except BulkWriteError as error:
            failures = (error.details or {}).get("writeErrors", [])
            if any(failure.get("code") != DUPLICATE for failure in failures):
                raise


async def take_due(database: Database, channel: str, now: datetime) -> list[Due]:
    """Take what is to be sent now; nobody else gets it for ``LEASE``, and nobody else takes any at the same moment.

    So what is due together is told together, however many processes look.
    """
    queue = database[COLLECTION]
    turn = {"_id": f"turn|{channel}", "until": {"$lte": now}}
    try:
        with translated():
            await queue.update_one(turn, {"$set": {"until": now + TURN}}, upsert=True)
    except StoreConflict:
        return []
    wanted = {"channel": channel, "done_at": None, "due_at": {"$lte": now}}
    taken = []
    with translated():
        async for found in queue.find(wanted).sort("due_at", 1).limit(TAKEN_MAX):
            mine = {"_id": found["_id"], "due_at": found["due_at"], "done_at": None}
            done = await queue.update_one(mine, {"$set": {"due_at": now + LEASE}})
            if done.modified_count:
                notification = msgspec.convert(found["notification"], Notification)
                taken.append(
                    Due(
                        id=found["_id"],
                        notification=notification,
                        created_at=found["created_at"],
                        tries=found["tries"],
                    )
                )
    return taken


async def note_sent(database: Database, sent: Sequence[Due], now: datetime) -> None:
    """Note that notifications arrived."""
    with translated():
        await database[COLLECTION].update_many({"_id": {"$in": [one.id for one in sent]}}, {"$set": {"done_at": now}})


async def note_failed(database: Database, failed: Sequence[Due], now: datetime, error: str, again_s: float) -> None:
    """Try again later; after a day give up and keep why."""
    for one in failed:
        gives_up = now - one.created_at > GIVE_UP
        change: dict[str, Any] = {
            "due_at": now + timedelta(seconds=again_s),
            "error": error[:ERROR_CHARS_MAX],
            "done_at": now if gives_up else None,
            "given_up": gives_up,
        }
        with translated():
            await database[COLLECTION].update_one({"_id": one.id}, {"$set": change, "$inc": {"tries": 1}})
