"""When something down the line cannot take more, workers wait, say so, lose nothing, and go on by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from actors.taking import BATCHES_HELD_MAX
from cli.services.mongodb import PrivateMongoDB
from cli.services.rabbitmq import PrivateRabbitMQ
from config.settings import Settings
from messaging.client import RoutingClient
from messaging.connection import Connection
from storage.database import Database
from tests.conftest import eventually, management
from tests.factories import report, request
from tests.integration.line import head_of_line, opened, running, say
from tests.recount import attempt_rollups, attempts_recounted

FULL = 3


def told_by(database: Database, stage: str, text: str) -> Callable[[], Awaitable[bool]]:
    """Whether the heartbeat of a worker says this."""

    async def said() -> bool:
        beat = await database["heartbeats"].find_one({"stage": stage})
        return beat is not None and text in (beat["last_error"] or "")

    return said


def holds(database: Database, collection: str, number: int) -> Callable[[], Awaitable[bool]]:
    """Whether a collection holds so many documents."""

    async def counted() -> bool:
        return await database[collection].count_documents({}) == number

    return counted


async def test_a_full_queue_down_the_line_holds_the_ingestor_until_it_is_emptied(
    settings: Settings, rabbitmq: PrivateRabbitMQ
) -> None:
    """The ingestor stores, waits with the announcement, says why in its heartbeat, and loses nothing."""
    vhost = settings.broker.url.rsplit("/", 1)[1]
    limit = msgspec.json.encode(
        {"pattern": "^failure_classifier$", "definition": {"max-length": FULL}, "apply-to": "queues"}
    )
    management(rabbitmq, "PUT", f"/api/policies/{vhost}/full", limit)
    async with opened(settings) as database, head_of_line(settings) as channel, running(settings, "ingestor"):
        refused = told_by(database, "ingestor", "full")
        for number in range(60):  # one by one, so that each makes a batch of its own
            await say(channel, [report(number, status="failed")])
            stored = holds(database, "attempts", number + 1)

            async def taken_or_refused(stored: Callable[[], Awaitable[bool]] = stored) -> bool:
                return await stored() or await refused()

            await eventually(taken_or_refused, within_s=20)
            if await refused():
                break
        await eventually(refused, within_s=20)
        await say(channel, [report(number, status="failed") for number in range(100, 200)])
        async with running(settings, "failure_classifier"):
            await eventually(lambda: _agree(database, 100), within_s=40)


async def _agree(database: Database, at_least: int) -> bool:
    """Every stored attempt is classified, no announcement waits, and the sums are right."""
    attempts = await database["attempts"].count_documents({})
    return (
        attempts >= at_least
        and await database["failures"].count_documents({}) == attempts
        and await database["outbox"].count_documents({"published_at": None}) == 0
        and await attempt_rollups(database) == await attempts_recounted(database)
    )


async def test_a_broker_without_disk_space_blocks_publishers_and_is_told(
    settings: Settings, rabbitmq: PrivateRabbitMQ
) -> None:
    """Reports wait, routes fall back in time, the workers say why, and all of it goes on when there is space again."""
    async with opened(settings) as database, running(settings, "ingestor", "router_advisor"):
        client = await RoutingClient.connect(settings.broker.url, fallback=["zulu"])
        await client.report(report(1))
        await eventually(holds(database, "attempts", 1), within_s=20)
        await asyncio.to_thread(rabbitmq.control, "set_disk_free_limit", "1000000GB")
        try:
            waiting = [asyncio.create_task(client.report(report(number))) for number in range(2, 30)]
            item = request(1, requested_at=datetime.now(UTC))
            route = await client.route(item, timeout_ms=150)
            assert (route.answered, route.gateways) == (False, ["zulu"])
            assert route.elapsed_ms < 5_000
            assert not any(task.done() for task in waiting)
        finally:
            await asyncio.to_thread(rabbitmq.control, "set_disk_free_limit", "50MB")
        await asyncio.gather(*waiting)
        await eventually(holds(database, "attempts", 29), within_s=30)
        await client.close()


async def test_a_worker_says_that_the_broker_takes_nothing(settings: Settings, rabbitmq: PrivateRabbitMQ) -> None:
    """A connection that is blocked knows it, and knows when it is no more."""
    connection = await Connection.open(settings.broker.url, name="test", wait_s_max=10)
    channel = await connection.channel()
    await asyncio.to_thread(rabbitmq.control, "set_disk_free_limit", "1000000GB")
    try:
        from messaging.envelope import Envelope

        sent = channel.publish(b"{}", Envelope(type="test"), exchange="", routing_key="nowhere", mandatory=False)

        async def blocked() -> bool:
            return connection.blocked is not None

        await eventually(blocked, within_s=20)
        assert "disk" in (connection.blocked or "")
        assert not sent.done()
    finally:
        await asyncio.to_thread(rabbitmq.control, "set_disk_free_limit", "50MB")
    await sent
    assert connection.blocked is None
    await connection.close()


async def test_a_store_that_is_away_leaves_the_rest_at_the_broker(settings: Settings, tmp_path: Path) -> None:
    """Only what fits a worker's hands is taken meanwhile: its memory is bounded however long the store is away."""
    held_max = BATCHES_HELD_MAX * settings.runner.batches.ingestor.size_max
    async with PrivateMongoDB(tmp_path / "mongodb", cache_gb=0.25) as store:
        settings = msgspec.structs.replace(settings, store=msgspec.structs.replace(settings.store, url=store.url))
        async with opened(settings) as database, head_of_line(settings) as channel, running(settings, "ingestor"):
            await say(channel, [report(0)])
            await eventually(holds(database, "attempts", 1), within_s=20)
            store.kill()
            count = held_max + 700
            await say(channel, [report(number) for number in range(1, count)])

            async def the_rest_waits() -> bool:
                return await channel.count_ready("ingestor") >= count - 1 - held_max

            await eventually(the_rest_waits, within_s=10)
            await asyncio.sleep(0)
            await store.start()
            await eventually(holds(database, "attempts", count), within_s=60)
            assert await attempt_rollups(database) == await attempts_recounted(database)


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
