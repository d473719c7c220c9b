"""``ipa dead-letters``: what could not be handled, and what to do with it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from cli.ages import AGE
from messaging.topology import DEAD_LENGTH_MAX, LINE, dead_queue

if TYPE_CHECKING:
    from messaging.dead_letters import DeadLetter

QUEUES = tuple(stage.name for stage in LINE if dead_queue(stage) is not None)


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at messages that could not be handled; give them back to their queue, or delete them."""


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """The options that choose letters; together they narrow."""
    for option in reversed(
        (
            click.option("--id", "message_id", help="Only the letter with this id."),
            click.option("--type", "kind", help="Only messages of this type, for example attempt.reported."),
            click.option("--reason", help="Only letters whose reason holds this text."),
            click.option("--newer-than", type=AGE, help="Only letters that died within the last 90s, 15m, 6h, 2d."),
            click.option("--older-than", type=AGE, help="Only letters that died before that."),
        )
    ):
        command = option(command)
    return command


@dead_letters.command("list")
@click.argument("queue", required=False, type=click.Choice(QUEUES))
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Letters per queue.")
@_filters
def list_letters(queue: str | None, limit: int, **filters: Any) -> None:
    """List the dead letters of QUEUE, or of every queue, oldest first."""
    console, found = Console(highlight=False), 0
    for letter, reason in _chosen([queue] if queue else QUEUES, limit, filters):
        found += 1
        console.print(_line(letter, reason), markup=False, soft_wrap=True)
    console.print(f"{found} dead letters" if found else "no dead letters")


