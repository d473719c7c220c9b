"""How the router advisor starts: from the store, beside what goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

import actors.router_upkeep
from actors.pulse import Pulse, utc_now
from actors.router_advisor import RouterAdvisor
from actors.router_knowledge import RouterKnowledge
from actors.router_start import History, learned_from
from actors.router_upkeep import RouterUpkeep
from actors.router_wiring import gateway_terms
from actors.routing_rules import RulesFile
from cli.services.mongodb import PrivateMongoDB
from cli.services.rabbitmq import PrivateRabbitMQ
from config.settings import Settings, StoreSettings, resolved
from messaging.client import Route, RoutingClient
from messaging.contracts import GatewayPause, GatewayResumed, RouteAdvised, RoutingOverride
from ml.routing.policies import PolicySettings
from storage.audit import AuditEntry, audit_entry
from storage.database import Database, close, handle
from storage.gateway_pauses import record_pause, record_resumption
from storage.routing_overrides import record_override
from tests.conftest import eventually, management
from tests.factories import request
from tests.integration.line import opened, running

NOW = datetime.now(UTC)


def upkeep(settings: Settings, database: Database) -> tuple[RouterUpkeep, RouterAdvisor]:
    """A router without its loop, and what keeps it up to the store."""
    terms, pulse = gateway_terms(settings), Pulse("router_advisor", database)
    policies = PolicySettings(memory_half_life_s=43_200, exploration_floor=0, canary_share=0.02, draws=64, cells_max=99)
    worker = RouterAdvisor(terms, policies, default_policy="adaptive", generator=np.random.default_rng(0))
    file = RulesFile(resolved(settings.routing.rules_path), terms)
    return RouterUpkeep(worker, database, settings, file, pulse), worker


async def pause(database: Database, gateway: str) -> None:
    """An operator pauses a gateway; the word of it is lost."""
    paused = GatewayPause(pause_id=f"pau_{gateway}", gateway=gateway, kind="pause", starts_at=NOW, ends_at=None,
                          who="olga", reason="incident 7")  # fmt: skip
    await record_pause(database, paused, said())


def said() -> AuditEntry:
    """What the audit log keeps of an operator's word."""
    return audit_entry(NOW, who="olga", what="said", subject="routing")


async def test_what_operators_say_while_a_router_learns_from_the_store_is_not_forgotten(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learning takes seconds, and what was read before them is older than what is found in the store meanwhile."""
    reading, may_end = threading.Event(), threading.Event()

    def slowly(history: History, fresh: RouterKnowledge, now: datetime) -> RouterKnowledge:
        reading.set()
        assert may_end.wait(20)
        return learned_from(history, fresh, now)

    monkeypatch.setattr(actors.router_upkeep, "learned_from", slowly)
    keeping, worker = upkeep(settings, database)
    await pause(database, "alpha")
    starting = asyncio.create_task(keeping.start())
    await asyncio.to_thread(reading.wait, 20)
    resumed = GatewayResumed(pause_id="pau_alpha", gateway="alpha", resumed_at=NOW, who="olga", reason="well again")
    assert await record_resumption(database, resumed, said())
    await pause(database, "bravo")
    order = RoutingOverride(override_id="ovr_1", order=["delta"], starts_at=NOW, ends_at=None, who="olga", reason="7")
    await record_override(database, order, said())
    await asyncio.wait_for(keeping.refresh(), 10)  # which does not wait for what is being learned
    heeded = worker.advise(request(1), utc_now())
    may_end.set()
    await starting
    for advised in (heeded, worker.advise(request(2), utc_now())):
        assert (advised.policy, advised.ranking[0].gateway) == ("override", "delta")
        assert {"alpha", "bravo"} - _ranked(advised) == {"bravo"}


async def test_a_router_that_starts_without_a_store_answers_and_learns_when_there_is_one(
    settings: Settings, rabbitmq: PrivateRabbitMQ, tmp_path: Path
) -> None:
    """It answers in time from its files, keeps what it decided, and once there is a store, stores all of it and knows
    what the store knows; meanwhile it goes on answering."""
    store = PrivateMongoDB(tmp_path / "mongodb", cache_gb=0.25)
    settings = msgspec.structs.replace(
        settings,
        runner=msgspec.structs.replace(settings.runner, heartbeat_s=1),
        store=await _with_a_past(store, settings),
    )
    numbers = iter(range(1, 10_000))
    routes: list[Route] = []

    async def ask() -> Route:
        route = await client.route(request(next(numbers), requested_at=datetime.now(UTC)), timeout_ms=2_000)
        routes.append(route)
        return route

    async def answered() -> bool:
        return (await ask()).answered

    async def waits() -> bool:
        name = f"/api/queues/{settings.broker.url.rsplit('/', 1)[1]}/router_advisor"
        queue = msgspec.json.decode(await asyncio.to_thread(management, rabbitmq, "GET", name))
        return queue.get("messages_unacknowledged", 0) >= len(asked())

    def asked() -> set[str]:
        return {route.decision.decision_id for route in routes if route.decision is not None}

    async def is_taught() -> bool:
        route = await ask()
        assert route.decision is not None, "a request was not answered while the router learned from the store"
        ranked = {each.gateway: each.expected_success for each in route.decision.ranking}
        return "bravo" not in ranked and ranked["echo"] > 0.85 and ranked["alpha"] < 0.2

    async with running(settings, "router_advisor"):
        client = await RoutingClient.connect(settings.broker.url, fallback=["zulu"])
        await eventually(answered, within_s=30)
        cold = await ask()
        assert cold.decision is not None
        assert "bravo" in {each.gateway for each in cold.decision.ranking}
        assert await eventually(waits, within_s=30)  # nothing is acknowledged that is not stored
        await store.start()
        await eventually(is_taught, within_s=40)
        async with opened(settings) as database:

            async def stored() -> bool:
                ids = {document["_id"] async for document in database["decisions"].find({}, {"_id": True})}
                return asked() <= ids

            async def lives() -> bool:
                return await database["heartbeats"].count_documents({"stage": "router_advisor"}) == 1

            await eventually(stored, within_s=20)
            await eventually(lives)
            assert "decided_at_1" in await database["decisions"].index_information()
        await client.close()
    await store.stop()


async def _with_a_past(store: PrivateMongoDB, settings: Settings) -> StoreSettings:
    """A store that knows which gateways are good and which is paused, has no indexes, and does not run."""
    await store.start()
    there = msgspec.structs.replace(settings.store, url=store.url)
    database = handle(there)
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    await database["attempt_rollups"].insert_many(
        [
            {"minute": minute, "gateway": gateway, "method": "upi", "issuer": "harbour_bank", "slot": 0} | sums
            for gateway, sums in (("echo", {"succeeded": 950, "failed": 50}), ("alpha", {"failed": 1_000}))
        ]
    )
    await pause(database, "bravo")
    await close(database)
    await store.stop()
    return there


def _ranked(advised: RouteAdvised) -> set[str]:
    return {each.gateway for each in advised.ranking}
