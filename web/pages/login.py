"""Login and logout."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

import structlog
from aiohttp import web

from storage.users import find_user, note_login, replace_password_hash
from web.auth import (
    FORM_COOKIE,
    SESSION_COOKIE,
    csrf_fits,
    csrf_token,
    end_session,
    form_value,
    keep_form_value,
    open_session,
    person_of,
    safe_destination,
    session_of,
)
from web.keys import DATABASE, EXECUTOR, LIMITER
from web.passwords import hash_password, needs_new_hash, password_fits
from web.rendering import page

REFUSED: Final = "Name or password is wrong."
STALE: Final = "This form was too old. Please try again."

log = structlog.get_logger("web.login")


async def login_form(request: web.Request) -> web.StreamResponse:
    """Ask for name and password; whoever is logged in goes on."""
    destination = safe_destination(request.query.get("next"))
    session = await session_of(request)
    if session is not None and await person_of(request, session) is not None:
        raise web.HTTPSeeOther(destination)
    return _form(request, destination)


async def login(request: web.Request) -> web.StreamResponse:
    """Check name and password."""
    form = await request.post()
    destination = safe_destination(form.get("next"))
    name, password = form.get("name"), form.get("password")
    if not csrf_fits(request.cookies.get(FORM_COOKIE), form.get("csrf")):
        return _form(request, destination, problem=STALE, status=403)
    if not isinstance(name, str) or not isinstance(password, str):
        raise web.HTTPBadRequest
    key = (name[:80], request.remote)
    limiter = request.app[LIMITER]
    if wait_s := limiter.wait_s(key, time.monotonic()):
        problem = f"Too many tries. Wait {wait_s} s, then try again."
        response = _form(request, destination, name=name, problem=problem, status=429)
        response.headers["Retry-After"] = str(wait_s)
        return response
    limiter.failed(key, time.monotonic())  # counted before the slow check, so that tries in parallel count as well
    database, executor = request.app[DATABASE], request.app[EXECUTOR]
    user = await find_user(database, name)
    if user is not None and user.disabled_at is not None:
        user = None
    if not await password_fits(executor, None if user is None else user.password_hash, password) or user is None:
        log.info("login refused", address=request.remote)
        return _form(request, destination, name=name, problem=REFUSED, status=401)
    limiter.succeeded(key)
    if needs_new_hash(user.password_hash):
        await replace_password_hash(database, user.name, await hash_password(executor, password))
    response = web.HTTPSeeOther(destination)
    await open_session(request, response, user.name)
    await note_login(database, user.name, datetime.now(UTC))
    log.info("logged in", user=user.name, address=request.remote)
    raise response


async def logout(request: web.Request) -> web.StreamResponse:
    """End the login."""
    form = await request.post()
    if not csrf_fits(request.cookies.get(SESSION_COOKIE), form.get("csrf")):
        raise web.HTTPForbidden
    response = web.HTTPSeeOther("/login")
    await end_session(request, response)
    raise response


def _form(
    request: web.Request, destination: str, *, name: str = "", problem: str | None = None, status: int = 200
) -> web.Response:
    value = form_value(request)
    context = {"destination": destination, "name": name[:80], "problem": problem, "csrf": csrf_token(value)}
    response = page(request, "login.html", context, status=status)
    keep_form_value(request, response, value)
    return response
