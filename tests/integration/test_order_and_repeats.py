"""Facts that come twice, late, or in another order than they happened change nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors.experiment_shelf import ExperimentShelf
from actors.failure_classifier import FailureClassifier
from actors.ingestor import Ingestor
from actors.pulse import Pulse
from actors.runner import Runner, Wiring
from actors.shelves import FailureShelf
from cli.services.rabbitmq import PrivateRabbitMQ
from config.settings import Settings
from messaging.connection import Connection
from messaging.contracts import AttemptReported, AttemptsRecorded
from messaging.topology import dead_queue_name, stage_named
from ml.experiments.units import COUNT_NAMES
from ml.failures.classifier import FailureModel
from storage.attempts import AttemptChange, AttemptState, find_attempts, record_changes
from storage.database import Database, close, connect, declare
from storage.errors import StoreConflict
from storage.experiments import ExperimentCounts, arm_counts
from tests.conftest import eventually, management
from tests.factories import NOON, batch, recorded, report
from tests.integration.line import head_of_line, running, say
from tests.recount import failure_rollups, failures_recounted

LATER = NOON + timedelta(seconds=30)
FAILED = recorded(1, status="failed", failure_code="51")
LATE = recorded(1, status="succeeded", status_previous="failed", occurred_at=LATER)


async def _no_newer_model() -> None:
    """The shipped model goes on serving."""


class Replica:
    """One failure classifier, step by step."""

    def __init__(self, database: Database, slot: int) -> None:
        self._shelf = FailureShelf(database, slot=slot, refresh=_no_newer_model)
        self._worker = FailureClassifier(FailureModel.shipped())

    async def load(self, message: AttemptsRecorded) -> object:
        """The first half of a batch."""
        return await self._shelf.load([message])

    async def store(self, message: AttemptsRecorded, known: object) -> None:
        """The second half of a batch."""
        facts = list(self._worker.handle([message], LATER, known))  # type: ignore[arg-type]
        await self._shelf.store([message], facts, [], known, LATER)


async def _in_force(database: Database) -> int:
    assert await failure_rollups(database) == await failures_recounted(database)
    return await database["failures"].count_documents({"withdrawn": False})


async def test_a_late_success_that_overtakes_its_failure_leaves_none(database: Database) -> None:
    """Two replicas take the failure and its correction; the correction is stored first."""
    one, other = Replica(database, 1), Replica(database, 2)
    first, second = batch("bat_1", FAILED), batch("bat_2", LATE)
    await other.store(second, await other.load(second))
    await one.store(first, await one.load(first))
    assert await _in_force(database) == 0


async def test_two_replicas_that_cross_each_other_conflict(database: Database) -> None:
    """Both loaded before either stored: the second one has to load again, and then agrees."""
    one, other = Replica(database, 1), Replica(database, 2)
    first, second = batch("bat_1", FAILED), batch("bat_2", LATE)
    known = await one.load(first)
    await other.store(second, await other.load(second))
    with pytest.raises(StoreConflict):
        await one.store(first, known)
    await one.store(first, await one.load(first))
    assert await _in_force(database) == 0


async def test_a_batch_that_was_published_twice_counts_once(settings: Settings) -> None:
    """A sweep may publish a batch that its replica publishes too; both then stand in one batch of the consumer."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    async with head_of_line(settings) as head:
        await say(head, [batch("bat_1", FAILED), batch("bat_1", FAILED), batch("bat_2", recorded(2))])
        with capture_logs() as logs:
            async with running(settings, "failure_classifier"):

                async def consumed() -> bool:
                    return await database["consumed"].count_documents({}) == 2

                await eventually(consumed)
        assert not [line for line in logs if line["event"] == "conflict"]
    assert await _in_force(database) == 1
    await close(database)


