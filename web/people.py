"""People and programs that may come in: the rules for names, passwords, roles and tokens, each change audited."""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timedelta
from typing import Final

from storage import users
from storage.api_tokens import ApiToken, add_token, delete_token
from storage.audit import audit_entry, record_audit
from storage.database import Database
from storage.users import Role, User, add_user, count_admins, find_user, replace_password_hash
from storage.web_sessions import end_sessions_of, token_digest
from web.auth import API_TOKEN_PREFIX, TOKEN_BYTES
from web.passwords import PASSWORD_LENGTH_MAX

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,59}")
PASSWORD_LENGTH_MIN: Final = 12
"""NIST SP 800-63B asks for 8 at least and no rules about characters; length is what counts."""

TOKEN_DAYS_MAX: Final = 366


class PeopleRefused(Exception):
    """A change that the rules do not allow; the text says why and what to do."""


class Person:
    """Carries changes out for somebody.

    Args:
        database: the store.
        by: who asks for it, for the audit log.
        now: the present.
    """

    def __init__(self, database: Database, *, by: str, now: datetime) -> None:
        self._database, self._by, self._now = database, by, now

    async def add(self, name: str, role: Role, password_hash: str) -> User:
        """Let a new person in.

        Raises: PeopleRefused: the name does not fit or is taken.
        """
        if not NAME.fullmatch(name):
            raise PeopleRefused("A name begins with a letter and has up to 60 letters, digits and _ . @ -")
        user = User(name=name, password_hash=password_hash, created_at=self._now, role=role)
        if not await add_user(self._database, user):
            raise PeopleRefused("The name is taken. Names are never given to somebody else, disabled ones neither.")
        await self._note("user.added", name, role=role)
        return user

    async def give_role(self, name: str, role: Role, reason: str = "") -> None:
        """Give a person another role; it counts from the next request on.

        Raises: PeopleRefused: no such person, or nobody would be admin any more.
        """
        user = await self._known(name)
        if role != "admin":
            await self._keep_an_admin(user)
        await users.change_role(self._database, name, role)
        await self._note("user.role_changed", name, reason, role_before=user.role, role=role)

    async def disable(self, name: str, reason: str = "") -> None:
        """Let nobody in by this name, and end its logins.

        Raises: PeopleRefused: no such person, or nobody would be admin any more.
        """
        await self._keep_an_admin(await self._known(name))
        await users.set_disabled(self._database, name, self._now)
        ended = await end_sessions_of(self._database, name)
        await self._note("user.disabled", name, reason, sessions_ended=ended)

    async def enable(self, name: str, reason: str = "") -> None:
        """Let a disabled person in again.

        Raises: PeopleRefused: no such person.
        """
        await self._known(name)
        await users.set_disabled(self._database, name, None)
        await self._note("user.enabled", name, reason)

    async def set_password(self, name: str, password_hash: str, *, but: str | None = None) -> None:
        """Give a person a new password, and end the logins made with the old one.

        Args:
            but: the token of the one login that goes on: the one that asks for the change.
        Raises: PeopleRefused: no such person.
        """
        if not await replace_password_hash(self._database, name, password_hash):
            raise PeopleRefused("There is no such person.")
        ended = await end_sessions_of(self._database, name, but=but)
        await self._note("user.password_changed", name, sessions_ended=ended)

    async def add_token(self, name: str, scopes: list[str], days: int) -> str:
        """Make a token for a program.

        Returns: the secret; it is stored nowhere and cannot be shown again.
        Raises: PeopleRefused: the name does not fit or is taken.
        """
        if not NAME.fullmatch(name):
            raise PeopleRefused("A name begins with a letter and has up to 60 letters, digits and _ . @ -")
        secret = API_TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        token = ApiToken(
            digest=token_digest(secret),
            name=name,
            scopes=sorted(set(scopes)),
            made_by=self._by,
            created_at=self._now,
            expires_at=self._now + timedelta(days=days),
        )
        if not await add_token(self._database, token):
            raise PeopleRefused("A token of this name exists; delete it first, or choose another name.")
        await self._note("token.added", name, kind="token", scopes=" ".join(token.scopes), days=days)
        return secret

    async def delete_token(self, name: str) -> None:
        """Take a program's token away; it opens nothing from the next request on.

        Raises: PeopleRefused: there is none of this name.
        """
        if not await delete_token(self._database, name):
            raise PeopleRefused("There is no token of this name.")
        await self._note("token.deleted", name, kind="token")

    async def _known(self, name: str) -> User:
        user = await find_user(self._database, name)
        if user is None:
            raise PeopleRefused("There is no such person.")
        return user

    async def _keep_an_admin(self, user: User) -> None:
        is_admin = user.role == "admin" and user.disabled_at is None
        if is_admin and await count_admins(self._database) <= 1:
            raise PeopleRefused("Nobody else is admin. Make somebody else admin first.")

    async def _note(self, what: str, name: str, reason: str = "", kind: str = "user", **details: str | int) -> None:
        entry = audit_entry(
            self._now, who=self._by, what=what, subject=f"{kind}:{name}", reason=reason, details=details
        )
        await record_audit(self._database, entry)


def checked_password(password: str) -> str:
    """A password that is long enough.

    Raises: PeopleRefused: it is too short or too long.
    """
    if not PASSWORD_LENGTH_MIN <= len(password) <= PASSWORD_LENGTH_MAX:
        raise PeopleRefused(f"A password has {PASSWORD_LENGTH_MIN} characters or more; a few random words are good.")
    return password
