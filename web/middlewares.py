"""What surrounds every request: security headers, errors as pages or problem documents, and the login."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote

import structlog
from aiohttp import web

from storage.errors import StoreUnavailable, TooManyAttempts
from web.api.problems import problem
from web.auth import BEARER, person_of, program_of, session_of
from web.keys import IDENTITY, SESSION
from web.metrics import from_this_machine
from web.rendering import page
from web.routes import FREE_RESOURCES, LIVE_RESOURCE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_S_MAX: Final = 15.0
"""A page that takes longer is given up; the charts' streams are exempt."""

LONG: Final = frozenset({"/policies", "/api/v1/policy-evaluation", "/api/v1/routing/regret"})
"""Addresses that compute, in a process of their own and one at a time; they are given longer."""

LONG_S_MAX: Final = 90.0

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",  # the live charts, which have a policy of their own in web/live_proxy.py
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'self'",
    )
)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
}

METRICS: Final = "/metrics"
"""Open to this machine itself, where a Prometheus agent runs; from elsewhere with a login or a token."""

FOR_PROGRAMS: Final = frozenset({"/api", "/openapi.json", "/metrics", "/livez", "/readyz"})

SAID: Final = {
    400: ("That request cannot be read", "Something in the address or the form does not fit. Go back and try again."),
    403: (
        "Not allowed",
        "Your role does not include this, or the form was too old. Load the page again and repeat it, or ask an admin.",
    ),
    404: ("Nothing here", "There is no such page. The address may be misspelt, or the thing it named is gone."),
    405: ("Not that way", "This address exists, but does not take that kind of request."),
    413: ("Too large", "The request is larger than 64 kB, which no form here needs."),
    429: ("Too many tries", "Wait a minute, then try again."),
    500: (
        "Something broke here",
        "It was logged. Try again; if it stays, give the reference below to whoever runs this.",
    ),
    503: ("The store does not answer", "MongoDB cannot be reached right now. This page tries again by itself."),
    504: ("That took too long", "The answer did not come in time. Try again in a moment."),
}

log = structlog.get_logger("web")


async def secured(request: web.Request, response: web.StreamResponse) -> None:
    """Put the security headers on every answer that has none of its own; a signal, so that redirects get them too."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "ipa"


@web.middleware
async def explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a page for people, or a problem document for programs."""
    try:
        if _is_live(request):
            return await handler(request)
        async with asyncio.timeout(LONG_S_MAX if request.path in LONG else REQUEST_S_MAX):
            return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        kept = {name: error.headers[name] for name in ("Allow", "Retry-After") if name in error.headers}
        return _explain(request, error.status, kept)
    except TooManyAttempts as error:
        return _explain(request, 400, {}, detail=str(error))
    except StoreUnavailable as error:
        log.warning("store unavailable", path=request.path, error=str(error))
        return _explain(request, 503, {"Retry-After": "5"})
    except TimeoutError:
        log.warning("request timed out", path=request.path)
        return _explain(request, 504, {"Retry-After": "5"})
    except Exception:  # the one place where a request may fail for an unknown reason
        reference = secrets.token_hex(4)
        log.exception("request failed", path=request.path, reference=reference)
        return _explain(request, 500, {}, reference=reference)


@web.middleware
async def logged_in(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let strangers see the login and nothing else."""
    resource = request.match_info.route.resource
    if resource is not None and resource.canonical in FREE_RESOURCES:
        return await handler(request)
    if request.path == METRICS and from_this_machine(request):
        return await handler(request)
    if request.headers.get("Authorization", "").startswith(BEARER):
        program = await program_of(request)
        if program is None:
            return problem(request, 401, "Unknown token", "The token is wrong, deleted or expired; make a new one.")
        if not _for_programs(request):
            return problem(request, 403, "Not for programs", "Tokens open /api/ and /metrics; pages need a login.")
        request[IDENTITY] = program
        return await handler(request)
    session = await session_of(request)
    person = None if session is None else await person_of(request, session)
    if session is None or person is None:
        if _for_programs(request) or _is_live(request):
            return problem(request, 401, "Log in first", "Send the session cookie that /login gives, or a token.")
        wanted = quote(request.path_qs, safe="") if request.method == "GET" and request.path != "/" else ""
        raise web.HTTPSeeOther(f"/login?next={wanted}" if wanted else "/login")
    request[SESSION], request[IDENTITY] = session, person
    return await handler(request)


def _is_live(request: web.Request) -> bool:
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical == LIVE_RESOURCE


def _for_programs(request: web.Request) -> bool:
    """Tell whether the answer is read by a program: the REST interface, or whoever asks for JSON before HTML."""
    if request.path.startswith("/api/") or request.path in FOR_PROGRAMS:
        return True
    accepted = request.headers.get("Accept", "")
    return "json" in accepted and "text/html" not in accepted


def _explain(
    request: web.Request, status: int, headers: dict[str, str], *, detail: str = "", reference: str | None = None
) -> web.Response:
    fallback = SAID[404] if status < 500 else SAID[500]
    title, said = SAID.get(status, fallback)
    detail = detail or said
    if _for_programs(request):
        response = problem(request, status, title, detail, reference=reference)
    else:
        context = {"status": status, "title": title, "detail": detail, "reference": reference}
        response = page(request, "error.html", context, status=status)
    response.headers.update(headers)
    return response
