"""Trainer: fits each kind of model to the stored history on a schedule, and promotes it only if it is better.

It stands beside the line: it hears nothing and says nothing. Workers ask the model store now and then which version of
their model is in force. A kind of model is one row of ``jobs()``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog

from actors.housekeeping import keep_house
from actors.pulse import Pulse, utc_now
from actors.serving import ANOMALY_FOREST, FAILURE_TEXT, RELIABILITY
from config.settings import Settings
from ml.lack import TooFewData
from storage.database import Database
from storage.errors import StoreConflict, StoreError
from storage.models import ModelVersion, StoredModel, TrainedModel, add_candidate, model_in_force, promote

log = structlog.get_logger(__name__)

NAME: Final = "trainer"
LOOK_S: Final = 1.0
RETRY_S: Final = 30.0
"""How long a job that failed waits before it is tried again."""

TOO_FEW_S: Final = 300.0
"""How long a job waits that had not enough data yet."""

Train = Callable[[Database, Settings, StoredModel | None, datetime], Awaitable[TrainedModel | TooFewData]]
"""Fits a model to the history in the store; gets the model in force, to be compared with on later data, and the time.
What keeps the processor busy for long runs in ``asyncio.to_thread``, so that the heartbeat goes on."""


class Job(NamedTuple):
    """One kind of model: how often it is trained, and how."""

    kind: str
    every_s: float
    train: Train


class Training(NamedTuple):
    """What one training came to."""

    version: ModelVersion | None
    is_promoted: bool
    summary: str


def jobs(settings: Settings) -> tuple[Job, ...]:
    """Every kind of model there is. A job's own modules are imported here: nothing else needs them."""
    from actors.failure_training import train_failure_text
    from actors.forest_training import train_forest
    from actors.reliability_training import train_reliability
    from actors.shopper_training import KIND as SHOPPER_SEGMENTS
    from actors.shopper_training import train_shopper_segments

    return (
        Job(FAILURE_TEXT, settings.failures.train_every_s, train_failure_text),
        Job(SHOPPER_SEGMENTS, settings.shoppers.train_every_s, train_shopper_segments),
        Job(RELIABILITY, settings.routing.train_every_s, train_reliability),
        Job(ANOMALY_FOREST, settings.anomalies.retrain_s, train_forest),
    )


async def train(job: Job, database: Database, settings: Settings, now: datetime, *, hold: bool = False) -> Training:
    """Run one job: fit, store as a candidate, and promote it if it is better than what is in force.

    Args:
        job: what to train.
        database: where the history and the models are.
        settings: passed on to the job.
        now: the present.
        hold: leave the new version a candidate, however good it is.
    Raises: StoreError: the store does not answer, or refuses.
    """
    in_force = await model_in_force(database, job.kind)
    trained = await job.train(database, settings, in_force, now)
    if isinstance(trained, TooFewData):
        return Training(None, False, f"not enough data yet: {trained.seen} of about {trained.needed}")
    try:
        version = await add_candidate(database, trained, now)
    except StoreConflict:  # another trainer took this version number
        version = await add_candidate(database, trained, now)
    if hold or not trained.better:
        return Training(version, False, trained.note or "it is no better than the model in force")
    version = await promote(database, job.kind, version.version, reason=trained.note, now=now)
    return Training(version, True, trained.note)


class Trainer:
    """Runs every job when it is due, one after the other, until it is told to stop."""

    def __init__(self, table: tuple[Job, ...], database: Database, settings: Settings, pulse: Pulse) -> None:
        self._table = table
        self._database = database
        self._settings = settings
        self._pulse = pulse
        self._due: dict[str, datetime] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Train until ``stopping`` is set."""
        tasks = [
            asyncio.create_task(self._pulse.go_on(self._settings.runner.heartbeat_s, _no_queue)),
            asyncio.create_task(self._train_for_ever()),
            asyncio.create_task(keep_house(self._database, self._settings.store)),
            asyncio.create_task(stopping.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _train_for_ever(self) -> None:
        while True:
            for job in self._table:
                if self._due.get(job.kind, utc_now()) <= utc_now():
                    await self._run(job)
            await asyncio.sleep(LOOK_S)

    async def _run(self, job: Job) -> None:
        pause_s = job.every_s
        try:
            training = await train(job, self._database, self._settings, utc_now())
        except Exception as error:  # one job that cannot be done must not stop the others
            if not isinstance(error, StoreError):
                log.exception("training_failed", kind=job.kind)
            else:
                log.warning("training_failed", kind=job.kind, reason=str(error))
            self._pulse.note_error(f"{job.kind} could not be trained: {type(error).__name__}: {error}")
            pause_s = min(pause_s, RETRY_S)
        else:
            version = training.version.version if training.version else None
            log.info("trained", kind=job.kind, version=version, promoted=training.is_promoted, note=training.summary)
            if training.version is None:  # a young store has enough within the hour, not only at the next turn
                pause_s = min(pause_s, TOO_FEW_S)
            self._pulse.count_batch(1)
        self._due[job.kind] = utc_now() + timedelta(seconds=pause_s)


async def _no_queue() -> int | None:
    return None
