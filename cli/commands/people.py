"""``ipa users`` and ``ipa tokens``: who may log in, and which programs may use the REST interface."""

from __future__ import annotations

import asyncio
import getpass
import secrets
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar, get_args

import click
from rich.table import Table

from cli.tables import print_table
from storage.users import Role

if TYPE_CHECKING:
    from storage.database import Database
    from web.people import Person

T = TypeVar("T")
ROLES = get_args(Role)


@click.group()
def users() -> None:
    """Let people in, and out: add, list, role, disable, enable, password.

    Roles: viewer sees everything; analyst also handles anomalies and failure codes; operator also pauses gateways and
    steers experiments and models; admin also manages people and tokens.
    """


@users.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True)
@click.option("--generate", is_flag=True, help="Make a password and print it.")
def add_user(name: str, role: Role, generate: bool) -> None:
    """Let NAME in. The password is asked for, or read from the input when that is no terminal."""
    password = _password(generate)
    _changed(lambda person: person.add(name, role, _hash(password)))
    click.echo(f"{name} may log in as {role}")
    if generate:
        click.echo(f"password: {password}")


@users.command("list")
def list_users() -> None:
    """List everybody, disabled people too."""
    from storage.users import read_users

    found = _with_store(read_users)
    if not found:
        click.echo("nobody can log in yet: ipa users add NAME --role admin")
        return
    table = Table("name", "role", "standing", "since", "last login")
    for user in found:
        standing = "active" if user.disabled_at is None else f"disabled {user.disabled_at:%Y-%m-%d %H:%M}"
        last = "never" if user.last_login_at is None else f"{user.last_login_at:%Y-%m-%d %H:%M}"
        table.add_row(user.name, user.role, standing, f"{user.created_at:%Y-%m-%d %H:%M}", last)
    print_table(table)


@users.command("role")
@click.argument("name")
@click.argument("role", type=click.Choice(ROLES))
@click.option("--reason", default="", help="Kept in the audit log.")
def give_role(name: str, role: Role, reason: str) -> None:
    """Give NAME another ROLE; it counts from the next click on."""
    _changed(lambda person: person.give_role(name, role, reason))
    click.echo(f"{name} is {role} now")


@users.command("disable")
@click.argument("name")
@click.option("--reason", default="", help="Kept in the audit log.")
def disable(name: str, reason: str) -> None:
    """Let nobody in as NAME, and end that person's logins at once."""
    _changed(lambda person: person.disable(name, reason))
    click.echo(f"{name} is disabled, and logged out everywhere")


@users.command("enable")
@click.argument("name")
@click.option("--reason", default="", help="Kept in the audit log.")
def enable(name: str, reason: str) -> None:
    """Let NAME in again."""
    _changed(lambda person: person.enable(name, reason))
    click.echo(f"{name} may log in again")


@users.command("password")
@click.argument("name")
@click.option("--generate", is_flag=True, help="Make a password and print it.")
def set_password(name: str, generate: bool) -> None:
    """Give NAME a new password, and end the logins made with the old one."""
    password = _password(generate)
    _changed(lambda person: person.set_password(name, _hash(password)))
    click.echo(f"{name} has a new password, and is logged out everywhere")
    if generate:
        click.echo(f"password: {password}")


@click.group()
def tokens() -> None:
    """Tokens of programs that use the REST interface: add, list, delete."""


@tokens.command("add")
@click.argument("name")
@click.option(
    "--scope", "scopes", multiple=True, default=["read"], show_default=True, help="May be given several times."
)
@click.option("--days", default=90, show_default=True, type=click.IntRange(1, 366), help="How long it lasts.")
def add_token(name: str, scopes: tuple[str, ...], days: int) -> None:
    """Make a token for the program NAME and print its secret, this once."""
    from web.permissions import PERMISSIONS

    unknown = sorted(set(scopes) - set(PERMISSIONS))
    if unknown:
        raise click.UsageError(f"no such scope: {', '.join(unknown)}; there are {', '.join(PERMISSIONS)}")
    secret = _changed(lambda person: person.add_token(name, list(scopes), days))
    click.echo(f"token of {name}, for {days} days, never shown again:\n{secret}")


@tokens.command("list")
def list_tokens() -> None:
    """List the tokens, without their secrets."""
    from storage.api_tokens import read_tokens

    found = _with_store(read_tokens)
    if not found:
        click.echo("no tokens")
        return
    table = Table("name", "scopes", "made by", "expires", "last used")
    for token in found:
        used = "never" if token.last_used_at is None else f"{token.last_used_at:%Y-%m-%d %H:%M}"
        table.add_row(token.name, " ".join(token.scopes), token.made_by, f"{token.expires_at:%Y-%m-%d}", used)
    print_table(table)


@tokens.command("delete")
@click.argument("name")
def delete_token(name: str) -> None:
    """Take the token of the program NAME away."""
    _changed(lambda person: person.delete_token(name))
    click.echo(f"the token of {name} opens nothing any more")


def _password(generate: bool) -> str:
    from web.people import PeopleRefused, checked_password

    if generate:
        return secrets.token_urlsafe(15)
    if sys.stdin.isatty():
        given = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        given = sys.stdin.readline().rstrip("\n")
    try:
        return checked_password(given)
    except PeopleRefused as refused:
        raise click.UsageError(str(refused)) from None


def _hash(password: str) -> str:
    from web.passwords import hash_now

    return hash_now(password)


def _changed(change: Callable[[Person], Awaitable[T]]) -> T:
    from datetime import UTC, datetime

    from web.people import PeopleRefused, Person

    async def work(database: Database) -> T:
        try:
            return await change(Person(database, by=f"cli:{getpass.getuser()}"[:60], now=datetime.now(UTC)))
        except PeopleRefused as refused:
            raise click.ClickException(str(refused)) from None

    return _with_store(work)


def _with_store(work: Callable[[Database], Awaitable[T]]) -> T:
    from cli.known_store import known_store, opened
    from config.errors import ConfigError
    from storage.api_tokens import declare_api_tokens
    from storage.database import declare

    async def go() -> T:
        store = known_store()
        if store is None:
            raise ConfigError("IPA_MONGO_URL", "names no MongoDB; set it beside IPA_AMQP_URL")
        async with opened(store) as database:
            await declare(database, store)
            await declare_api_tokens(database)
            return await work(database)

    return asyncio.run(go())
