"""What people do about an anomaly: acknowledge it, leave it for later, give it to somebody, write about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from storage.audit import AuditEntry, record_audit
from storage.database import Database
from storage.errors import translated

COLLECTION: Final = "anomaly_notes"
COMMENTS_MAX: Final = 200
"""Comments kept of one anomaly; the oldest are dropped first."""


class Comment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody wrote."""

    at: datetime
    who: str
    text: str


class AnomalyNote(msgspec.Struct, frozen=True, kw_only=True):
    """Where people are with one anomaly. It tells nothing of the anomaly itself, which goes on by its evidence."""

    anomaly_id: str = msgspec.field(name="_id")
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    snoozed_until: datetime | None = None
    assigned_to: str | None = None
    is_false: bool = False
    comments: list[Comment] = []


async def read_notes(database: Database, anomaly_ids: Sequence[str]) -> dict[str, AnomalyNote]:
    """The notes of these anomalies, by id; those that nobody has touched are left out."""
    with translated():
        found = database[COLLECTION].find({"_id": {"$in": list(anomaly_ids)}})
        return {document["_id"]: msgspec.convert(document, AnomalyNote) async for document in found}


async def change_note(
    database: Database, anomaly_id: str, change: dict[str, Any], entry: AuditEntry, *, comment: Comment | None = None
) -> AnomalyNote:
    """Change the note of an anomaly, together with the audit entry.

    Args:
        change: fields to set.
        comment: something to add.
    """
    update: dict[str, Any] = {"$set": change} if change else {}
    if comment is not None:
        added = [msgspec.to_builtins(comment, builtin_types=(datetime,))]
        update["$push"] = {"comments": {"$each": added, "$slice": -COMMENTS_MAX}}
    notes = database[COLLECTION]
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            await notes.update_one({"_id": {"$eq": anomaly_id}}, update, upsert=True, session=session)
            await record_audit(database, entry, session=session)
            document = await notes.find_one({"_id": {"$eq": anomaly_id}}, session=session)
    return msgspec.convert(document, AnomalyNote)