@dead_letters.command()
@click.argument("queue", required=False, type=click.Choice(QUEUES))
@_filters
def count(queue: str | None, **filters: Any) -> None:
    """Count the dead letters of QUEUE, or of every queue, by reason, the most frequent first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for letter, reason in _chosen([queue] if queue else QUEUES, DEAD_LENGTH_MAX, filters):
        counts[letter.queue, letter.type or "no type", reason] += 1
    for (name, kind, reason), number in counts.most_common():
        click.echo(f"{number:>7}  {name}  {kind}  {reason}")
    click.echo(f"{counts.total()} dead letters" if counts else "no dead letters")


@dead_letters.command()
@click.argument("queue", type=click.Choice(QUEUES))
@click.argument("message_id")
def show(queue: str, message_id: str) -> None:
    """Show one dead letter whole; a body that holds card data stays hidden."""
    chosen = _chosen([queue], DEAD_LENGTH_MAX, {"message_id": message_id})
    if not chosen:
        raise click.ClickException(
            f"{queue} has no dead letter with the id {message_id!r}; see `ipa dead-letters list`"
        )
    for letter, reason in chosen:
        click.echo(f"queue    {letter.queue}\nid       {letter.message_id}\ntype     {letter.type}")
        click.echo(f"died     {letter.died_at or 'unknown'}, {letter.deaths} times, {letter.cause}")
        click.echo(f"problem  {reason}\nbody     {letter.shown_body()}")


@dead_letters.command()
@click.argument("queue", type=click.Choice(QUEUES))
@click.option("--broken", is_flag=True, help="Also letters that still cannot be read; they would die again.")
@click.option("--dry-run", is_flag=True, help="Only say which ones.")
@_filters
def replay(queue: str, broken: bool, dry_run: bool, **filters: Any) -> None:
    """Give the dead letters of QUEUE back to it; those that cannot be read stay, unless --broken is given."""
    from messaging.dead_letters import replay_dead_letters

    chosen = _chosen([queue], DEAD_LENGTH_MAX, filters)
    readable = [(letter, reason) for letter, reason in chosen if broken or letter.problem is None]
    if dry_run:
        _would(readable, "given back")
        return
    replayed = asyncio.run(replay_dead_letters(_url(), queue, only=_those(readable)))
    click.echo(f"{len(replayed)} given back to {queue}")


@dead_letters.command()
@click.argument("queue", type=click.Choice(QUEUES))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say which ones.")
@_filters
def drop(queue: str, yes: bool, dry_run: bool, **filters: Any) -> None:
    """Delete the dead letters of QUEUE for good."""
    from messaging.dead_letters import drop_dead_letters

    chosen = _chosen([queue], DEAD_LENGTH_MAX, filters)
    if dry_run:
        _would(chosen, "deleted")
        return
    if chosen and not yes:
        click.confirm(f"Delete {len(chosen)} dead letters of {queue} for good?", abort=True)
    dropped = asyncio.run(drop_dead_letters(_url(), queue, only=_those(chosen))) if chosen else []
    click.echo(f"{len(dropped)} deleted")


def _chosen(queues: Sequence[str], limit: int, filters: Mapping[str, Any]) -> list[tuple[DeadLetter, str]]:
    """The dead letters that pass every filter, each with its reason, oldest first."""
    now = datetime.now(UTC)
    wanted = {name: value for name, value in filters.items() if value is not None}

    def passes(letter: DeadLetter, reason: str) -> bool:
        age = now - letter.died_at.replace(tzinfo=UTC) if letter.died_at else None
        return (
            wanted.get("message_id", letter.message_id) == letter.message_id
            and wanted.get("kind", letter.type) == letter.type
            and wanted.get("reason", "").lower() in reason.lower()
            and ("newer_than" not in wanted or (age is not None and age < wanted["newer_than"]))
            and ("older_than" not in wanted or age is None or age >= wanted["older_than"])
        )

    return [pair for pair in asyncio.run(_explained(queues, limit)) if passes(*pair)]


def _those(chosen: Sequence[tuple[DeadLetter, str]]) -> Callable[[DeadLetter], bool]:
    """Recognise letters when they are met again: what came meanwhile is left alone."""
    keys = {(letter.message_id, letter.body, letter.died_at) for letter, _ in chosen}
    return lambda letter: (letter.message_id, letter.body, letter.died_at) in keys


def _would(chosen: Sequence[tuple[DeadLetter, str]], done: str) -> None:
    for letter, reason in chosen:
        click.echo(_line(letter, reason))
    click.echo(f"{len(chosen)} would be {done}; nothing was changed")


def _line(letter: DeadLetter, reason: str) -> str:
    died = letter.died_at.strftime("%Y-%m-%d %H:%M:%S") if letter.died_at else "unknown time"
    return f"{died}  {letter.queue}  {letter.type or 'no type'}  {letter.message_id or 'no id'}  {reason}"


async def _explained(queues: Sequence[str], limit: int) -> list[tuple[DeadLetter, str]]:
    """Read dead letters, each with the reason: what decoding says now, else what the worker kept in the store.

    Args:
        queues: where they come from.
        limit: most letters read from each.
    """
    from cli.known_store import known_store, opened
    from messaging.dead_letters import list_dead_letters
    from storage.errors import StoreError
    from storage.rejections import reason_of

    url, found = _url(), []
    for name in queues:
        found += await list_dead_letters(url, name, limit=limit)
    reasons: dict[int, str | None] = {}
    unexplained = {place: letter for place, letter in enumerate(found) if letter.problem is None}
    no_reason = "why is not kept"
    if unexplained:
        store = known_store()
        no_reason = no_reason if store else "IPA_MONGO_URL would tell the reason"
        try:
            async with AsyncExitStack() as stack:
                if store is not None:
                    database = await stack.enter_async_context(opened(store))
                    for place, letter in unexplained.items():
                        reasons[place] = await reason_of(database, letter.queue, letter.body)
        except StoreError as error:
            no_reason = f"the reason is not known: {error}"
    return [
        (letter, letter.problem or reasons.get(place) or f"{_died(letter)}; it is well formed, {no_reason}")
        for place, letter in enumerate(found)
    ]


def _died(letter: DeadLetter) -> str:
    return f"{letter.cause}, {letter.deaths} times"


def _url() -> str:
    from cli.target import target_settings

    return target_settings().broker.url
