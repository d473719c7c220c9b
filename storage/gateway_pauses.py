"""Pauses of gateways and planned maintenance windows, as operators set them."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from messaging.contracts import GatewayPause, GatewayResumed
from storage.audit import AuditEntry, record_audit
from storage.database import Database, Document
from storage.errors import translated

COLLECTION: Final = "gateway_pauses"
LIMIT: Final = 1_000
"""Pauses read at most; as many as a router heeds."""


async def record_pause(database: Database, pause: GatewayPause, entry: AuditEntry) -> None:
    """Write a pause over its earlier version, together with its audit entry."""
    document = _document(pause)
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            await database[COLLECTION].replace_one({"_id": pause.pause_id}, document, upsert=True, session=session)
            await record_audit(database, entry, session=session)


async def record_resumption(database: Database, resumed: GatewayResumed, entry: AuditEntry) -> bool:
    """Note that a pause was taken back, together with the audit entry; False: it was over already, nothing changes."""
    open_pause = {"_id": {"$eq": resumed.pause_id}, "resumed_at": None}
    change = {"$set": {"resumed_at": resumed.resumed_at, "resumed_by": resumed.who, "resumed_reason": resumed.reason}}
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            done = await database[COLLECTION].update_one(open_pause, change, session=session)
            if done.modified_count:
                await record_audit(database, entry, session=session)
            return bool(done.modified_count)


async def pauses_not_over(database: Database, now: datetime) -> list[GatewayPause]:
    """Read the pauses that hold now or later, in the order of their start."""
    not_over = {"resumed_at": None, "$or": [{"ends_at": None}, {"ends_at": {"$gt": now}}]}
    with translated():
        cursor = database[COLLECTION].find(not_over).sort("starts_at", 1).limit(LIMIT)
        return [_pause(document) async for document in cursor]


async def find_pause(database: Database, pause_id: str) -> GatewayPause | None:
    """Read one pause, whether it is over or not."""
    with translated():
        document = await database[COLLECTION].find_one({"_id": {"$eq": pause_id}})
    return None if document is None else _pause(document)


def _document(pause: GatewayPause) -> Document:
    document: Document = msgspec.structs.asdict(pause)
    document["_id"] = document.pop("pause_id")
    document["resumed_at"] = None
    return document


def _pause(document: Document) -> GatewayPause:
    return msgspec.convert({**document, "pause_id": document["_id"]}, GatewayPause)
