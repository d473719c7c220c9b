"""The anomaly watcher's Isolation Forest: fitted to stored history as the watcher would have heard it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from actors.anomaly_tuning import contamination_in_force
from actors.anomaly_watcher import AnomalyWatcher
from actors.anomaly_words import segment_key
from actors.rebuilding import PastTraffic, warmed
from actors.serving import ANOMALY_FOREST, loaded_or_none
from config.settings import Settings
from messaging.contracts import Anomaly, FailuresClassified
from ml.anomalies.forest import Forest
from ml.anomalies.forest_training import SeenMinutes, Trouble, trained
from ml.anomalies.segments import overlap
from ml.lack import TooFewData
from storage.anomalies import open_anomalies, recent_anomalies
from storage.database import Database
from storage.models import StoredModel, TrainedModel
from storage.rebuild import read_attempts, read_failures
from storage.rollups import attempts_by_minute

PIECE: Final = timedelta(minutes=2)
"""Read at once: at a thousand attempts a second some hundred megabytes."""

SPAN_MAX: Final = timedelta(hours=12)
ATTEMPTS_MAX: Final = 1_000_000
"""Lived through at most, the newest; some two minutes of one processor."""


async def train_forest(
    database: Database, settings: Settings, in_force: StoredModel | None, now: datetime
) -> TrainedModel | TooFewData:
    """Let a watcher live through the last hours again, and fit a forest to the minutes that were ordinary.

    What was not ordinary say the anomalies that were told then, and those the watcher finds now; those that an operator
    marked as false are none.
    """
    since = await _since(database, now)
    seen = SeenMinutes()
    watcher = AnomalyWatcher(**msgspec.structs.asdict(settings.anomalies), minute_ended=seen.add)
    await warmed(watcher, database, settings, since)
    past = PastTraffic(watcher, since)
    start = since
    while start < now:
        end = min(now, start + PIECE)
        attempts, failures = await read_attempts(database, start, end), await read_failures(database, start, end)
        told = FailuresClassified(batch_id="past", classified_at=now, failures=failures)
        await asyncio.to_thread(past.go_on, end, attempts, told)
        start = end
    stored = await open_anomalies(database) + await recent_anomalies(database, since)
    troubles = troubles_of(stored, list(past.anomalies.values()), now)
    rate = await contamination_in_force(database, settings.anomalies.contamination)
    serving = loaded_or_none(in_force, lambda stored: Forest.loaded(stored.body))
    found = await asyncio.to_thread(trained, seen, troubles, contamination=rate, in_force=serving)
    if isinstance(found, TooFewData):
        return found
    return TrainedModel(
        kind=ANOMALY_FOREST,
        body=found.forest.stored(),
        format="npz",
        window_from=since,
        window_to=now,
        metrics=found.metrics,
        better=found.better,
        note=found.note,
    )


def troubles_of(told: Sequence[Anomaly], found_again: Sequence[Anomaly], now: datetime) -> list[Trouble]:
    """What was unwell: what was told and nobody marked as false, and what is found now and is none of those.

    Args:
        told: stored anomalies.
        found_again: what a watcher without memory finds in the same time.
        now: what is still open lasts until then.
    """
    false = [_trouble(one, now) for one in told if one.handling.false_by is not None]
    true = [_trouble(one, now) for one in told if one.handling.false_by is None]
    again = [_trouble(one, now) for one in found_again]
    return true + [one for one in again if not any(_meet(one, other) for other in false)]


async def _since(database: Database, now: datetime) -> datetime:
    """From when on there are attempts, and not too many, to live through."""
    since, count = now, 0
    for minute, attempts in reversed(await attempts_by_minute(database, now - SPAN_MAX)):
        count += attempts
        if count > ATTEMPTS_MAX:
            break
        since = min(since, minute)
    return since


def _trouble(anomaly: Anomaly, now: datetime) -> Trouble:
    until = anomaly.closed_at or now
    return Trouble(segment=segment_key(anomaly.segment), since=anomaly.started_at.timestamp(), until=until.timestamp())


def _meet(one: Trouble, other: Trouble) -> bool:
    return overlap(one.segment, other.segment) and one.since <= other.until and other.since <= one.until
