"""Overrides of the routing, as operators set them: a fixed order that stands above every policy."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from messaging.contracts import RoutingOverride, RoutingReleased
from storage.audit import AuditEntry, record_audit
from storage.database import Database, Document
from storage.errors import translated

COLLECTION: Final = "routing_overrides"


async def record_override(database: Database, override: RoutingOverride, entry: AuditEntry) -> None:
    """Write an override, together with its audit entry; it takes the place of one that still holds."""
    document: Document = msgspec.structs.asdict(override)
    document["_id"] = document.pop("override_id")
    document["released_at"] = None
    replaced = {"$set": {"released_at": override.starts_at, "released_by": override.who, "released_reason": "replaced"}}
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            await database[COLLECTION].update_many({"released_at": None}, replaced, session=session)
            await database[COLLECTION].insert_one(document, session=session)
            await record_audit(database, entry, session=session)


async def record_release(database: Database, released: RoutingReleased, entry: AuditEntry) -> bool:
    """Note that overrides were taken back, together with the audit entry; False: none held, nothing changes.

    All that hold are: two operators may have overridden the routing at the same moment.
    """
    held = {"released_at": None}
    change = {
        "$set": {
            "released_at": released.released_at,
            "released_by": released.who,
            "released_reason": released.reason,
        }
    }
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            done = await database[COLLECTION].update_many(held, change, session=session)
            if done.modified_count:
                await record_audit(database, entry, session=session)
            return bool(done.modified_count)


async def last_release(database: Database) -> RoutingReleased | None:
    """Read the last override that was taken back, to tell the routers again; None: there never was one."""
    over = {"released_at": {"$ne": None}}
    with translated():
        found = await database[COLLECTION].find_one(over, sort=[("released_at", -1)])
    if found is None:
        return None
    return RoutingReleased(
        override_id=found["_id"],
        released_at=found["released_at"],
        who=found["released_by"],
        reason=found["released_reason"],
    )


async def override_in_force(database: Database, now: datetime) -> RoutingOverride | None:
    """Read the override that holds; None: none does."""
    held = {"released_at": None, "$or": [{"ends_at": None}, {"ends_at": {"$gt": now}}]}
    with translated():
        document = await database[COLLECTION].find_one(held, sort=[("starts_at", -1)])
    return None if document is None else msgspec.convert({**document, "override_id": document["_id"]}, RoutingOverride)
