"""How the system stands now: overview, failures, routing, experiments, health."""

from __future__ import annotations

from typing import Literal

import msgspec

from storage.read_models.chosen import Chosen
from storage.read_models.experiments import Experiments
from storage.read_models.failure_map import FailureMap
from storage.read_models.failures import Failures
from storage.read_models.gateways import Overview
from storage.read_models.routing import Routing
from storage.read_models.routing_hindsight import RoutingHindsight
from storage.read_models.success_cost import SuccessCost
from web.api.choices import ArmName, Band, CountryCode, Name
from web.api.operation import Call, Operation, Params
from web.keys import HINDSIGHT
from web.pages.reading import (
    SystemHealth,
    experiments_of,
    failure_map_of,
    failures_of,
    health_of,
    overview_of,
    routing_of,
    success_cost_of,
)


def _chosen(params: Params) -> Chosen:
    named = msgspec.structs.asdict(params)
    return Chosen(**{dimension: (name,) for dimension, name in named.items() if name is not None})


class OverviewParams(Params, frozen=True, kw_only=True):
    """Which attempts; all when nothing is named."""

    gateway: Name | None = None
    method: Name | None = None
    issuer: Name | None = None
    currency: Name | None = None
    country: CountryCode | None = None
    amount: Band | None = None
    arm: ArmName | None = None


async def overview(call: Call, params: OverviewParams) -> Overview:
    """The system at a glance: the last minutes, the minutes before them, and each gateway's part."""
    return await overview_of(call.request, _chosen(params))


class FailuresParams(Params, frozen=True, kw_only=True):
    """Which failures; all when nothing is named."""

    gateway: Name | None = None
    currency: Name | None = None
    country: CountryCode | None = None
    amount: Band | None = None


async def failures(call: Call, params: FailuresParams) -> Failures:
    """Failures of the last minutes by category."""
    return await failures_of(call.request, _chosen(params))


async def failure_map(call: Call) -> FailureMap:
    """Authorization by gateway and issuer in the last hour, and the parts that moved since the hour before."""
    return await failure_map_of(call.request)


async def success_cost(call: Call) -> SuccessCost:
    """Success against fees, as the router expected both: what was done, and what other balances would have brought."""
    return await success_cost_of(call.request)


class RoutingParams(Params, frozen=True, kw_only=True):
    """Which payments; all when nothing is named. Decisions are not told apart by country, amount or arm."""

    gateway: Name | None = None
    method: Name | None = None
    issuer: Name | None = None
    currency: Name | None = None


async def routing(call: Call, params: RoutingParams) -> Routing:
    """The router's newest decisions, added up: all, or those of what is chosen that put one of its gateways first."""
    return await routing_of(call.request, _chosen(params))


class RegretParams(Params, frozen=True, kw_only=True):
    """Over how long."""

    range: Literal["15m", "1h", "6h", "24h", "7d"] = "24h"


async def regret(call: Call, params: RegretParams) -> RoutingHindsight:
    """What routing earned and missed: regret in hindsight, what exploring cost, and uplift against the control slice.

    Each with a 95 % interval, or with the reason why there is none. It is told anew once a minute at most, so an answer
    may be that old. The newest 30,000 decisions of the range are looked at; `complete` says whether these were all.
    """
    return await call.app[HINDSIGHT].get(params.range)


async def experiments(call: Call) -> Experiments:
    """How the experiments stand."""
    return await experiments_of(call.request)


async def health(call: Call) -> SystemHealth:
    """Who lives: every worker, the web and the dashboard process."""
    return await health_of(call.request)


OPERATIONS = (
    Operation("GET", "/api/v1/overview", overview, params=OverviewParams, answer=Overview),
    Operation("GET", "/api/v1/failures", failures, params=FailuresParams, answer=Failures),
    Operation("GET", "/api/v1/failures/map", failure_map, answer=FailureMap),
    Operation("GET", "/api/v1/routing/success-cost", success_cost, answer=SuccessCost),
    Operation("GET", "/api/v1/routing", routing, params=RoutingParams, answer=Routing, shared=True),
    Operation("GET", "/api/v1/routing/regret", regret, params=RegretParams, answer=RoutingHindsight),
    Operation("GET", "/api/v1/experiments", experiments, answer=Experiments),
    Operation("GET", "/api/v1/health", health, answer=SystemHealth),
)
