"""The last days in memory: sums in steps of ten minutes by gateway, method, issuer and currency.

A page that looks back a week would have to add up hundreds of thousands of sums per minute for every viewer. Here they
are added up once, when they are no longer in motion, and read again now and then, because corrections come late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import structlog

from storage.database import Database, Document
from storage.errors import StoreError, translated
from storage.read_models.choices_seen import ChoicesSeen
from storage.read_models.chosen import DIMENSIONS, Chosen
from storage.read_models.measures import LATENCY_BUCKETS
from storage.read_models.minute_sums import Sums, read_minute_sums
from storage.read_models.single_attempts import read_single_sums

COUNTS: Final = (
    "attempts", "pending", "succeeded", "failed", "abandoned", "reversed", "first_attempts", "first_succeeded",
    "amount_minor", "amount_succeeded_minor",
)  # fmt: skip
COLUMNS: Final = len(COUNTS) + LATENCY_BUCKETS

STEP_S: Final = 600
KEEP: Final = timedelta(days=14)
"""A week, and the week before it to compare with."""

CHUNK: Final = timedelta(hours=6)
"""Read at once; a larger one would keep the store busy for seconds."""

FRESH_EVERY_S: Final = 15.0
FRESH: Final = timedelta(minutes=30)
"""What is so young is read again each time: it is still in motion."""

AGAIN_EVERY_S: Final = 1_800.0
"""Everything is read again so often, for corrections of the past."""

KEYS_MAX: Final = 5_000
"""Combinations of gateway, method, issuer and currency per step; what is beyond them is left out and said."""

LATELY: Final = timedelta(days=1)
"""Names that did not come up for so long are not offered."""

QUERY_MS_MAX: Final = 60_000
NARROW_QUERY_MS_MAX: Final = 10_000
"""Of one for a page that somebody waits for."""


Key = tuple[str, str, str, str]


class HistoryCube:
    """Sums per step, newest first to come. Made once per process; ``run`` keeps it current.

    Args:
        database: an open handle.
        clock: gives the time.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database, self._clock = database, clock
        self._steps: dict[datetime, dict[Key, Sums]] = {}
        self._hours: dict[datetime, dict[Key, Sums]] = {}
        self._names: dict[str, list[str]] = {name: [] for name in DIMENSIONS}
        self._narrow = ChoicesSeen(database)
        self.known_from: datetime | None = None
        self._log = structlog.get_logger("history")

    async def run(self) -> None:
        """Read until cancelled; while the store does not answer, what is known stays."""
        read_at = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            try:
                if loop.time() - read_at >= AGAIN_EVERY_S:
                    await self._read_all()
                    read_at = loop.time()
                now = self._clock()
                await self._read(step_of(now - FRESH), now + timedelta(seconds=STEP_S))
                self._name(now)
                await self._narrow.look(now)
            except StoreError as error:
                self._log.warning("history waits for the store", problem=str(error))
            await asyncio.sleep(FRESH_EVERY_S)

    def rows(self, since: datetime, until: datetime, *, hours: bool = False) -> list[tuple[datetime, Key, Sums]]:
        """Every sum from a step on, up to before another; in the order of the steps.

        Args:
            hours: by whole hours; the one that ``since`` lies in is left out, when it does not begin there.
        """
        steps = self._hours if hours else self._steps
        wanted = sorted(step for step in steps if since <= step < until)
        return [(step, key, sums) for step in wanted for key, sums in steps[step].items()]

    def names(self) -> dict[str, list[str]]:
        """The names that there were lately, by dimension, in their order."""
        return self._names | self._narrow.names

    async def _read_all(self) -> None:
        """Read what is kept, the newest first, so that short ranges are there soon."""
        end = step_of(self._clock()) + timedelta(seconds=STEP_S)
        oldest = end - KEEP
        for step in [step for step in self._steps if step < oldest]:
            del self._steps[step]
            self._hours.pop(step.replace(minute=0), None)
        first = await self._oldest()
        while end > oldest and (first is None or end > first):
            await self._read(end - CHUNK, end)
            end -= CHUNK
            self.known_from = end if self.known_from is None else min(self.known_from, end)
            await asyncio.sleep(0.05)
        self.known_from = oldest

    def _name(self, now: datetime) -> None:
        """Note the names of the last day."""
        seen: set[Key] = set()
        for hour, keys in self._hours.items():
            if hour >= now - LATELY:
                seen.update(keys)
        self._names = {name: sorted({key[place] for key in seen}) for place, name in enumerate(DIMENSIONS)}

    async def _oldest(self) -> datetime | None:
        with translated():
            found = await self._database["attempt_rollups"].find_one({}, {"minute": 1}, sort=[("minute", 1)])
        return None if found is None else found["minute"]

    async def _read(self, since: datetime, until: datetime) -> None:
        fresh: dict[datetime, dict[Key, Sums]] = {}
        for step, key, sums in await read_steps(self._database, since, until, STEP_S):
            keys = fresh.setdefault(step, {})
            if len(keys) < KEYS_MAX:
                keys[key] = sums
        for step in [step for step in self._steps if since <= step < until]:
            del self._steps[step]
        self._steps.update(fresh)
        for hour in {step.replace(minute=0) for step in fresh}:
            added: dict[Key, Sums] = {}
            for minute in range(0, 60, STEP_S // 60):
                for key, sums in self._steps.get(hour.replace(minute=minute), {}).items():
                    added[key] = sums if key not in added else added[key] + sums
            self._hours[hour] = added


async def read_minutes(database: Database, since: datetime, until: datetime) -> list[tuple[datetime, Key, Sums]]:
    """Read sums per minute.

    Args:
        since, until: the minutes, until is not included.
    """
    match = {"minute": {"$gte": since, "$lt": until}}
    reading = read_minute_sums(database, "attempt_rollups", match, COUNTS, latencies=True, query_ms_max=QUERY_MS_MAX)
    return await _by_place(reading)


async def read_narrow(
    database: Database, chosen: Chosen, by: str, *, since: datetime, until: datetime, step_s: int, origin: datetime
) -> list[tuple[datetime, Key, Sums]]:
    """Add single attempts that were chosen up to steps, told apart by currency and one dimension more.

    Args:
        since, until: when they were attempted, until is not included.
        step_s: length of a step, seconds.
        origin: where one of the steps begins.
    Raises: TooManyAttempts: there are more than can be read.
    """
    reading = read_single_sums(
        database,
        chosen,
        since,
        until,
        COUNTS,
        apart=("currency", by),
        step=timedelta(seconds=step_s),
        origin=origin,
        query_ms_max=NARROW_QUERY_MS_MAX,
    )
    return await _by_place(reading)


async def _by_place(reading: AsyncIterator[tuple[Document, Sums]]) -> list[tuple[datetime, Key, Sums]]:
    """Add up what has the same minute and names."""
    found: dict[tuple[datetime, Key], Sums] = {}
    with translated():
        async for names, sums in reading:
            place = names["minute"], _key_of(names)
            found[place] = found[place] + sums if place in found else sums
    return [(minute, key, sums) for (minute, key), sums in found.items()]


async def read_steps(
    database: Database, since: datetime, until: datetime, step_s: int
) -> list[tuple[datetime, Key, Sums]]:
    """Add sums per minute up to steps, in the store.

    Args:
        since, until: the minutes, until is not included.
        step_s: a divisor of an hour, seconds.
    """
    summed: dict[str, Any] = {name: {"$sum": f"${name}"} for name in COUNTS}
    summed |= {f"latency_{bucket}": {"$sum": f"$latency.{bucket}"} for bucket in range(LATENCY_BUCKETS)}
    by: dict[str, Any] = {name: f"${name}" for name in DIMENSIONS}
    by["step"] = {"$dateTrunc": {"date": "$minute", "unit": "minute", "binSize": step_s // 60}}
    pipeline: list[dict[str, Any]] = [
        {"$match": {"minute": {"$gte": since, "$lt": until}}},
        {"$group": {"_id": by, **summed}},
    ]
    found = []
    with translated():
        cursor = await database["attempt_rollups"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX, allowDiskUse=True)
        async for document in cursor:
            named = document["_id"]
            found.append((named["step"], _key_of(named), np.array(list(document.values())[1:], dtype=np.int64)))
    return found


def _key_of(names: Document) -> Key:
    return tuple(str(names.get(name) or "unknown") for name in DIMENSIONS)  # type: ignore[return-value]


def step_of(moment: datetime) -> datetime:
    """The start of the step that a moment lies in.

    >>> step_of(datetime(2026, 1, 1, 10, 17, 3, tzinfo=UTC)).isoformat()
    '2026-01-01T10:10:00+00:00'
    """
    return moment.replace(minute=moment.minute // 10 * 10, second=0, microsecond=0)
