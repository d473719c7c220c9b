"""Who is logged in. Only the SHA-256 of a session token is stored, so reading this collection lets nobody in."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

import msgspec
from pymongo import ASCENDING, IndexModel

from storage.database import Database
from storage.errors import translated

COLLECTION: Final = "web_sessions"

SESSIONS_PER_USER_MAX: Final = 50
"""Older logins of the same person end when this many newer ones exist."""

INDEXES: Final = [
    IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0),
    IndexModel([("user", ASCENDING), ("created_at", ASCENDING)]),
]


class WebSession(msgspec.Struct, frozen=True, kw_only=True):
    """One login: whose, since when, until when."""

    digest: str = msgspec.field(name="_id")
    user: str
    created_at: datetime
    expires_at: datetime


def token_digest(token: str) -> str:
    """The SHA-256 of a token, hexadecimal; what is stored instead of the token."""
    return hashlib.sha256(token.encode()).hexdigest()


async def declare_web_sessions(database: Database) -> None:
    """Create the indexes; a second time changes nothing."""
    with translated():
        await database[COLLECTION].create_indexes(INDEXES)


async def open_session(database: Database, *, token: str, user: str, now: datetime, expires_at: datetime) -> None:
    """Store a login, and end the oldest ones of that person beyond the bound."""
    session = WebSession(digest=token_digest(token), user=user, created_at=now, expires_at=expires_at)
    sessions = database[COLLECTION]
    with translated():
        await sessions.insert_one(msgspec.to_builtins(session, builtin_types=(datetime,)))
        older = sessions.find({"user": {"$eq": user}}, {"_id": 1}).sort("created_at", -1).skip(SESSIONS_PER_USER_MAX)
        digests = [found["_id"] async for found in older]
        if digests:
            await sessions.delete_many({"_id": {"$in": digests}})


async def find_session(database: Database, token: str, now: datetime) -> WebSession | None:
    """The login that a token belongs to; None: unknown, ended or expired."""
    with translated():
        found = await database[COLLECTION].find_one({"_id": token_digest(token), "expires_at": {"$gt": now}})
    return None if found is None else msgspec.convert(found, WebSession)


async def end_session(database: Database, token: str) -> None:
    """Forget a login; an unknown token is none already."""
    with translated():
        await database[COLLECTION].delete_one({"_id": token_digest(token)})


async def end_sessions_of(database: Database, user: str, *, but: str | None = None) -> int:
    """Forget every login of a person; ``but``: the token of the one that stays. Returns: how many ended."""
    ended: dict[str, object] = {"user": {"$eq": user}}
    if but is not None:
        ended["_id"] = {"$ne": token_digest(but)}
    with translated():
        return (await database[COLLECTION].delete_many(ended)).deleted_count
