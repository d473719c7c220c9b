"""People, their roles, and tokens of programs."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from storage.api_tokens import read_tokens
from storage.users import Role, find_user, read_users
from web.api.operation import Body, Call, Operation, Params, Problem
from web.auth import SESSION_COOKIE
from web.keys import EXECUTOR
from web.passwords import PASSWORD_LENGTH_MAX, hash_password, password_fits
from web.people import PASSWORD_LENGTH_MIN, TOKEN_DAYS_MAX, PeopleRefused, Person, checked_password
from web.permissions import Permission

T = TypeVar("T")

Name = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[A-Za-z][A-Za-z0-9_.@-]*$")]
Reason = Annotated[str, Meta(max_length=500)]
Password = Annotated[str, Meta(min_length=PASSWORD_LENGTH_MIN, max_length=PASSWORD_LENGTH_MAX)]
KnownPassword = Annotated[str, Meta(min_length=1, max_length=PASSWORD_LENGTH_MAX)]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One person who may log in."""

    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None
    last_login_at: datetime | None


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and what the caller may."""

    name: str
    role: str
    permissions: list[str]


class TokenShown(msgspec.Struct, frozen=True, kw_only=True):
    """One program's token, without its secret."""

    name: str
    scopes: list[str]
    made_by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


class TokenMade(msgspec.Struct, frozen=True, kw_only=True):
    """A new token. The secret is shown this once."""

    name: str
    secret: str


class NameParams(Params, frozen=True, kw_only=True):
    """Who."""

    name: Name


class NewPerson(Body, frozen=True, kw_only=True):
    """A person to let in."""

    name: Name
    role: Role
    password: Password


class NewRole(Body, frozen=True, kw_only=True):
    """Another role."""

    role: Role
    reason: Reason = ""


class Why(Body, frozen=True, kw_only=True):
    """Why."""

    reason: Reason = ""


class NewPassword(Body, frozen=True, kw_only=True):
    """A new password for somebody."""

    password: Password


class OwnPassword(Body, frozen=True, kw_only=True):
    """A new password of one's own."""

    password_now: KnownPassword
    password: Password


class NewToken(Body, frozen=True, kw_only=True):
    """A token to make."""

    name: Name
    scopes: Annotated[list[Permission], Meta(min_length=1, max_length=20)]
    days: Annotated[int, Meta(ge=1, le=TOKEN_DAYS_MAX)] = 90


async def me(call: Call) -> Me:
    """Who asks, and what the caller may."""
    identity = call.identity
    return Me(name=identity.name, role=identity.role, permissions=sorted(identity.permissions))


async def people(call: Call) -> list[Account]:
    """Everybody who may or might log in."""
    return [
        Account(
            name=user.name,
            role=user.role,
            created_at=user.created_at,
            disabled_at=user.disabled_at,
            last_login_at=user.last_login_at,
        )
        for user in await read_users(call.database)
    ]


async def add(call: Call, body: NewPerson) -> Account:
    """Let a new person in."""
    password_hash = await _hashed(call, body.password)
    user = await _allowed(_by(call).add(body.name, body.role, password_hash))
    return Account(name=user.name, role=user.role, created_at=user.created_at, disabled_at=None, last_login_at=None)


async def give_role(call: Call, params: NameParams, body: NewRole) -> None:
    """Give a person another role; it counts from the next request on."""
    await _allowed(_by(call).give_role(params.name, body.role, body.reason))


async def disable(call: Call, params: NameParams, body: Why) -> None:
    """Let nobody in by this name, and end its logins at once."""
    await _allowed(_by(call).disable(params.name, body.reason))


async def enable(call: Call, params: NameParams, body: Why) -> None:
    """Let a disabled person in again."""
    await _allowed(_by(call).enable(params.name, body.reason))


async def set_password(call: Call, params: NameParams, body: NewPassword) -> None:
    """Give a person a new password, and end the logins made with the old one."""
    await _allowed(_by(call).set_password(params.name, await _hashed(call, body.password)))


async def set_own_password(call: Call, body: OwnPassword) -> None:
    """Change one's own password; one's other logins end."""
    user = await find_user(call.database, call.identity.name) if call.identity.via == "session" else None
    fits = user is not None and await password_fits(call.app[EXECUTOR], user.password_hash, body.password_now)
    if user is None or not fits:
        raise Problem(403, "Wrong password", "The password of now does not fit.")
    kept = call.request.cookies.get(SESSION_COOKIE)
    await _allowed(_by(call).set_password(user.name, await _hashed(call, body.password), but=kept))


async def tokens(call: Call) -> list[TokenShown]:
    """The tokens of programs, without their secrets."""
    return [
        TokenShown(
            name=token.name,
            scopes=token.scopes,
            made_by=token.made_by,
            created_at=token.created_at,
            expires_at=token.expires_at,
            last_used_at=token.last_used_at,
        )
        for token in await read_tokens(call.database)
    ]


async def add_token(call: Call, body: NewToken) -> TokenMade:
    """Make a token for a program; its secret is in the answer, and nowhere else."""
    secret = await _allowed(_by(call).add_token(body.name, list(body.scopes), body.days))
    return TokenMade(name=body.name, secret=secret)


async def delete_token(call: Call, params: NameParams) -> None:
    """Take a program's token away."""
    await _allowed(_by(call).delete_token(params.name))


def _by(call: Call) -> Person:
    return Person(call.database, by=call.identity.name, now=datetime.now(UTC))


async def _hashed(call: Call, password: str) -> str:
    try:
        return await hash_password(call.app[EXECUTOR], checked_password(password))
    except PeopleRefused as refused:
        raise Problem(422, "Password too short", str(refused)) from None


async def _allowed(doing: Awaitable[T]) -> T:
    try:
        return await doing
    except PeopleRefused as refused:
        raise Problem(409, "Not possible", str(refused)) from None


# fmt: off
OPERATIONS = (
    Operation("GET",    "/api/v1/me",                     me, answer=Me),
    Operation("POST",   "/api/v1/me/password",            set_own_password, body=OwnPassword),
    Operation("GET",    "/api/v1/users",                  people, answer=list[Account], permission="users:write"),
    Operation("POST",   "/api/v1/users",                  add, body=NewPerson, answer=Account, status=201,
              permission="users:write"),
    Operation("POST",   "/api/v1/users/{name}/role",      give_role, NameParams, NewRole, permission="users:write"),
    Operation("POST",   "/api/v1/users/{name}/disable",   disable, NameParams, Why, permission="users:write"),
    Operation("POST",   "/api/v1/users/{name}/enable",    enable, NameParams, Why, permission="users:write"),
    Operation("POST",   "/api/v1/users/{name}/password",  set_password, NameParams, NewPassword,
              permission="users:write"),
    Operation("GET",    "/api/v1/tokens",                 tokens, answer=list[TokenShown], permission="users:write"),
    Operation("POST",   "/api/v1/tokens",                 add_token, body=NewToken, answer=TokenMade, status=201,
              permission="users:write"),
    Operation("DELETE", "/api/v1/tokens/{name}",          delete_token, NameParams, permission="users:write"),
)
# fmt: on
