"""The pages that show one read model each: overview, failures, routing, anomalies, experiments, health, settings."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from config.settings import masked
from ml.experiments.metrics import METRICS
from ml.experiments.units import MATURE
from storage.errors import TooManyAttempts
from storage.read_models.chosen import CHOICES, DIMENSIONS, FAILURE_CHOICES
from storage.read_models.gateways import FIRST_ATTEMPTS_MAX
from storage.read_models.measures import WINDOW_MINUTES
from storage.read_models.routing import ATTEMPTS_LOOKED_AT, DECISIONS_COUNTED_MAX, PAIRS_MAX
from storage.routing_overrides import override_in_force
from web.choosing import LIVE_RANGES, LiveChoice, live_choice
from web.keys import DATABASE, GATEWAYS, HINDSIGHT, HISTORY, SETTINGS
from web.pages.people import only_for
from web.pages.reading import (
    anomalies_of,
    experiments_of,
    failure_map_of,
    failures_of,
    health_of,
    minutes_of,
    overview_of,
    routing_of,
)
from web.rendering import page
from web.time_range import RANGES

HINDSIGHT_RANGE: Final = "24h"


async def overview(request: web.Request) -> web.Response:
    """The system at a glance, or what was chosen of it."""
    choice = live_choice(request.query)
    context = await _bounded("overview", overview_of(request, choice.chosen)) | _choosing(request, choice, CHOICES)
    context |= {
        "minutes": await minutes_of(request, choice) if choice.compare else None,
        "first_attempts_max": FIRST_ATTEMPTS_MAX,
    }
    return page(request, "overview.html", context, status=400 if choice.problem or context["too_many"] else 200)


async def failures(request: web.Request) -> web.Response:
    """Why payments fail, and where."""
    choice = live_choice(request.query, FAILURE_CHOICES)
    context = await _bounded("failures", failures_of(request, choice.chosen))
    context |= {"map": await failure_map_of(request)} | _choosing(request, choice, FAILURE_CHOICES)
    return page(request, "failures.html", context, status=400 if choice.problem or context["too_many"] else 200)


async def routing(request: web.Request) -> web.Response:
    """Where payments go, and why."""
    choice = live_choice(request.query, DIMENSIONS)
    context = _choosing(request, choice, DIMENSIONS) | {
        "routing": await routing_of(request, choice.chosen),
        "decisions_max": DECISIONS_COUNTED_MAX,
        "attempts_max": ATTEMPTS_LOOKED_AT,
        "pairs_max": PAIRS_MAX,
        "hindsight": request.app[HINDSIGHT].at_hand(HINDSIGHT_RANGE),
        "override": await override_in_force(request.app[DATABASE], datetime.now(UTC)),
        "configured": [*request.app[GATEWAYS]],
        "rules_path": request.app[SETTINGS].routing.rules_path,
    }
    return page(request, "routing.html", context, status=400 if choice.problem else 200)


async def anomalies(request: web.Request) -> web.Response:
    """What is or was unwell."""
    return page(request, "anomalies.html", {"anomalies": await anomalies_of(request)})


async def experiments(request: web.Request) -> web.Response:
    """How the experiments stand."""
    return page(
        request, "experiments.html", {"experiments": await experiments_of(request), "metrics": METRICS, "kinds": MATURE}
    )


async def health(request: web.Request) -> web.Response:
    """Who lives, and what was refused."""
    return page(request, "health.html", {"health": await health_of(request)})


async def settings(request: web.Request) -> web.Response:
    """The settings in force, without secrets."""
    only_for(request, "settings:read")
    sections = {name: list(flat(values)) for name, values in masked(request.app[SETTINGS]).items()}
    return page(request, "settings.html", {"sections": sections})


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """List nested settings by their dotted name.

    >>> flat({"a": 1, "b": {"c": 2}})
    [('a', 1), ('b.c', 2)]
    """
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        rows += flat(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return rows


async def _bounded(name: str, reading: Awaitable[Any]) -> dict[str, Any]:
    """What was read, by its name; none where there is too much of it, and ``too_many`` says so."""
    try:
        return {name: await reading, "too_many": ""}
    except TooManyAttempts as error:
        return {name: None, "too_many": str(error)}


def _choosing(request: web.Request, choice: LiveChoice, dimensions: Sequence[str]) -> dict[str, Any]:
    """What the bar above live views needs: the choice, and what else can be chosen."""
    known = request.app[HISTORY].names()
    return {
        "choice": choice,
        "window_minutes": WINDOW_MINUTES,
        "names": {dimension: known[dimension] for dimension in dimensions},
        "live_ranges": [*LIVE_RANGES],
        "long_ranges": [name for name in RANGES if name not in LIVE_RANGES],
    }
