"""Incident replay: scrub to any past moment and see what was known then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aiohttp import web

from storage.read_models.annotations import read_annotations
from storage.read_models.replay import read_moment
from web.keys import DATABASE
from web.rendering import page
from web.time_range import moment

AROUND = timedelta(hours=3)
STEPS = (("−15 min", -15), ("−1 min", -1), ("+1 min", 1), ("+15 min", 15))


async def replay(request: web.Request) -> web.Response:
    """The page."""
    now = datetime.now(UTC)
    problem = None
    try:
        at = min(now, moment(request.query.get("at") or "now-15m", now))
        if now - at > timedelta(days=3_650):
            raise ValueError("Nothing is kept from so long ago.")
        if offset := request.query.get("minutes_ago"):
            at = now - timedelta(minutes=min(10_080.0, max(0.0, float(offset))))
    except (ValueError, OverflowError) as error:
        problem, at = str(error)[:200], now - timedelta(minutes=15)
    database = request.app[DATABASE]
    context = {
        "moment": await read_moment(database, at),
        "annotations": await read_annotations(database, at - AROUND, min(now, at + AROUND)),
        "problem": problem,
        "steps": [(label, _written(min(now, at + timedelta(minutes=minutes)))) for label, minutes in STEPS],
        "written": _written(at),
        "minutes_ago": round((now - at).total_seconds() / 60),
    }
    return page(request, "replay.html", context, status=400 if problem else 200)


def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S")
