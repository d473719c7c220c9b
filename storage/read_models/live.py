"""The live figures: reads the store once for all viewers, every second or so, and keeps the last hour in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog

from storage.database import Database, Document
from storage.errors import StoreError, translated
from storage.read_models.health import state_of
from storage.read_models.live_arrivals import ARRIVALS_MINUTES, ArrivalRing, Arrivals
from storage.read_models.live_courses import CourseReader, ExperimentCourse
from storage.read_models.live_facts import (
    AdviceCount,
    AnomalySpan,
    ExperimentStanding,
    Worker,
    WorkerBeat,
    lag_of,
    pace_of,
    paced,
    read_facts,
)
from storage.read_models.live_series import (
    MINUTE_S,
    OTHER,
    WINDOW_MINUTES,
    Counts,
    Key,
    MinuteCounts,
    MinuteGrid,
    ReadingRing,
    Row,
    summed,
)
from storage.read_models.measures import LATENCY_BUCKETS

COUNTS: Final = ("attempts", "pending", "succeeded", "failed", "abandoned", "reversed")
"""The first columns of the attempts; the latency buckets follow them."""

LATENCY_COLUMN: Final = len(COUNTS)
FAILURES: Final = ("failures",)

RECENT_MINUTES: Final = 4
"""Minutes read at every poll. Older sums change rarely (late corrections), so they are read again now and then."""

WHOLE_WINDOW_EVERY_S: Final = 30.0
FACTS_EVERY_S: Final = 1.0
ADVICE_EVERY_S: Final = 5.0
COURSES_EVERY_S: Final = 5.0
ADVICE_DECISIONS: Final = 2_000
ANOMALIES_MAX: Final = 200
EXPERIMENTS_MAX: Final = 50
WORKERS_MAX: Final = 200
QUERY_MS_MAX: Final = 10_000
STALE_AFTER_S: Final = 5.0
"""Figures older than this are called stale; also never before three polls were missed."""


class LiveSnapshot(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything the charts draw. A part that did not change is the same object as in the snapshot before.

    ``attempts``: columns ``COUNTS`` then the latency buckets, first gateway, second method.
    ``failures``: column ``FAILURES``, first gateway, second category.
    ``arrivals`` and ``failure_arrivals``: the same columns as they came in, per gateway and per category.
    ``lag``: waiting messages per stage. ``pace``: messages per second per stage.
    ``polled_at``: last good poll, seconds since epoch; None before the first.
    """

    polled_at: float | None
    attempts: MinuteCounts
    failures: MinuteCounts
    arrivals: Arrivals
    failure_arrivals: Arrivals
    lag: ReadingRing
    pace: ReadingRing
    anomalies: tuple[AnomalySpan, ...] = ()
    experiments: tuple[ExperimentStanding, ...] = ()
    workers: tuple[Worker, ...] = ()
    advice: tuple[AdviceCount, ...] = ()
    courses: tuple[ExperimentCourse, ...] = ()


