"""Who is asking: session and form tokens, and the cookies that carry them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from storage import web_sessions
from storage.api_tokens import find_token
from storage.users import find_user
from storage.web_sessions import WebSession
from web.identity import Identity
from web.keys import DATABASE, SETTINGS
from web.permissions import MAY

SESSION_COOKIE: Final = "ipa_session"
FORM_COOKIE: Final = "ipa_form"
"""A random value for the one form that is sent before there is a session: the login."""

CSRF_HEADER: Final = "X-CSRF-Token"
BEARER: Final = "Bearer "
API_TOKEN_PREFIX: Final = "ipa_"  # noqa: S105  no secret: what secrets begin with
"""What every API token begins with, so that scanners for leaked secrets can find one."""

TOKEN_BYTES: Final = 32
TOKEN_LENGTH_MAX: Final = 100
FORM_S_MAX: Final = 3_600


def csrf_token(cookie: str) -> str:
    """The token that a form must bring along with this cookie; another site knows neither.

    >>> csrf_token("a") == csrf_token("a"), csrf_token("a") == csrf_token("b")
    (True, False)
    """
    return hashlib.sha256(b"ipa form token:" + cookie.encode()).hexdigest()


def csrf_fits(cookie: str | None, token: object) -> bool:
    """Tell whether a form's token belongs to the cookie, in constant time."""
    if not cookie or not isinstance(token, str):
        return False
    return hmac.compare_digest(csrf_token(cookie).encode(), token.encode())


def safe_destination(wanted: object) -> str:
    """Where to go after the login: a path of this site, nothing else.

    >>> safe_destination("/payments?q=1"), safe_destination("//evil.example"), safe_destination("https://evil.example")
    ('/payments?q=1', '/', '/')
    """
    if not isinstance(wanted, str) or not wanted.startswith("/") or len(wanted) > 500:
        return "/"
    if wanted.startswith(("//", "/\\")) or any(ord(character) < 0x20 for character in wanted):
        return "/"
    return wanted


async def session_of(request: web.Request) -> WebSession | None:
    """The login that a request's cookie belongs to."""
    token = request.cookies.get(SESSION_COOKIE, "")
    if not token or len(token) > TOKEN_LENGTH_MAX:
        return None
    return await web_sessions.find_session(request.app[DATABASE], token, datetime.now(UTC))


async def person_of(request: web.Request, session: WebSession) -> Identity | None:
    """Who a login belongs to, with the role of now; None: the name was disabled or is gone."""
    user = await find_user(request.app[DATABASE], session.user)
    if user is None or user.disabled_at is not None:
        return None
    return Identity(name=user.name, role=user.role, permissions=MAY[user.role], via="session")


async def program_of(request: web.Request) -> Identity | None:
    """The program whose token a request carries; None: it carries none, or none that is in force."""
    sent = request.headers.get("Authorization", "")
    secret = sent.removeprefix(BEARER).strip()
    if not sent.startswith(BEARER) or not secret.startswith(API_TOKEN_PREFIX) or len(secret) > TOKEN_LENGTH_MAX:
        return None
    token = await find_token(request.app[DATABASE], secret, datetime.now(UTC))
    if token is None:
        return None
    return Identity(name=f"token:{token.name}", role="token", permissions=frozenset(token.scopes), via="token")


async def open_session(request: web.Request, response: web.StreamResponse, user: str) -> None:
    """Start a login with a new token, whatever token the browser brought."""
    settings = request.app[SETTINGS].web
    token = secrets.token_urlsafe(TOKEN_BYTES)
    now = datetime.now(UTC)
    life = timedelta(hours=settings.session_hours)
    await web_sessions.open_session(request.app[DATABASE], token=token, user=user, now=now, expires_at=now + life)
    _set_cookie(request, response, SESSION_COOKIE, token, int(life.total_seconds()))
    response.del_cookie(FORM_COOKIE, path="/login")


async def end_session(request: web.Request, response: web.StreamResponse) -> None:
    """End a login in the store and in the browser."""
    if token := request.cookies.get(SESSION_COOKIE):
        await web_sessions.end_session(request.app[DATABASE], token)
    response.del_cookie(SESSION_COOKIE, path="/")


def form_value(request: web.Request) -> str:
    """The random value behind the login form: the one the browser has, or a new one."""
    value = request.cookies.get(FORM_COOKIE, "")
    return value if 0 < len(value) <= TOKEN_LENGTH_MAX else secrets.token_urlsafe(TOKEN_BYTES)


def keep_form_value(request: web.Request, response: web.StreamResponse, value: str) -> None:
    """Have the browser keep the value for as long as a form may stay open."""
    secure = request.app[SETTINGS].web.secure_cookies
    response.set_cookie(
        FORM_COOKIE, value, max_age=FORM_S_MAX, path="/login", httponly=True, secure=secure, samesite="Strict"
    )


def _set_cookie(request: web.Request, response: web.StreamResponse, name: str, value: str, max_age: int) -> None:
    secure = request.app[SETTINGS].web.secure_cookies
    response.set_cookie(name, value, max_age=max_age, path="/", httponly=True, secure=secure, samesite="Lax")