async def test_a_batch_waits_for_a_transaction_that_a_killed_worker_left(settings: Settings) -> None:
    """Its documents stay locked until MongoDB ends it; meanwhile the batch waits and its connection lives."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    async with head_of_line(settings) as head, database.client.start_session() as session:
        await session.start_transaction()
        await database["attempts"].insert_one({"_id": "att_1"}, session=session)
        with capture_logs() as logs:
            async with running(settings, "ingestor"):
                await say(head, [report(1)])
                await asyncio.sleep(3)
                await session.abort_transaction()

                async def stored() -> bool:
                    return await database["attempts"].count_documents({"_id": "att_1", "revision": 1}) == 1

                await eventually(stored)
        assert [line for line in logs if line["event"] == "conflict"]
        assert not [line for line in logs if line["event"] in ("store_unavailable", "connection_lost")]
    await close(database)


async def test_a_poison_message_takes_nothing_else_with_it(settings: Settings) -> None:
    """A worker that fails in the midst of a batch forgets what it took in, so the others are counted when alone."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    seen: set[str] = set()

    def handle(messages: Sequence[AttemptsRecorded], *_: Any) -> Iterator[ExperimentCounts]:
        for message in messages:
            if message.batch_id in seen:
                continue
            seen.add(message.batch_id)
            if message.batch_id == "bat_2":
                raise ValueError("not this one")
            yield ExperimentCounts(counts={("e:1", "e", "a"): (1, *[0] * (len(COUNT_NAMES) - 1))})

    async def start() -> None:
        seen.clear()

    stage = stage_named("experiment_allocator")
    wiring = Wiring(
        stage=stage, shelves=(ExperimentShelf(database),), handle=handle, tick=lambda _: iter(()), start=start
    )
    runner = Runner(wiring, database, settings.runner, Pulse(stage.name, database))
    stopping = asyncio.Event()
    async with head_of_line(settings) as head:
        await say(head, [batch(f"bat_{number}", recorded(number)) for number in range(1, 5)])
        connection = await Connection.open(settings.broker.url, name="runner", wait_s_max=10)
        task = asyncio.create_task(runner.run(connection, stopping))

        async def counted() -> bool:
            totals = await arm_counts(database)
            dead = await head.count_ready(dead_queue_name(stage.name))
            return totals.get(("e:1", "e", "a"), (0,))[0] == 3 and dead == 1

        await eventually(counted)
        stopping.set()
        await task
        await connection.close()
    await close(database)


async def test_a_worker_ends_when_told_although_a_queue_is_full(settings: Settings, rabbitmq: PrivateRabbitMQ) -> None:
    """What it could not publish lies in the outbox; the next worker publishes it."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    vhost = settings.broker.url.rsplit("/", 1)[1]
    policy = f"/api/policies/{vhost}/short"
    body = b'{"pattern":"^anomaly_watcher$","definition":{"max-length":1},"apply-to":"queues"}'
    async with head_of_line(settings) as head:
        await asyncio.to_thread(management, rabbitmq, "PUT", policy, body)
        with capture_logs() as logs:
            async with running(settings, "ingestor"):

                async def waits() -> bool:
                    await say(head, [report(len(logs) + 1_000)])
                    return any(line["event"] == "publish_waits" for line in logs)

                await eventually(waits, every_s=0.1)
                told = time.monotonic()
        assert time.monotonic() - told < 5
        assert await database["outbox"].count_documents({"published_at": None}) == 1
        await asyncio.to_thread(management, rabbitmq, "DELETE", policy)
        async with running(settings, "ingestor"):

            async def published() -> bool:
                return await database["outbox"].count_documents({"published_at": None}) == 0

            await eventually(published, within_s=20)
    await close(database)


async def test_a_batch_with_a_stored_attempt_and_a_correction_is_a_conflict(database: Database) -> None:
    """Whoever wrote half of the same reports first is noticed as such: the same writes again would fail for ever."""
    ingestor = Ingestor(["alpha"])

    async def write(*reports: AttemptReported, known: dict[str, AttemptState]) -> None:
        facts = ingestor.handle(reports, LATER, known, batch_id="bat_1")
        changes = [fact for fact in facts if isinstance(fact, AttemptChange)]
        await record_changes(database, changes, [], now=LATER, slot=1)

    await write(report(1), known={})
    known = await find_attempts(database, ["att_1"])
    correction = report(1, event_id="evt_1b", status="reversed", occurred_at=LATER)
    await write(report(2), known={})
    with pytest.raises(StoreConflict):
        await write(report(2), correction, known=known)
    await write(report(2), correction, known=await find_attempts(database, ["att_1", "att_2"]))
    assert await database["attempts"].find_one({"_id": "att_1", "status": "reversed"})