class LiveFigures:
    """Polls MongoDB and holds the newest snapshot. One per process; viewers only read it.

    Args:
        database: an open handle.
        gateways: the gateways that are configured; they come first, in this order, everywhere.
        poll_ms: time between polls, milliseconds.
        heartbeat_s: how often a worker gives a sign of life, seconds.
        clock: gives the time, seconds since epoch.
    """

    def __init__(
        self,
        database: Database,
        *,
        gateways: Sequence[str],
        poll_ms: int,
        heartbeat_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._poll_s = poll_ms / 1000
        self._heartbeat_s = heartbeat_s
        self._clock = clock
        self._attempts = MinuteGrid(len(COUNTS) + LATENCY_BUCKETS, gateways)
        self._failures = MinuteGrid(len(FAILURES), gateways)
        self._arrivals = ArrivalRing(len(COUNTS) + LATENCY_BUCKETS, gateways)
        self._failure_arrivals = ArrivalRing(len(FAILURES))
        self._courses = CourseReader(database)
        self._whole_read_at = self._facts_read_at = self._advice_read_at = self._courses_read_at = float("-inf")
        self._log = structlog.get_logger("live_figures")
        now = clock()
        self.snapshot = LiveSnapshot(
            polled_at=None,
            attempts=self._attempts.counts(now),
            failures=self._failures.counts(now),
            arrivals=self._arrivals.arrivals(),
            failure_arrivals=self._failure_arrivals.arrivals(),
            lag=ReadingRing(),
            pace=ReadingRing(),
        )

    @property
    def points(self) -> int:
        """How many sums of attempts are known that are not zero."""
        return self._attempts.points

    def stale_since(self, now: float) -> float | None:
        """Since when the store did not answer; None: the figures are fresh, or there were never any.

        Args:
            now: seconds since epoch.
        """
        polled_at = self.snapshot.polled_at
        if polled_at is None or now - polled_at <= max(STALE_AFTER_S, 3 * self._poll_s):
            return None
        return polled_at

    async def run(self, polled: Callable[[], None] = lambda: None) -> None:
        """Poll until cancelled. While MongoDB does not answer the last figures stay, and polling goes on.

        Args:
            polled: called after each poll, also after one that failed.
        """
        answered = True
        while True:
            began = time.monotonic()
            try:
                await self.poll()
            except StoreError as error:
                if answered:
                    self._log.warning("live figures are stale", problem=str(error))
                answered = False
            else:
                if not answered:
                    self._log.info("live figures are fresh again")
                answered = True
            polled()
            await asyncio.sleep(max(0.05, self._poll_s - (time.monotonic() - began)))

    async def poll(self) -> None:
        """Read what changed, once.

        Raises: StoreError: MongoDB did not answer or refused; the snapshot stays as it was.
        """
        now, before = self._clock(), self.snapshot
        whole = before.polled_at is None or now - self._whole_read_at >= WHOLE_WINDOW_EVERY_S
        oldest = now // MINUTE_S * MINUTE_S - MINUTE_S * (WINDOW_MINUTES - 1)
        since = oldest if whole else max(oldest, self._recent_since(now))
        with translated():
            attempts, failures = await asyncio.gather(
                self._rows("attempt_rollups", "method", _ATTEMPT_SUMS, since),
                self._rows("failure_rollups", "category", _FAILURE_SUMS, since),
            )
            facts = await self._facts(now, oldest) if now - self._facts_read_at >= FACTS_EVERY_S * 0.9 else {}
            if now - self._advice_read_at >= ADVICE_EVERY_S:
                facts["advice"] = await self._advice()
                self._advice_read_at = now
            if now - self._courses_read_at >= COURSES_EVERY_S:
                facts["courses"] = await self._courses.read(facts.get("experiments", before.experiments))
                self._courses_read_at = now
        if whole:
            self._whole_read_at = now
        versions = self._attempts.version, self._failures.version
        # What is filled in for older minutes (a replay, late corrections) did not happen now.
        recent = self._recent_since(now)
        self._arrive(self._arrivals, self._attempts, self._attempts.put(attempts, since=recent), 0, now)
        self._arrive(self._failure_arrivals, self._failures, self._failures.put(failures, since=recent), 1, now)
        parts = {
            "attempts": self._laid_out(self._attempts, before.attempts, versions[0], now),
            "failures": self._laid_out(self._failures, before.failures, versions[1], now),
            "arrivals": self._arrivals.arrivals(),
            "failure_arrivals": self._failure_arrivals.arrivals(),
        }
        changed = {name: part for name, part in facts.items() if part != getattr(before, name)}
        self.snapshot = msgspec.structs.replace(before, polled_at=now, **parts, **changed)

    def _arrive(self, ring: ArrivalRing, grid: MinuteGrid, changes: dict[Key, Counts], part: int, now: float) -> None:
        """Add what came in since the last poll; at the first one, what the last minutes hold."""
        if self.snapshot.polled_at is not None:
            ring.add(now, summed(changes, part))
            return
        counts = grid.counts(now).last(ARRIVALS_MINUTES + 1)
        names = counts.second if part else counts.first
        ring.begin(counts.minutes, names, counts.values.sum(axis=1 if part else 2), now)

    def _recent_since(self, now: float) -> float:
        """The first minute of an ordinary poll: a few back, or as far as polls were missed."""
        last = self.snapshot.polled_at or now
        return min(now, last) // MINUTE_S * MINUTE_S - MINUTE_S * (RECENT_MINUTES - 1)

    def _laid_out(self, grid: MinuteGrid, before: MinuteCounts, version: int, now: float) -> MinuteCounts:
        """The window as an array; the same object as before when neither the sums' version nor the minute changed."""
        if grid.version == version and before.minutes[-1] == now // MINUTE_S * MINUTE_S:
            return before
        counts = grid.counts(now)
        grid.forget(float(counts.minutes[0]))
        return counts

    async def _rows(self, collection: str, second: str, sums: dict[str, Any], since: float) -> list[Row]:
        pipeline: list[dict[str, Any]] = [
            {"$match": {"minute": {"$gte": datetime.fromtimestamp(since, UTC)}}},
            {"$group": {"_id": {"minute": "$minute", "first": "$gateway", "second": f"${second}"}, **sums}},
        ]
        cursor = await self._database[collection].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
        return [
            (
                _epoch_s(document["_id"]["minute"]),
                str(document["_id"].get("first") or OTHER),
                str(document["_id"].get("second") or OTHER),
                [int(document[name]) for name in sums],
            )
            async for document in cursor
        ]

    async def _facts(self, now: float, oldest: float) -> dict[str, Any]:
        """Read anomalies, experiments and heartbeats."""
        since = datetime.fromtimestamp(oldest, UTC)
        recent = {"$or": [{"closed_at": None}, {"closed_at": {"$gte": since}}]}
        anomalies, experiments, beats = await asyncio.gather(
            self._found("anomalies", recent, "detected_at", ANOMALIES_MAX),
            self._found("experiment_reports", {}, "_id", EXPERIMENTS_MAX),
            self._found("heartbeats", {"at": {"$gte": since}}, "at", WORKERS_MAX),
        )
        workers = self._workers(read_facts(beats, WorkerBeat))
        if workers != self.snapshot.workers:
            alive = [w for w in workers if state_of(now - w.beat.at, self._heartbeat_s) != "stopped"]
            self.snapshot.lag.append(now, lag_of(alive))
            self.snapshot.pace.append(now, pace_of(alive))
        self._facts_read_at = now
        return {
            "anomalies": read_facts(anomalies, AnomalySpan),
            "experiments": tuple(sorted(read_facts(experiments, ExperimentStanding), key=lambda e: e.experiment)),
            "workers": workers,
        }

    def _workers(self, beats: Sequence[WorkerBeat]) -> tuple[Worker, ...]:
        known = {worker.beat.instance: worker for worker in self.snapshot.workers}
        workers = []
        for beat in sorted(beats, key=lambda beat: (beat.stage, beat.instance)):
            last = known.get(beat.instance)
            workers.append(last if last and last.beat.at == beat.at else paced(beat, last.beat if last else None))
        return tuple(workers)

    async def _advice(self) -> tuple[AdviceCount, ...]:
        """Count which gateway the newest decisions put first."""
        by = {
            "gateway": {"$first": "$advice.ranking.gateway"},
            "policy": "$advice.policy",
            "exploring": {"$ifNull": ["$advice.exploring", False]},
        }
        pipeline: list[dict[str, Any]] = [
            {"$sort": {"decided_at": -1}},
            {"$limit": ADVICE_DECISIONS},
            {"$group": {"_id": by, "decisions": {"$sum": 1}}},
        ]
        cursor = await self._database["decisions"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
        counts = read_facts([document["_id"] | document async for document in cursor], AdviceCount)
        return tuple(sorted(counts, key=lambda count: (count.gateway, count.policy, count.exploring)))

    async def _found(self, collection: str, query: Document, newest_by: str, count_max: int) -> list[Document]:
        cursor = self._database[collection].find(query, limit=count_max, max_time_ms=QUERY_MS_MAX)
        return await cursor.sort(newest_by, -1).to_list()


_ATTEMPT_SUMS: Final[dict[str, Any]] = {name: {"$sum": f"${name}"} for name in COUNTS} | {
    f"latency_{bucket}": {"$sum": f"$latency.{bucket}"} for bucket in range(LATENCY_BUCKETS)
}
_FAILURE_SUMS: Final[dict[str, Any]] = {name: {"$sum": f"${name}"} for name in FAILURES}


def _epoch_s(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
