"""The audit log: what people and automatic actions did, and why."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from storage.audit import AuditEntry, AuditQuery, read_audit
from web.api.operation import Call, Operation
from web.api.pages import Page, PageParams, decoded, paged

Word = Annotated[str, Meta(min_length=1, max_length=120)]


class AuditParams(PageParams, frozen=True, kw_only=True):
    """Which entries."""

    who: Word | None = None
    what: Word | None = None
    subject: Word | None = None


async def audit(call: Call, params: AuditParams) -> Page[AuditEntry]:
    """The audit log, newest first."""
    query = AuditQuery(who=params.who, what=params.what, subject=params.subject)
    found = await read_audit(call.database, query, limit=params.limit + 1, before=decoded(params.cursor, str))
    return paged(found, params.limit, lambda entry: entry.entry_id)


OPERATIONS = (
    Operation("GET", "/api/v1/audit", audit, params=AuditParams, answer=Page[AuditEntry], permission="audit:read"),
)
