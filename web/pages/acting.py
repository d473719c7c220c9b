"""Forms of the pages: a form names an operation of the REST interface, which checks and does the rest.

One way in for every action: what a button can do, a program can do, under the same rights, checks and audit. A form
posts to ``/act/NAME`` with the fields of the operation's path and body, ``csrf``, and ``next``, the page to go back to.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import msgspec
from aiohttp import web

from web.api.operation import Call, Operation, Problem
from web.api.topics import OPERATIONS
from web.auth import SESSION_COOKIE, csrf_fits, safe_destination
from web.keys import IDENTITY
from web.rendering import page

BY_NAME: Final[dict[str, Operation]] = {row.name: row for row in OPERATIONS if row.writes}
OWN_FIELDS: Final = frozenset({"csrf", "next", "done"})
DONE_CHARS_MAX: Final = 120


async def act(request: web.Request) -> web.StreamResponse:
    """Carry out what a form asks for, and go back to its page."""
    form = await request.post()
    if not csrf_fits(request.cookies.get(SESSION_COOKIE), form.get("csrf")):
        raise web.HTTPForbidden
    operation = BY_NAME.get(request.match_info["name"])
    if operation is None:
        raise web.HTTPNotFound
    if operation.permission not in request[IDENTITY].permissions:
        raise web.HTTPForbidden
    back = safe_destination(form.get("next"))
    try:
        value = await operation.handler(*_arguments(request, operation, form))
    except Problem as refused:
        context = {"title": refused.title, "detail": refused.detail, "back": back, "status": refused.status}
        return page(request, "refused.html", context, status=refused.status)
    if operation.answer is not None and hasattr(value, "secret"):
        return page(request, "secret.html", {"made": value, "back": back})
    done = form.get("done")
    said = quote(done[:DONE_CHARS_MAX], safe="") if isinstance(done, str) and done else "Done"
    path, mark, fragment = back.partition("#")
    raise web.HTTPSeeOther(f"{path}{'&' if '?' in path else '?'}done={said}{mark}{fragment}")


def _arguments(request: web.Request, operation: Operation, form: Mapping[str, Any]) -> list[Any]:
    """The call, the parameters and the body, from the fields of a form; empty fields are left out."""
    lists = {"scopes", "order"}
    given = {
        name: [one for one in form.getall(name) if one != ""] if name in lists else form[name]  # type: ignore[attr-defined]
        for name in form
        if name not in OWN_FIELDS and form[name] != ""
    }
    in_path = {name: value for name, value in given.items() if f"{{{name}}}" in operation.path}
    rest = {name: _with_offset(value) for name, value in given.items() if name not in in_path}
    arguments: list[Any] = [Call(request)]
    try:
        if operation.params is not None:
            arguments.append(msgspec.convert(in_path, operation.params, strict=False))
        if operation.body is not None:
            arguments.append(msgspec.convert(rest, operation.body, strict=False))
    except msgspec.ValidationError as error:
        raise Problem(422, "Something does not fit", f"{error}."[:300]) from None
    return arguments


def _with_offset(value: Any) -> Any:
    """A time as browsers send it from a form has no offset; every time on the pages is UTC.

    >>> _with_offset("2026-01-01T10:00"), _with_offset("a reason")
    ('2026-01-01T10:00+00:00', 'a reason')
    """
    if isinstance(value, str) and len(value) in (16, 19) and value[10:11] == "T":
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return value
        return value if moment.tzinfo else f"{value}+00:00"
    return value
