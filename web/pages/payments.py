"""Single payments: search, the latest ones, and the whole story of one attempt."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, DecimalException
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web

from config.currencies import minor_digits
from storage.read_models.attempts import (
    LATEST_MAX,
    STATUSES,
    AttemptFilter,
    Story,
    find_ids,
    read_latest,
    read_story,
)
from web.api.operation import Problem
from web.api.pages import decoded, paged
from web.choosing import checked
from web.keys import DATABASE, GATEWAYS
from web.rendering import page
from web.time_range import moment

FILTERS: Final = {
    "status": "Status",
    "gateway": "Gateway",
    "method": "Method",
    "issuer": "Issuer",
    "network": "Network",
    "country": "Country",
    "currency": "Currency",
    "failure_code": "Failure code",
    "customer_id": "Customer",
    "amount_min": "Amount from",
    "amount_max": "Amount to",
    "since": "Since",
    "until": "Until",
}
"""Parameters of the address, and their names for people."""

FILTER_CHARS_MAX: Final = 80
AMOUNT_MINOR_MAX: Final = 10**15


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One point on the timeline: the template shows ``about`` according to ``kind``."""

    at: datetime
    kind: str
    about: Any = None


async def payments(request: web.Request) -> web.Response:
    """The latest attempts that fit the filters, page by page, or what a search for an id found."""
    database = request.app[DATABASE]
    searched = request.query.get("q", "").strip()
    asked = asked_of(request.query, datetime.now(UTC))
    context: dict[str, Any] = {"asked": asked, "statuses": STATUSES, "searched": None, "older": None}
    if not searched:
        try:
            before = decoded(request.query.get("before") or None, tuple[datetime, str])
            before = (before[0].astimezone(UTC), before[1]) if before is not None else None
        except (Problem, OverflowError):  # no cursor of ours, or a time that no calendar has
            before = None
        found = await read_latest(database, asked.filter, before=before, limit=LATEST_MAX + 1)
        shown = paged(found, LATEST_MAX, lambda attempt: (attempt.attempted_at, attempt.attempt_id))
        context |= {"attempts": shown.items, "is_first": before is None}
        if shown.next_cursor is not None:
            context["older"] = asked.address(before=shown.next_cursor)
        context["gateways"] = [*request.app[GATEWAYS]]
        return page(request, "payments.html", context, status=400 if asked.problem else 200)
    found = await find_ids(database, searched)
    if len(found) == 1:
        raise web.HTTPSeeOther(f"/payments/{quote(found[0].attempt_id, safe='')}")
    if not found:
        return page(request, "payment_unknown.html", {"wanted": searched, "search": searched}, status=404)
    context |= {"attempts": found, "searched": searched, "search": searched, "is_first": True, "gateways": []}
    return page(request, "payments.html", context)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The filters as they stand in the address, as they are understood, and what is wrong with them."""

    filter: AttemptFilter
    given: dict[str, str]
    problem: str | None

    def address(self, *, without: str = "", **more: str) -> str:
        """The query of the same page with one filter less, or with something more."""
        return urlencode({name: text for name, text in self.given.items() if name != without} | more)


def asked_of(query: Mapping[str, str], now: datetime) -> Asked:
    """Read the filters of an address; one that cannot be read is left out, and said to be.

    Args:
        query: of the address.
        now: the present, for moments such as ``now-2h``.
    """
    given = {name: text for name in FILTERS if (text := query.get(name, "").strip()[:FILTER_CHARS_MAX])}
    if given.get("status") not in (None, *STATUSES):
        del given["status"]
    understood: dict[str, Any] = {}
    problem = None
    for name, text in given.items():
        try:
            if name in ("since", "until"):
                understood[name] = moment(text, now)
            elif name == "country":
                understood[name] = checked(name, text)
            elif name in ("amount_min", "amount_max"):
                understood[name.replace("amount", "amount_minor")] = _minor(text, given.get("currency", ""))
            else:
                understood[name] = text
        except (ValueError, OverflowError) as error:
            problem = f"{FILTERS[name]}: {error}"
    return Asked(filter=AttemptFilter(**understood), given=given, problem=problem)


def _minor(text: str, currency: str) -> int:
    """An amount as people write it, in minor units.

    >>> _minor("12.50", "INR"), _minor("12", "JPY")
    (1250, 12)
    """
    try:
        amount = Decimal(text).scaleb(minor_digits(currency))
        fits = 0 <= amount <= AMOUNT_MINOR_MAX
    except DecimalException:  # no number, not even when compared, or beyond all bounds
        raise ValueError("an amount is written 1250 or 12.50.") from None
    if not fits:
        raise ValueError("an amount is not negative, and not beyond all money.")
    return int(amount)


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
