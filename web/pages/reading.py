"""How pages and REST ask the read models: shared for a moment between all viewers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from aiohttp import web

from ml.routing.worth import Fees
from storage.read_models.anomalies import Anomalies, read_anomalies
from storage.read_models.chosen import ALL, Chosen
from storage.read_models.experiments import Experiments, read_experiments
from storage.read_models.failure_map import FailureMap, read_failure_map
from storage.read_models.failures import Failures, read_failures
from storage.read_models.gateway_standing import GatewayStanding, read_standings
from storage.read_models.gateways import Overview, read_overview
from storage.read_models.health import Health, read_health
from storage.read_models.history import History, HistoryQuery, read_history
from storage.read_models.routing import Routing, read_routing
from storage.read_models.success_cost import SuccessCost, read_success_cost
from web.choosing import LIVE_RANGES, LiveChoice
from web.dashboard.figures_data import MATURE_S
from web.keys import CLIENT, DATABASE, GATEWAYS, HISTORY, MINUTES, RECENT, SETTINGS, STARTED_AT, TRENDS
from web.live_proxy import dashboard_answers
from web.recent import RecentReads


class SystemHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The workers, and the two processes that serve people."""

    workers: Health
    web_started_at: datetime
    dashboard_answers: bool


def _shared(request: web.Request, chosen: Chosen) -> RecentReads:
    """For how long viewers share an answer: longer where single attempts are read for it."""
    return request.app[TRENDS if chosen.is_narrow else RECENT]


async def overview_of(request: web.Request, chosen: Chosen = ALL) -> Overview:
    """The whole system at a glance, or what was chosen."""
    database = request.app[DATABASE]
    key = f"overview {chosen.names}"
    return await _shared(request, chosen).get(key, lambda: read_overview(database, datetime.now(UTC), chosen))


async def minutes_of(request: web.Request, choice: LiveChoice) -> History:
    """The whole minutes that live charts show, and as many before them; read once a minute for each choice."""
    database, cube = request.app[DATABASE], request.app[HISTORY]
    ready = datetime.now(UTC) - timedelta(seconds=MATURE_S)
    until = ready.replace(second=0, microsecond=0)
    since = until - timedelta(minutes=LIVE_RANGES[choice.range])
    query = HistoryQuery(since=since, until=until, by="all", **msgspec.structs.asdict(choice.chosen))
    return await request.app[MINUTES].get(f"{choice.address()} {until}", lambda: read_history(database, cube, query))


async def standings_of(request: web.Request) -> list[GatewayStanding]:
    """How every gateway stands."""
    database, gateways = request.app[DATABASE], request.app[GATEWAYS]
    return await read_standings(database, datetime.now(UTC), gateways)


async def failures_of(request: web.Request, chosen: Chosen = ALL) -> Failures:
    """Failures by category, all or what was chosen."""
    database = request.app[DATABASE]
    key = f"failures {chosen.names}"
    return await _shared(request, chosen).get(key, lambda: read_failures(database, datetime.now(UTC), chosen))


async def failure_map_of(request: web.Request) -> FailureMap:
    """Where payments fail, and what moved."""
    database = request.app[DATABASE]
    return await request.app[TRENDS].get("failure map", lambda: read_failure_map(database, datetime.now(UTC)))


async def routing_of(request: web.Request, chosen: Chosen = ALL) -> Routing:
    """The router's work, all or what was chosen."""
    database = request.app[DATABASE]
    key = f"routing {chosen.names}"
    return await request.app[TRENDS].get(key, lambda: read_routing(database, datetime.now(UTC), chosen))


async def success_cost_of(request: web.Request) -> SuccessCost:
    """Success against cost."""
    database = request.app[DATABASE]
    fees = {name: Fees(**msgspec.structs.asdict(one.fee)) for name, one in request.app[GATEWAYS].items()}
    return await request.app[TRENDS].get("success cost", lambda: read_success_cost(database, fees, datetime.now(UTC)))


async def anomalies_of(request: web.Request) -> Anomalies:
    """Open and closed anomalies."""
    database = request.app[DATABASE]
    return await request.app[RECENT].get("anomalies", lambda: read_anomalies(database))


async def experiments_of(request: web.Request) -> Experiments:
    """How the experiments stand."""
    database = request.app[DATABASE]
    return await request.app[RECENT].get("experiments", lambda: read_experiments(database))


async def health_of(request: web.Request) -> SystemHealth:
    """Who lives."""

    async def ask() -> SystemHealth:
        settings = request.app[SETTINGS]
        workers = await read_health(request.app[DATABASE], datetime.now(UTC), heartbeat_s=settings.runner.heartbeat_s)
        answers = await dashboard_answers(request.app[CLIENT], settings.dashboard)
        return SystemHealth(workers=workers, web_started_at=request.app[STARTED_AT], dashboard_answers=answers)

    return await request.app[RECENT].get("health", ask)
