"""The router advisor needs nobody: not the store, not even when its connection is cut meanwhile."""

from __future__ import annotations

import asyncio
import gc
import warnings
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec

from cli.services.mongodb import PrivateMongoDB
from cli.services.rabbitmq import PrivateRabbitMQ
from config.settings import Settings
from messaging.client import RoutingClient
from storage.database import close, connect, declare
from tests.conftest import eventually, management
from tests.factories import request
from tests.integration.line import running


async def test_a_router_answers_without_a_store_on_a_new_connection(
    settings: Settings, rabbitmq: PrivateRabbitMQ, tmp_path: Path
) -> None:
    """The store dies, then every connection is cut: the router answers again, and stores it all when it can."""
    async with PrivateMongoDB(tmp_path / "mongodb", cache_gb=0.25) as store:
        settings = msgspec.structs.replace(settings, store=msgspec.structs.replace(settings.store, url=store.url))
        async with running(settings, "router_advisor"):
            client = await RoutingClient.connect(settings.broker.url, fallback=["zulu"])
            numbers = iter(range(1, 10_000))
            asked: list[str] = []

            async def answered() -> bool:
                item = request(number := next(numbers), request_id=f"req_{number}", requested_at=datetime.now(UTC))
                route = await client.route(item, timeout_ms=300)
                if route.answered:
                    asked.append(item.request_id)
                return route.answered

            await eventually(answered, within_s=30)
            store.kill()
            assert await answered()
            await asyncio.to_thread(_cut_connections, settings, rabbitmq)
            await eventually(answered, within_s=15)
            await store.start()
            database = await connect(settings.store)
            await declare(database, settings.store)

            async def stored() -> bool:
                return await database["decisions"].count_documents({"request.request_id": {"$in": asked}}) == len(asked)

            await eventually(stored, within_s=20)
            await client.close()
            await close(database)
    with warnings.catch_warnings():  # PyMongo leaves a connection that was cut under way to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def test_a_decision_that_cannot_be_stored_holds_up_no_other(settings: Settings) -> None:
    """A moment that MongoDB cannot keep is answered and not stored; the router lives and the next ones are stored."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    async with running(settings, "router_advisor"):
        client = await RoutingClient.connect(settings.broker.url, fallback=["zulu"])

        async def answered() -> bool:
            return (await client.route(request(1, requested_at=datetime.now(UTC)), timeout_ms=300)).answered

        await eventually(answered, within_s=20)
        before_time = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
        odd = [request(number, requested_at=before_time) for number in range(2, 5)]
        good = [request(number, requested_at=datetime.now(UTC)) for number in range(5, 8)]
        routes = await asyncio.gather(*(client.route(item, timeout_ms=1_000) for item in odd + good))
        assert all(route.answered for route in routes)

        async def stored() -> bool:
            return await database["decisions"].count_documents({}) == 4

        await eventually(stored)
        await client.close()
    await close(database)


async def test_a_router_that_is_told_to_stop_under_load_ends_in_order(settings: Settings) -> None:
    """What it answered last is stored once, by one store at a time."""
    for _ in range(3):
        async with running(settings, "router_advisor"):
            client = await RoutingClient.connect(settings.broker.url, fallback=["zulu"])

            async def answered(client: RoutingClient = client) -> bool:
                return (await client.route(request(1, requested_at=datetime.now(UTC)), timeout_ms=300)).answered

            await eventually(answered, within_s=20)
            load = [
                asyncio.create_task(client.route(request(number, requested_at=datetime.now(UTC)), timeout_ms=500))
                for number in range(10_000, 10_600)
            ]
            await asyncio.sleep(0.15)
        await asyncio.gather(*load)
        await client.close()


def _cut_connections(settings: Settings, rabbitmq: PrivateRabbitMQ) -> None:
    vhost = settings.broker.url.rsplit("/", 1)[1]
    found: list[dict[str, str]] = []
    while not found:  # the management plug-in lists a connection some seconds after it was made
        found = msgspec.json.decode(management(rabbitmq, "GET", f"/api/vhosts/{vhost}/connections"))
    for connection in found:
        name = connection["name"].replace(" ", "%20").replace(">", "%3E")
        management(rabbitmq, "DELETE", f"/api/connections/{name}")
