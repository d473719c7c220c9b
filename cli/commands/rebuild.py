"""``ipa rebuild``: computes what is derived from single attempts once more, while the system runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.ages import AGE

if TYPE_CHECKING:
    from config.settings import Settings
    from messaging.contracts import FailureClassified, RecordedAttempt
    from storage.database import Database
    from storage.rebuild import CustomersRest
    from storage.rebuild import Progress as Period

Rebuild = Callable[["Database", "Settings", Sequence[tuple[datetime, datetime]], datetime], AsyncIterator["Period"]]

MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.group()
def rebuild() -> None:
    """Compute derived data once more from single attempts; the system may go on meanwhile."""


def _range(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option("--until", type=MOMENT, help="End in UTC, exclusive; default: now.")(command)
    command = click.option("--since", type=MOMENT, help="Start in UTC, for example 2026-03-01 or 2026-03-01T12:00.")(
        command
    )
    return click.option("--last", type=AGE, help="Instead of --since: so far back, for example 6h.")(command)


@rebuild.command()
@_range
def rollups(last: timedelta | None, since: datetime | None, until: datetime | None) -> None:
    """Sums per minute, hour and day."""

    def work(
        database: Database, _: Settings, spans: Sequence[tuple[datetime, datetime]], now: datetime
    ) -> AsyncIterator[Period]:
        from storage.rebuild import rebuild_rollups

        return rebuild_rollups(database, spans, now)

    asyncio.run(_run("sums", work, last, since, until))


@rebuild.command()
@_range
def failures(last: timedelta | None, since: datetime | None, until: datetime | None) -> None:
    """Verdicts on failed attempts, with the codes and the model in force now, and their sums."""

    def work(
        database: Database, settings: Settings, spans: Sequence[tuple[datetime, datetime]], now: datetime
    ) -> AsyncIterator[Period]:
        from actors.wiring import wire
        from messaging.contracts import AttemptsRecorded
        from storage.failure_codes import CodeRow, list_code_rows
        from storage.failures import FailuresKnown
        from storage.rebuild import rebuild_failures

        rows: dict[str, CodeRow] = {}
        classifier = wire("failure_classifier", settings, database, "rebuild")

        def classify(attempts: Sequence[RecordedAttempt], at: datetime) -> Sequence[FailureClassified]:
            batch = AttemptsRecorded(batch_id="bat_rebuild", recorded_at=at, attempts=list(attempts))
            known = FailuresKnown(rows=rows)
            return [failure for said in classifier.handle([batch], at, known, "rebuild") for failure in said.failures]

        async def periods() -> AsyncIterator[Period]:
            await classifier.start()
            await classifier.shelves[0].load([])  # the model in force serves
            rows.update({row.code_key: row for row in await list_code_rows(database)})
            async for period in rebuild_failures(database, spans, classify, now):
                yield period

        return periods()

    asyncio.run(_run("failures", work, last, since, until))


@rebuild.command()
@_range
def anomalies(last: timedelta | None, since: datetime | None, until: datetime | None) -> None:
    """Anomalies that are closed: what the watcher of today finds in the attempts of that time."""

    def work(
        database: Database, settings: Settings, spans: Sequence[tuple[datetime, datetime]], now: datetime
    ) -> AsyncIterator[Period]:
        from actors.rebuilding import rebuild_anomalies

        return rebuild_anomalies(database, settings, spans, now)

    asyncio.run(_run("anomalies", work, last, since, until))


@rebuild.command()
@_range
def customers(last: timedelta | None, since: datetime | None, until: datetime | None) -> None:
    """By which an attempt is found by its customer; once, after an upgrade, for attempts stored before it."""
    told: list[str] = []

    def work(
        database: Database, _: Settings, spans: Sequence[tuple[datetime, datetime]], now: datetime
    ) -> AsyncIterator[Period]:
        from storage.rebuild import finish_customers, rebuild_customers

        async def periods() -> AsyncIterator[Period]:
            async for period in rebuild_customers(database, spans):
                yield period
            told.extend(rest_told(await finish_customers(database)))

        return periods()

    asyncio.run(_run("customers", work, last, since, until))
    for line in told:
        click.echo(line)


def rest_told(rest: CustomersRest) -> list[str]:
    """What is still to do, and what became of the index of an earlier version."""
    from storage.rebuild import REST_MAX

    if rest.left:
        many = f"{rest.left} or more" if rest.left >= REST_MAX else str(rest.left)
        index = " the old index stays;" if rest.index_before == "kept" else ""
        return [f"{many} attempts still lack it;{index} run it again"]
    return ["no attempt lacks it any more; the old index was dropped"] if rest.index_before == "dropped" else []


async def _run(
    what: str, work: Rebuild, last: timedelta | None, since: datetime | None, until: datetime | None
) -> None:
    """Find the store, cut the range into periods, and show how it goes."""
    from cli.known_store import known_store, opened
    from cli.target import target_settings
    from storage.rebuild import periods

    now = datetime.now(UTC)
    if (last is None) == (since is None):
        raise click.UsageError("say from when on: --since MOMENT, or --last AGE")
    start = now - last if last is not None else _utc(since, now)
    store = known_store()
    if store is None:
        raise click.UsageError("IPA_MONGO_URL names no store")
    settings = target_settings()
    spans = periods(start, _utc(until, now), settings.store, now)
    attempts = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with opened(store) as database:
        with Progress(*columns, console=Console(stderr=True)) as shown:
            task = shown.add_task(f"rebuilding {what}", total=len(spans))
            async for period in work(database, settings, spans, now):
                attempts += period.attempts
                shown.advance(task)
    click.echo(
        f"{what} of {attempts} attempts rebuilt, {spans[0][0]:%Y-%m-%d %H:%M} to {spans[-1][1]:%Y-%m-%d %H:%M} UTC"
    )


def _utc(moment: datetime | None, default: datetime) -> datetime:
    return default if moment is None else moment.replace(tzinfo=UTC)
