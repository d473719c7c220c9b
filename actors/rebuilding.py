"""Watches past traffic once more: what the anomaly watcher of today would have told of it."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from actors.anomaly_watcher import AnomalyWatcher
from actors.wiring import history_cell
from config.settings import Settings
from messaging.contracts import (
    Anomaly,
    AnomalyClosed,
    AnomalyOpened,
    AnomalyUpdated,
    AttemptsRecorded,
    FailureClassified,
    FailuresClassified,
    RecordedAttempt,
)
from storage.anomalies import replace_anomalies
from storage.database import Database
from storage.rebuild import Progress, read_attempts, read_failures
from storage.rollups import read_sums

STEP: Final = timedelta(seconds=1)
"""How often the watcher is told the time, as in the running line."""


class PastTraffic:
    """Hands the attempts of the past to a watcher as they became known, second by second.

    Args:
        watcher: without memory but for its warm start.
        since: where it begins.
    """

    def __init__(self, watcher: AnomalyWatcher, since: datetime) -> None:
        self._watcher = watcher
        self._now = since
        self._known: list[tuple[datetime, str, RecordedAttempt]] = []
        self._verdicts: dict[str, FailureClassified] = {}
        self._batches = 0
        self.anomalies: dict[str, Anomaly] = {}

    def go_on(self, until: datetime, attempts: Sequence[RecordedAttempt], failures: FailuresClassified) -> None:
        """Live through the time until a moment, in which these attempts began."""
        for attempt in attempts:
            heapq.heappush(self._known, (attempt.occurred_at, attempt.attempt_id, attempt))
        self._verdicts.update((failure.attempt_id, failure) for failure in failures.failures)
        while self._now < until:
            self._now += STEP
            batch = list(self._due())
            if batch:
                self._batches += 1
                name = f"bat_past_{self._batches}"
                told = [self._verdicts.pop(one.attempt_id) for one in batch if one.attempt_id in self._verdicts]
                recorded = AttemptsRecorded(batch_id=name, recorded_at=self._now, attempts=batch)
                reasons = FailuresClassified(batch_id=f"{name}.failures", classified_at=self._now, failures=told)
                for _ in self._watcher.handle([recorded, reasons], self._now):
                    pass
            for said in self._watcher.tick(self._now):
                if isinstance(said, AnomalyOpened | AnomalyUpdated | AnomalyClosed):
                    self.anomalies[said.anomaly.anomaly_id] = said.anomaly

    def _due(self) -> Iterator[RecordedAttempt]:
        while self._known and self._known[0][0] <= self._now:
            yield heapq.heappop(self._known)[2]


async def warmed(watcher: AnomalyWatcher, database: Database, settings: Settings, since: datetime) -> None:
    """Let a watcher learn what was normal before a moment of the past."""
    baseline = timedelta(minutes=settings.anomalies.baseline_minutes)
    cells = [
        history_cell(document)
        async for document in read_sums(database, since - baseline)
        if document["since"] + timedelta(seconds=document["seconds"]) <= since
    ]
    watcher.warm_start(cells, [], since)


async def rebuild_anomalies(
    database: Database, settings: Settings, spans: Sequence[tuple[datetime, datetime]], now: datetime
) -> AsyncIterator[Progress]:
    """Find the anomalies of a range again, and replace the closed ones that nobody has spoken of.

    What is still unwell at the end of the range is closed there, and says so.
    """
    since, until = spans[0][0], spans[-1][1]
    watcher = AnomalyWatcher(**msgspec.structs.asdict(settings.anomalies))
    await warmed(watcher, database, settings, since)
    past = PastTraffic(watcher, since)
    for start, end in spans:
        attempts = await read_attempts(database, start, end)
        failures = await read_failures(database, start, end)
        past.go_on(end, attempts, FailuresClassified(batch_id="past", classified_at=now, failures=failures))
        yield Progress(start, end, len(attempts))
    found = [
        anomaly
        if anomaly.closed_at is not None
        else msgspec.structs.replace(anomaly, closed_at=until, closed_because="the rebuilt range ends here")
        for anomaly in past.anomalies.values()
    ]
    await replace_anomalies(database, found, since, until)
