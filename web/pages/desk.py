"""The desk: one anomaly with what people do about it, trained models, and dead letters."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import web

from storage.models import list_models
from web.api.anomalies import AnomalyParams, anomaly, saved, similar
from web.api.dead_letters import QUEUES, SHOWN_MAX, QueueParams, letters
from web.api.operation import Call, Problem
from web.keys import DATABASE
from web.rendering import page

T = TypeVar("T")

MODELS_MAX = 100


async def one_anomaly(request: web.Request) -> web.Response:
    """One anomaly: what is known, and what people did."""
    params = AnomalyParams(anomaly_id=request.match_info["anomaly_id"][:80])
    shown = await _or_error(anomaly(Call(request), params))
    alike = await _or_error(similar(Call(request), params))
    brought = await _or_error(saved(Call(request), params))
    context = {"anomaly": shown.anomaly, "note": shown.note, "similar": alike.items, "saved": brought}
    return page(request, "anomaly.html", context)


async def models(request: web.Request) -> web.Response:
    """The versions of every model."""
    found = await list_models(request.app[DATABASE], limit=MODELS_MAX)
    kinds = {version.kind: [one for one in found if one.kind == version.kind] for version in found}
    return page(request, "models.html", {"kinds": kinds})


async def dead_letters(request: web.Request) -> web.Response:
    """What could not be handled."""
    asked = request.query.get("queue")
    queue = asked if asked in QUEUES else None
    problem, found = None, []
    try:
        found = await letters(Call(request), QueueParams(queue=queue))
    except Problem as refused:
        problem = refused.detail
    context = {"letters": found, "queue": queue, "queues": QUEUES, "problem": problem, "shown_max": SHOWN_MAX}
    return page(request, "dead_letters.html", context)


async def _or_error(asking: Awaitable[T]) -> T:
    try:
        return await asking
    except Problem as problem:
        raise (web.HTTPNotFound() if problem.status == 404 else web.HTTPServiceUnavailable()) from None
