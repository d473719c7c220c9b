"""How the router advisor starts: from the store, beside what goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime

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
from config.settings import Settings, resolved
from messaging.contracts import GatewayPause, GatewayResumed, RouteAdvised, RoutingOverride
from ml.routing.policies import PolicySettings
from storage.audit import AuditEntry, audit_entry
from storage.database import Database
from storage.gateway_pauses import record_pause, record_resumption
from storage.routing_overrides import record_override
from tests.factories import request

NOW = datetime.now(UTC)


def upkeep(settings: Settings, database: Database) -> tuple[RouterUpkeep, RouterAdvisor]:
    """A router without its loop, and what keeps it up to the store."""
    terms, pulse = gateway_terms(settings), Pulse("router_advisor", database)
    policies = PolicySettings(memory_half_life_s=43_200, exploration_floor=0, canary_share=0.02, draws=64, cells_max=99)
    worker = RouterAdvisor(terms, policies, default_policy="adaptive", generator=np.random.default_rng(0))
    file = RulesFile(resolved(settings.routing.rules_path), terms)
    return RouterUpkeep(worker, database, settings.routing, file, pulse), worker


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


def _ranked(advised: RouteAdvised) -> set[str]:
    return {each.gateway for each in advised.ranking}
