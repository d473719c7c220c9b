"""People and tokens, the audit log, and one's own account."""

from __future__ import annotations

from aiohttp import web

from storage.api_tokens import read_tokens
from storage.audit import AuditQuery, read_audit
from storage.users import read_users
from web.api.operation import Problem
from web.api.pages import decoded, paged
from web.keys import DATABASE, IDENTITY
from web.permissions import PERMISSIONS, ROLE_IN_WORDS, Permission
from web.rendering import page

ENTRIES = 50


def only_for(request: web.Request, permission: Permission) -> None:
    """Refuse whoever may not see a page.

    Raises: HTTPForbidden.
    """
    if not request[IDENTITY].may(permission):
        raise web.HTTPForbidden


async def people(request: web.Request) -> web.Response:
    """Who may log in, and which programs have a token."""
    only_for(request, "users:write")
    database = request.app[DATABASE]
    context = {
        "people": await read_users(database),
        "tokens": await read_tokens(database),
        "roles": ROLE_IN_WORDS,
        "scopes": PERMISSIONS,
    }
    return page(request, "people.html", context)


async def account(request: web.Request) -> web.Response:
    """One's own role and password."""
    identity = request[IDENTITY]
    return page(request, "account.html", {"identity": identity, "roles": ROLE_IN_WORDS})


async def audit(request: web.Request) -> web.Response:
    """What people and automatic actions did."""
    only_for(request, "audit:read")
    asked = {name: request.query.get(name, "").strip()[:120] or None for name in ("who", "what", "subject")}
    try:
        before = decoded(request.query.get("cursor") or None, str)
    except Problem:
        raise web.HTTPBadRequest from None
    found = await read_audit(request.app[DATABASE], AuditQuery(**asked), limit=ENTRIES + 1, before=before)
    shown = paged(found, ENTRIES, lambda entry: entry.entry_id)
    context = {"entries": {"shown": shown.items, "next": shown.next_cursor}, "asked": asked}
    return page(request, "audit.html", context)
