"""The traffic of the last hour that the live views draw: all of it, or what a viewer chose; read poll by poll."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from storage.database import Database, Document
from storage.errors import translated
from storage.read_models.chosen import ALL, FAILURE_CHOICES, FAILURE_DIMENSIONS, Chosen
from storage.read_models.live_arrivals import ARRIVALS_MINUTES, ArrivalRing, Arrivals
from storage.read_models.live_series import (
    MINUTE_S,
    OTHER,
    WINDOW_MINUTES,
    Counts,
    Key,
    MinuteCounts,
    MinuteGrid,
    Row,
    summed,
)
from storage.read_models.measures import LATENCY_BUCKETS
from storage.read_models.minute_sums import read_minute_sums
from storage.read_models.single_attempts import read_chosen_sums
from storage.read_models.single_failures import read_single_failures

COUNTS: Final = ("attempts", "pending", "succeeded", "failed", "abandoned", "reversed")
"""The first columns of the attempts; the latency buckets follow them."""

LATENCY_COLUMN: Final = len(COUNTS)
FAILURES: Final = ("failures",)

HOUR_S: Final = WINDOW_MINUTES * MINUTE_S
RECENT_MINUTES: Final = 4
"""Minutes read at every poll. Older sums change rarely (late corrections), so they are read again now and then."""

WHOLE_WINDOW_EVERY_S: Final = 30.0
NARROW_WINDOW_EVERY_S: Final = 60.0
"""The same where single attempts are read for it."""

QUERY_MS_MAX: Final = 10_000


class Traffic(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the last poll knew. A part that did not change is the same object as in the one before.

    ``polled_at``: seconds since epoch; None before the first poll.
    ``attempts``: columns ``COUNTS`` then the latency buckets, first gateway, second method.
    ``failures``: column ``FAILURES``, first gateway, second category.
    ``attempts_before``: ``attempts`` of the hour before, at the same times; without corrections that came later.
    ``arrivals`` and ``failure_arrivals``: the same columns as they came in, per gateway and per category.
    """

    polled_at: float | None
    attempts: MinuteCounts
    attempts_before: MinuteCounts
    failures: MinuteCounts
    arrivals: Arrivals
    failure_arrivals: Arrivals


