"""The live figures: reads the store once for all viewers, every second or so, and keeps the last hour in memory."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog

from storage.database import Database, Document
from storage.errors import StoreError, translated
from storage.read_models.annotations import Annotation, read_actions
from storage.read_models.chosen import ALL, Chosen
from storage.read_models.health import state_of
from storage.read_models.live_chosen import ChosenFigures, NarrowFigures, stale_since
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
from storage.read_models.live_series import WINDOW_MINUTES, ReadingRing
from storage.read_models.live_traffic import QUERY_MS_MAX, LiveTraffic, Traffic, oldest_minute

FACTS_EVERY_S: Final = 1.0
ADVICE_EVERY_S: Final = 5.0
COURSES_EVERY_S: Final = 5.0
ACTIONS_EVERY_S: Final = 5.0
ADVICE_DECISIONS: Final = 2_000
ANOMALIES_MAX: Final = 200
EXPERIMENTS_MAX: Final = 50
WORKERS_MAX: Final = 200
CHOICES_MAX: Final = 12
"""Different choices that are followed at a time; each costs the store two small queries a poll."""

NARROW_CHOICES_MAX: Final = 3
"""Those among them that only single attempts tell; each may keep the store busy for a second in a minute."""


class LiveSnapshot(Traffic, frozen=True, kw_only=True, eq=False):
    """Everything the charts draw. A part that did not change is the same object as in the snapshot before.

    ``lag``: waiting messages per stage. ``pace``: messages per second per stage.
    """

    lag: ReadingRing
    pace: ReadingRing
    anomalies: tuple[AnomalySpan, ...] = ()
    experiments: tuple[ExperimentStanding, ...] = ()
    workers: tuple[Worker, ...] = ()
    advice: tuple[AdviceCount, ...] = ()
    courses: tuple[ExperimentCourse, ...] = ()
    actions: tuple[Annotation, ...] = ()


class LiveFigures:
    """Polls MongoDB and holds the newest snapshot. One per process; viewers only read it.

    Args:
        database: an open handle.
        gateways: the gateways that are configured; they come first, in this order, everywhere.
        poll_ms: time between polls, milliseconds.
        heartbeat_s: how often a worker gives a sign of life, seconds.
        clock: gives the time, seconds since epoch.
    """

    is_narrow = False
    reach = WINDOW_MINUTES

    def __init__(
        self,
        database: Database,
        *,
        gateways: Sequence[str],
        poll_ms: int,
        heartbeat_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._gateways = database, gateways
        self._poll_s = poll_ms / 1000
        self._heartbeat_s = heartbeat_s
        self._clock = clock
        self._traffic = LiveTraffic(database, gateways, clock())
        self._chosen: weakref.WeakValueDictionary[Chosen, ChosenFigures] = weakref.WeakValueDictionary()
        self._courses = CourseReader(database)
        self._facts_read_at = self._advice_read_at = float("-inf")
        self._courses_read_at = self._actions_read_at = float("-inf")
        self._log = structlog.get_logger("live_figures")
        known = msgspec.structs.asdict(self._traffic.known)
        self.snapshot = LiveSnapshot(**known, lag=ReadingRing(), pace=ReadingRing())

    @property
    def points(self) -> int:
        """How many sums of attempts are known that are not zero."""
        return self._traffic.points

    def of(self, chosen: Chosen) -> LiveFigures | ChosenFigures:
        """The figures of a choice; they are followed for as long as somebody holds them.

        Raises: ValueError: too many different choices are followed already.
        """
        if chosen == ALL:
            return self
        figures = self._chosen.get(chosen)
        if figures is None:
            if len(self._chosen) >= CHOICES_MAX:
                raise ValueError(f"{CHOICES_MAX} different choices are looked at already; take one of theirs, or wait")
            narrow = [known for known in self._chosen if known.is_narrow]
            if chosen.is_narrow and len(narrow) >= NARROW_CHOICES_MAX:
                raise ValueError(
                    f"{NARROW_CHOICES_MAX} different choices by country, amount or arm are looked at already; "
                    "take one of theirs, or wait"
                )

            def make() -> LiveTraffic:
                return LiveTraffic(self._database, self._gateways, self._clock(), chosen)

            figures = (NarrowFigures if chosen.is_narrow else ChosenFigures)(self, make, chosen)
            self._chosen[chosen] = figures
        return figures

    def stale_since(self, now: float) -> float | None:
        """Since when the store did not answer; None: the figures are fresh, or there were never any.

        Args:
            now: seconds since epoch.
        """
        return stale_since(self.snapshot.polled_at, now, self._poll_s)

    async def run(self, polled: Callable[[], None] = lambda: None) -> None:
        """Poll until cancelled. While MongoDB does not answer the last figures stay, and polling goes on.

        Args:
            polled: called after each poll, also after one that failed.
        """
        await self._repeat(self.poll, polled)

    async def run_narrow(self) -> None:
        """The same for what only single attempts tell, beside it: nobody else waits for these."""
        await self._repeat(self.poll_narrow, lambda: None)

    async def _repeat(self, poll: Callable[[], Awaitable[None]], polled: Callable[[], None]) -> None:
        answered = True
        while True:
            began = time.monotonic()
            try:
                await poll()
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
        await self._traffic.poll(now)
        with translated():
            facts = await self._facts(now) if now - self._facts_read_at >= FACTS_EVERY_S * 0.9 else {}
            if now - self._advice_read_at >= ADVICE_EVERY_S:
                facts["advice"] = await self._advice()
                self._advice_read_at = now
            if now - self._courses_read_at >= COURSES_EVERY_S:
                facts["courses"] = await self._courses.read(facts.get("experiments", before.experiments))
                self._courses_read_at = now
            if now - self._actions_read_at >= ACTIONS_EVERY_S:
                facts["actions"] = await self._actions(now)
                self._actions_read_at = now
        changed = {name: part for name, part in facts.items() if part != getattr(before, name)}
        known = msgspec.structs.asdict(self._traffic.known)
        self.snapshot = msgspec.structs.replace(before, **known, **changed)
        for figures in tuple(self._chosen.values()):
            if not figures.is_narrow:
                await figures.poll(now)

    async def poll_narrow(self) -> None:
        """Read what changed of what only single attempts tell, where it is time to.

        Raises: StoreError: MongoDB did not answer or refused; the snapshots stay as they were.
        """
        for figures in tuple(self._chosen.values()):
            now = self._clock()
            if isinstance(figures, NarrowFigures) and figures.is_due(now):
                await figures.poll(now)

    async def _facts(self, now: float) -> dict[str, Any]:
        """Read anomalies, experiments and heartbeats."""
        since = datetime.fromtimestamp(oldest_minute(now), UTC)
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
        """Count which gateway the newest decisions put first, for all choices at once."""
        by = {
            "gateway": {"$first": "$advice.ranking.gateway"},
            "method": "$request.method",
            "issuer": {"$ifNull": ["$request.issuer", "unknown"]},
            "currency": "$request.currency",
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
        return tuple(sorted(counts, key=msgspec.structs.astuple))

    async def _actions(self, now: float) -> tuple[Annotation, ...]:
        """What people and automatic actions did within the window, until now."""
        since, until = (datetime.fromtimestamp(at, UTC) for at in (oldest_minute(now), now))
        return tuple(await read_actions(self._database, since, until))

    async def _found(self, collection: str, query: Document, newest_by: str, count_max: int) -> list[Document]:
        cursor = self._database[collection].find(query, limit=count_max, max_time_ms=QUERY_MS_MAX)
        return await cursor.sort(newest_by, -1).to_list()
