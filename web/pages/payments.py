"""Single payments: search, the latest ones, and the whole story of one attempt."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from storage.read_models.attempts import STATUSES, Story, find_ids, read_latest, read_story
from web.keys import DATABASE
from web.rendering import page


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One point on the timeline: the template shows ``about`` according to ``kind``."""

    at: datetime
    kind: str
    about: Any = None


async def payments(request: web.Request) -> web.Response:
    """The latest attempts, or what a search found."""
    database = request.app[DATABASE]
    searched = request.query.get("q", "").strip()
    status = request.query.get("status")
    status = status if status in STATUSES else None
    if not searched:
        context = {"attempts": await read_latest(database, status), "status": status, "statuses": STATUSES}
        return page(request, "payments.html", {**context, "searched": None})
    found = await find_ids(database, searched)
    if len(found) == 1:
        raise web.HTTPSeeOther(f"/payments/{quote(found[0].attempt_id, safe='')}")
    if not found:
        return page(request, "payment_unknown.html", {"wanted": searched, "search": searched}, status=404)
    context = {"attempts": found, "status": None, "statuses": STATUSES, "searched": searched, "search": searched}
    return page(request, "payments.html", context)


async def payment(request: web.Request) -> web.Response:
    """One attempt's whole story."""
    wanted = request.match_info["attempt_id"]
    story = await read_story(request.app[DATABASE], wanted)
    if story is None:
        return page(request, "payment_unknown.html", {"wanted": wanted, "search": wanted}, status=404)
    return page(request, "payment.html", {"story": story, "events": timeline(story), "search": wanted})


def timeline(story: Story) -> list[Event]:
    """Put everything that is known of an attempt in the order in which it happened."""
    attempt = story.attempt
    events = [Event(at=attempt.attempted_at, kind="attempted", about=attempt)]
    if story.decision is not None:
        events.append(Event(at=story.decision.request.requested_at, kind="requested", about=story.decision.request))
        events.append(Event(at=story.decision.advice.advised_at, kind="advised", about=story.decision))
    events += [Event(at=report.occurred_at, kind="reported", about=report) for report in attempt.history]
    if story.failure is not None:
        events.append(Event(at=_failed_at(story), kind="classified", about=story.failure))
    events += [Event(at=anomaly.detected_at, kind="anomaly", about=anomaly) for anomaly in story.anomalies]
    return sorted(events, key=lambda event: (event.at, ORDER.index(event.kind)))


ORDER = ("anomaly", "requested", "advised", "attempted", "reported", "classified")
"""What comes first when two things have the same moment."""


def _failed_at(story: Story) -> datetime:
    failed = [report.occurred_at for report in story.attempt.history if report.status == "failed"]
    return failed[-1] if failed else story.attempt.occurred_at
