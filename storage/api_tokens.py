"""Tokens of programs that use the REST interface. Only the SHA-256 of a token is stored, and it is shown once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from pymongo import ASCENDING, IndexModel

from storage.database import Database
from storage.errors import StoreConflict, translated
from storage.web_sessions import token_digest

COLLECTION: Final = "api_tokens"
LIMIT: Final = 1_000
"""Tokens listed at most."""

USE_NOTED_EVERY: Final = timedelta(minutes=1)
"""When a token was last used is kept to the minute, so that reading does not mean writing."""

INDEXES: Final = [IndexModel([("name", ASCENDING)], unique=True)]


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """One program's token: its name, what it may, who made it."""

    digest: str = msgspec.field(name="_id")
    name: str
    scopes: list[str]
    made_by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None


async def declare_api_tokens(database: Database) -> None:
    """Create the index; a second time changes nothing."""
    with translated():
        await database[COLLECTION].create_indexes(INDEXES)


async def add_token(database: Database, token: ApiToken) -> bool:
    """Store a token; False: the name is taken, and nothing was changed."""
    try:
        with translated():
            await database[COLLECTION].insert_one(msgspec.to_builtins(token, builtin_types=(datetime,)))
    except StoreConflict:
        return False
    return True


async def find_token(database: Database, secret: str, now: datetime) -> ApiToken | None:
    """The token with this secret; None: unknown, deleted or expired."""
    with translated():
        found = await database[COLLECTION].find_one({"_id": token_digest(secret), "expires_at": {"$gt": now}})
    if found is None:
        return None
    token = msgspec.convert(found, ApiToken)
    if token.last_used_at is None or now - token.last_used_at >= USE_NOTED_EVERY:
        with translated():
            await database[COLLECTION].update_one({"_id": token.digest}, {"$set": {"last_used_at": now}})
    return token


async def read_tokens(database: Database) -> list[ApiToken]:
    """All tokens, by name."""
    with translated():
        cursor = database[COLLECTION].find({}).sort("name", 1).limit(LIMIT)
        return [msgspec.convert(found, ApiToken) async for found in cursor]


async def delete_token(database: Database, name: str) -> bool:
    """Delete a token; False: there is none of this name."""
    with translated():
        return bool((await database[COLLECTION].delete_one({"name": {"$eq": name}})).deleted_count)
