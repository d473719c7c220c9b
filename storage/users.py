"""The people who may log in. Passwords are kept only as hashes that the caller makes."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec

from storage.database import Database
from storage.errors import StoreConflict, translated

COLLECTION: Final = "users"

NAME_LENGTH_MAX: Final = 80
"""Longer names are nobody's, so they are not even looked up."""


Role = Literal["viewer", "analyst", "operator", "admin"]

LIMIT: Final = 1_000
"""People listed at most."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One person: the name is the id. ``disabled_at``: since then nobody can log in by this name."""

    name: str = msgspec.field(name="_id")
    password_hash: str
    created_at: datetime
    role: Role = "admin"
    disabled_at: datetime | None = None
    last_login_at: datetime | None = None


async def find_user(database: Database, name: str) -> User | None:
    """Look a person up by name; None: there is no such person."""
    if not name or len(name) > NAME_LENGTH_MAX:
        return None
    with translated():
        found = await database[COLLECTION].find_one({"_id": {"$eq": name}})
    return None if found is None else msgspec.convert(found, User)


async def any_user(database: Database) -> bool:
    """Tell whether there is anybody who may log in."""
    with translated():
        return await database[COLLECTION].find_one({}, {"_id": 1}) is not None


async def read_users(database: Database) -> list[User]:
    """Everybody, by name."""
    with translated():
        cursor = database[COLLECTION].find({}).sort("_id", 1).limit(LIMIT)
        return [msgspec.convert(found, User) async for found in cursor]


async def count_admins(database: Database) -> int:
    """How many admins can log in."""
    with translated():
        people = database[COLLECTION]
        return await people.count_documents({"role": {"$in": ["admin", None]}, "disabled_at": None})


async def change_role(database: Database, name: str, role: Role) -> bool:
    """Give a person another role; False: there is no such person."""
    with translated():
        done = await database[COLLECTION].update_one({"_id": {"$eq": name}}, {"$set": {"role": role}})
    return bool(done.matched_count)


async def set_disabled(database: Database, name: str, disabled_at: datetime | None) -> bool:
    """Let nobody log in by this name since a moment, or (None) let the person in again; False: no such person."""
    with translated():
        done = await database[COLLECTION].update_one({"_id": {"$eq": name}}, {"$set": {"disabled_at": disabled_at}})
    return bool(done.matched_count)


async def note_login(database: Database, name: str, now: datetime) -> None:
    """Keep when a person last logged in."""
    with translated():
        await database[COLLECTION].update_one({"_id": {"$eq": name}}, {"$set": {"last_login_at": now}})


async def add_user(database: Database, user: User) -> bool:
    """Store a new person; False: the name is taken, and nothing was changed."""
    try:
        with translated():
            await database[COLLECTION].insert_one(msgspec.to_builtins(user, builtin_types=(datetime,)))
    except StoreConflict:
        return False
    return True


async def replace_password_hash(database: Database, name: str, password_hash: str) -> bool:
    """Keep another hash: of a new password, or of the same one with stronger parameters; False: no such person."""
    with translated():
        done = await database[COLLECTION].update_one({"_id": {"$eq": name}}, {"$set": {"password_hash": password_hash}})
    return bool(done.matched_count)