class LiveTraffic:
    """Reads the sums per minute and keeps the last hour.

    Args:
        database: an open handle.
        gateways: come first, in this order, everywhere.
        now: seconds since epoch.
        chosen: what is read; of failures ``FAILURE_DIMENSIONS`` are heeded, or ``FAILURE_CHOICES`` of a narrow choice.
    """

    def __init__(self, database: Database, gateways: Sequence[str], now: float, chosen: Chosen = ALL) -> None:
        self._database, self._chosen = database, chosen
        self._attempts = MinuteGrid(len(COUNTS) + LATENCY_BUCKETS, gateways)
        self._failures = MinuteGrid(len(FAILURES), gateways)
        self._arrivals = ArrivalRing(len(COUNTS) + LATENCY_BUCKETS, gateways)
        self._failure_arrivals = ArrivalRing(len(FAILURES))
        self._whole_read_at, self._minutes = float("-inf"), 0
        self.known = Traffic(
            polled_at=None,
            attempts=self._attempts.counts(now),
            attempts_before=_hour_before(self._attempts, now),
            failures=self._failures.counts(now),
            arrivals=self._arrivals.arrivals(),
            failure_arrivals=self._failure_arrivals.arrivals(),
        )

    @property
    def points(self) -> int:
        """How many sums of attempts are known that are not zero."""
        return self._attempts.points

    async def poll(self, now: float, minutes: int = WINDOW_MINUTES) -> None:
        """Read what changed, once.

        Args:
            now: seconds since epoch.
            minutes: so many of the newest are read and known.
        Raises: StoreError: MongoDB did not answer or refused; ``known`` stays as it was.
        """
        before = self.known
        is_narrow = self._chosen.is_narrow
        every_s = NARROW_WINDOW_EVERY_S if is_narrow else WHOLE_WINDOW_EVERY_S
        whole = minutes > self._minutes or now - self._whole_read_at >= every_s
        recent, oldest = self._recent_since(now), oldest_minute(now, minutes)
        since = oldest if whole else max(oldest, recent)
        # The hour before is read once; from then on it is made of the minutes that leave the window.
        unknown = before.polled_at is None or before.polled_at < oldest_minute(now)
        attempts_since = since - HOUR_S if unknown and not is_narrow else since
        with translated():
            attempts, failures = await asyncio.gather(self._attempt_rows(attempts_since), self._failure_rows(since))
        if whole:
            self._whole_read_at = now
        self._minutes = minutes
        versions = self._attempts.version, self._failures.version
        # Of single attempts what fits no more is not read; a sum that is taken back to nothing is.
        known = {"whole_from": since} if self._chosen.is_narrow else {}
        # What is filled in for older minutes (a replay, late corrections) did not happen now.
        self._arrive(self._arrivals, self._attempts, self._attempts.put(attempts, since=recent, **known), 0, now)
        self._arrive(
            self._failure_arrivals, self._failures, self._failures.put(failures, since=recent, **known), 1, now
        )
        in_step = not unknown and before.attempts.minutes[-1] == now // MINUTE_S * MINUTE_S
        self.known = Traffic(
            polled_at=now,
            attempts=_laid_out(self._attempts, before.attempts, versions[0], now, minutes),
            attempts_before=before.attempts_before if in_step else _hour_before(self._attempts, now),
            failures=_laid_out(self._failures, before.failures, versions[1], now, minutes),
            arrivals=self._arrivals.arrivals(),
            failure_arrivals=self._failure_arrivals.arrivals(),
        )

    def _arrive(self, ring: ArrivalRing, grid: MinuteGrid, changes: dict[Key, Counts], part: int, now: float) -> None:
        """Add what came in since the last poll; at the first one, what the last minutes hold."""
        if self.known.polled_at is not None:
            ring.add(now, summed(changes, part))
            return
        counts = grid.counts(now).last(ARRIVALS_MINUTES + 1)
        names = counts.second if part else counts.first
        ring.begin(counts.minutes, names, counts.values.sum(axis=1 if part else 2), now)

    def _recent_since(self, now: float) -> float:
        """The first minute of an ordinary poll: a few back, or as far as polls were missed."""
        last = self.known.polled_at or now
        return min(now, last) // MINUTE_S * MINUTE_S - MINUTE_S * (RECENT_MINUTES - 1)

    async def _attempt_rows(self, since: float) -> list[Row]:
        reading = read_chosen_sums(
            self._database,
            self._chosen,
            datetime.fromtimestamp(since, UTC),
            COUNTS,
            apart=("gateway", "method"),
            query_ms_max=QUERY_MS_MAX,
        )
        return [_row(names, "method", sums) async for names, sums in reading]

    async def _failure_rows(self, since: float) -> list[Row]:
        start = datetime.fromtimestamp(since, UTC)
        if self._chosen.is_narrow:
            chosen = self._chosen.only(*FAILURE_CHOICES)
            single = await read_single_failures(self._database, chosen, start, query_ms_max=QUERY_MS_MAX)
            return [_row(row, "category", [row["failures"]]) for row in single]
        match = {"minute": {"$gte": start}} | self._chosen.match(*FAILURE_DIMENSIONS)
        reading = read_minute_sums(self._database, "failure_rollups", match, FAILURES, query_ms_max=QUERY_MS_MAX)
        return [_row(names, "category", sums) async for names, sums in reading]


def oldest_minute(now: float, minutes: int = WINDOW_MINUTES) -> float:
    """The start of the first minute of a window that ends with the running one, seconds since epoch."""
    return now // MINUTE_S * MINUTE_S - MINUTE_S * (minutes - 1)


def _row(names: Document, second: str, sums: Sequence[int] | Counts) -> Row:
    return _epoch_s(names["minute"]), str(names.get("gateway") or OTHER), str(names.get(second) or OTHER), sums


def _hour_before(grid: MinuteGrid, now: float) -> MinuteCounts:
    return grid.counts(now, 2 * WINDOW_MINUTES).before(WINDOW_MINUTES)


def _laid_out(grid: MinuteGrid, before: MinuteCounts, version: int, now: float, minutes: int) -> MinuteCounts:
    """The newest minutes as an array; the same object as before when neither they nor the sums' version changed."""
    is_same = before.minutes[-1] == now // MINUTE_S * MINUTE_S and len(before.minutes) == minutes
    if grid.version == version and is_same:
        return before
    counts = grid.counts(now)
    grid.forget(float(counts.minutes[0]) - HOUR_S)
    return counts.last(minutes)


def _epoch_s(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
