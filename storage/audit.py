"""The audit log: who did what, when and why, people and automatic actions alike. Entries are added, never changed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from pymongo.asynchronous.client_session import AsyncClientSession

from storage.database import Database, Document
from storage.errors import translated

COLLECTION: Final = "audit"
REASON_CHARS_MAX: Final = 500
DETAILS_MAX: Final = 20
PAGE_MAX: Final = 200

Detail = str | int | float | bool | None


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One action.

    ``who``: a person's name, ``token:NAME`` or the name of a worker. ``automatic``: no person asked for it.
    ``what``: the action, a noun and a past participle, as ``gateway.paused``. ``subject``: what it was done to, kind
    and name, as ``gateway:alpha``. ``details``: a few values that tell the rest; never a secret, never card data.
    """

    entry_id: str = msgspec.field(name="_id")
    at: datetime
    who: str
    what: str
    subject: str
    reason: str = ""
    automatic: bool = False
    details: dict[str, Detail] = {}


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries to read; None: any."""

    who: str | None = None
    what: str | None = None
    subject: str | None = None


def audit_entry(  # the six things an entry tells, and its details
    now: datetime,
    *,
    who: str,
    what: str,
    subject: str,
    reason: str = "",
    automatic: bool = False,
    details: Mapping[str, Detail] | None = None,
) -> AuditEntry:
    """Make an entry with an id that sorts by time."""
    told = dict(details or {})
    assert len(told) <= DETAILS_MAX, "an entry tells a few things"
    return AuditEntry(
        entry_id=f"aud_{int(now.timestamp() * 1000):012x}{secrets.token_hex(4)}",
        at=now,
        who=who,
        what=what,
        subject=subject,
        reason=reason[:REASON_CHARS_MAX],
        automatic=automatic,
        details=told,
    )


async def record_audit(database: Database, entry: AuditEntry, *, session: AsyncClientSession | None = None) -> None:
    """Add an entry; with a ``session`` inside the caller's transaction: action and entry stand or fall together."""
    document = msgspec.to_builtins(entry, builtin_types=(datetime,))
    with translated():
        await database[COLLECTION].insert_one(document, session=session)


async def read_audit(
    database: Database, query: AuditQuery, *, limit: int = 50, before: str | None = None
) -> list[AuditEntry]:
    """Read entries, newest first.

    Args:
        limit: most entries, 1 to ``PAGE_MAX``.
        before: only entries that are older than the one with this id.
    """
    wanted: Document = {name: {"$eq": value} for name, value in msgspec.structs.asdict(query).items() if value}
    if before is not None:
        wanted["_id"] = {"$lt": before}
    with translated():
        cursor = database[COLLECTION].find(wanted).sort("_id", -1).limit(min(limit, PAGE_MAX))
        return [_entry(document) async for document in cursor]


def _entry(document: dict[str, Any]) -> AuditEntry:
    return msgspec.convert(document, AuditEntry)
