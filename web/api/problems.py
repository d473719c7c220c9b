"""Errors of the REST interface as problem documents (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from aiohttp import web


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong. ``detail`` says what to do about it; ``reference`` names the log line, when there is one."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    reference: str | None = None


def problem(
    request: web.Request, status: int, title: str | None, detail: str, *, reference: str | None = None
) -> web.Response:
    """Make a problem document; what the client sent is never repeated, except the path it asked for.

    Args:
        title: a short name of the problem; None: the one of the HTTP status.
        detail: what to do about it.
        reference: names the log line, when there is one.
    """
    document = ProblemDocument(
        type="about:blank",
        title=title or HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.path,
        reference=reference,
    )
    return web.Response(
        body=msgspec.json.encode(document),
        status=status,
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store"},
    )
