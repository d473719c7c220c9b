"""Answers to writes by the caller's ``Idempotency-Key``, so that a write that is sent again is carried out once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from pymongo import ASCENDING, IndexModel

from storage.database import Database
from storage.errors import StoreConflict, translated

COLLECTION: Final = "idempotency"
KEEP_S: Final = 86_400
UNDER_WAY_S_MAX: Final = 60
"""A write that has no answer after so long was cut off; the next one with its key carries it out."""

INDEXES: Final = [IndexModel([("at", ASCENDING)], expireAfterSeconds=KEEP_S)]


class Begun(msgspec.Struct, frozen=True):
    """The key is new: carry the write out, then ``keep`` its answer or ``forget`` the key."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The key came before. ``asked``: digest of the request; ``status`` None: the write is under way."""

    asked: str
    status: int | None
    body: bytes


async def declare_idempotency(database: Database) -> None:
    """Create the index; a second time changes nothing."""
    with translated():
        await database[COLLECTION].create_indexes(INDEXES)


async def begin(database: Database, key: str, asked: str, now: datetime) -> Begun | Known:
    """Take a key for a write."""
    keys = database[COLLECTION]
    cut_off = {"_id": {"$eq": key}, "status": None, "at": {"$lt": now - timedelta(seconds=UNDER_WAY_S_MAX)}}
    document = {"_id": key, "asked": asked, "status": None, "body": b"", "at": now}
    with translated():
        await keys.delete_one(cut_off)
    try:
        with translated():
            await keys.insert_one(document)
    except StoreConflict:
        with translated():
            found = await keys.find_one({"_id": {"$eq": key}})
        if found is None:  # it was forgotten this very moment
            return Known(asked=asked, status=None, body=b"")
        return Known(asked=found["asked"], status=found["status"], body=bytes(found["body"]))
    return Begun()


async def keep(database: Database, key: str, status: int, body: bytes) -> None:
    """Keep the answer to a write that was carried out."""
    with translated():
        await database[COLLECTION].update_one({"_id": {"$eq": key}}, {"$set": {"status": status, "body": body}})


async def forget(database: Database, key: str) -> None:
    """Let a write that failed be tried again under its key."""
    with translated():
        await database[COLLECTION].delete_one({"_id": {"$eq": key}})
