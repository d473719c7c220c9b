"""The demo's page for breaking something and watching the system react. Only where ``ipa demo`` runs the web."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web

from messaging.contracts import Anomaly
from storage.read_models.segments import SegmentsSeen, read_segments_seen
from web.auth import SESSION_COOKIE, csrf_fits
from web.demo_traffic import DemoTraffic, IncidentRefused, TrafficUnreachable, TrueIncident
from web.keys import CLIENT, DATABASE, RECENT, SETTINGS
from web.pages.people import only_for
from web.pages.reading import anomalies_of
from web.rendering import page

MINUTES_MAX: Final = 30
SHOWN_MAX: Final = 50
"""Incidents on the page, the newest first."""

GRACE_S: Final = 30.0
"""An anomaly raised this long after the end still counts as the answer to an incident: windows close late."""

SIGNALS_WATCHED: Final = frozenset({"success_rate", "latency", "volume", "failure_mix", "reversals"})
"""What the anomaly watcher looks at."""

UNREACHABLE: Final = (
    "The simulated traffic does not answer, so nothing was broken. It may be starting again; try once more in a moment."
)

log = structlog.get_logger("web.incidents")


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a person can let happen.

    ``incident`` is what the traffic is told; ``needs`` are the parts of the segment that must be chosen, ``refuses``
    those that must not.
    """

    name: str
    title: str
    incident: dict[str, Any]
    harmless: bool = False
    needs: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()


KINDS: Final = (
    Kind(name="outage", title="Outage: hardly any payment succeeds", incident={"kind": "outage"}),
    Kind(
        name="issuer_down",
        title="Issuer down at every gateway",
        incident={"kind": "outage"},
        needs=("issuer",),
        refuses=("gateway",),
    ),
    Kind(
        name="method_down",
        title="Method down at every gateway",
        incident={"kind": "outage"},
        needs=("method",),
        refuses=("gateway",),
    ),
    Kind(
        name="degradation_20",
        title="Degradation: success falls by 20 points",
        incident={"kind": "degradation", "points": 20},
    ),
    Kind(
        name="degradation_10",
        title="Degradation: success falls by 10 points",
        incident={"kind": "degradation", "points": 10},
    ),
    Kind(
        name="degradation_5",
        title="Degradation: success falls by 5 points",
        incident={"kind": "degradation", "points": 5},
    ),
    Kind(
        name="drift",
        title="Slow drift: success falls bit by bit, 25 points at the end",
        incident={"kind": "drift", "points": 25},
    ),
    Kind(
        name="latency",
        title="Latency brownout: answers take five times as long",
        incident={"kind": "latency", "factor": 5},
    ),
    Kind(
        name="volume_drop",
        title="Volume drop: three of four orders stay away",
        incident={"kind": "volume_drop", "factor": 0.25},
        refuses=("gateway",),
    ),
    Kind(
        name="card_testing",
        title="Card testing: stolen cards are tried with tiny amounts",
        incident={"kind": "card_testing"},
        refuses=("gateway", "method"),
    ),
    Kind(
        name="failure_mix",
        title="Other reasons: as many payments fail, mostly with time-outs",
        incident={"kind": "failure_mix", "categories": {"network_timeout": 70, "issuer_unavailable": 30}},
    ),
    Kind(
        name="reversals",
        title="Reversal wave: one of four successes is taken back",
        incident={"kind": "reversals", "share": 0.25},
    ),
    Kind(
        name="flash_sale",
        title="Flash sale: four times the orders",
        incident={"kind": "flash_sale"},
        harmless=True,
        refuses=("gateway",),
    ),
    Kind(
        name="maintenance",
        title="Announced maintenance of a gateway",
        incident={"kind": "maintenance"},
        harmless=True,
        needs=("gateway",),
    ),
)
KINDS_BY_NAME: Final = {kind.name: kind for kind in KINDS}
PARTS: Final = ("gateway", "method", "issuer")


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What was put into the form, as it was typed."""

    kind: str = "outage"
    gateway: str = ""
    method: str = ""
    issuer: str = ""
    minutes: str = "3"


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """One true incident, and the anomalies that answer it, first raised first."""

    incident: TrueIncident
    is_running: bool
    is_watched: bool
    anomalies: list[Anomaly]


async def incidents(request: web.Request) -> web.Response:
    """What truly happens, and what the system says about it."""
    return await _shown(request, Wish())


async def trigger(request: web.Request) -> web.Response:
    """Let something happen now."""
    only_for(request, "gateways:write")
    form = await request.post()
    if not csrf_fits(request.cookies.get(SESSION_COOKIE), form.get("csrf")):
        raise web.HTTPForbidden
    wish = Wish(**{name: str(form.get(name, ""))[:60] for name in Wish.__struct_fields__})
    try:
        incident, lasts_s = ordered(wish)
        name = await _traffic(request).trigger(incident, lasts_s=lasts_s)
    except (ValueError, IncidentRefused) as error:
        return await _shown(request, wish, problem=str(error), status=422)
    except TrafficUnreachable as error:
        log.warning("traffic does not answer", error=str(error))
        return await _shown(request, wish, problem=UNREACHABLE, status=503)
    log.info("incident triggered", incident=name, **incident)
    raise web.HTTPSeeOther("/incidents")


def ordered(wish: Wish) -> tuple[dict[str, Any], float]:
    """What the traffic is told, and for how many seconds.

    Raises: ValueError: the form is not filled in so that it makes sense; says what to change.

    >>> ordered(Wish(gateway="bravo"))
    ({'kind': 'outage', 'gateway': 'bravo'}, 180.0)
    """
    kind = KINDS_BY_NAME.get(wish.kind)
    if kind is None:
        raise ValueError("Choose what shall happen.")
    try:
        minutes = float(wish.minutes)
    except ValueError:
        minutes = 0.0
    if not 1 <= minutes <= MINUTES_MAX:
        raise ValueError(f"Minutes must be a number from 1 to {MINUTES_MAX}.")
    segment = {part: getattr(wish, part) for part in PARTS if getattr(wish, part)}
    for part in kind.needs:
        if part not in segment:
            raise ValueError(f"“{kind.title}” needs one {part}: choose it.")
    for part in kind.refuses:
        if part in segment:
            raise ValueError(f"“{kind.title}” cannot be limited to one {part}: choose all there.")
    return kind.incident | segment, minutes * 60


def reactions(truth: Sequence[TrueIncident], said: Sequence[Anomaly], now: datetime) -> list[Reaction]:
    """Put beside each incident what the system said about it, newest incident first.

    An anomaly answers an incident when it was raised while that lasted, or GRACE_S later, and their segments overlap:
    a bank that is down shows at every gateway, so the anomaly may name another part than the incident.

    Args:
        truth: what truly happened.
        said: what the system called unwell, open or closed.
        now: to tell what is still running.
    """
    ordered_said = sorted(said, key=lambda anomaly: anomaly.detected_at)
    newest = sorted(truth, key=lambda incident: incident.starts_at, reverse=True)[:SHOWN_MAX]
    return [
        Reaction(
            incident=incident,
            is_running=incident.starts_at <= now < incident.ends_at,
            is_watched=incident.signal in SIGNALS_WATCHED,
            anomalies=[anomaly for anomaly in ordered_said if _answers(anomaly, incident)],
        )
        for incident in newest
    ]


def _answers(anomaly: Anomaly, incident: TrueIncident) -> bool:
    if not incident.starts_at <= anomaly.detected_at <= incident.ends_at + timedelta(seconds=GRACE_S):
        return False
    pairs = ((getattr(anomaly.segment, part), getattr(incident, part)) for part in PARTS)
    return all(said is None or true is None or said == true for said, true in pairs)


async def _shown(request: web.Request, wish: Wish, *, problem: str | None = None, status: int = 200) -> web.Response:
    anomalies = await anomalies_of(request)
    recent = request.app[RECENT]
    try:
        truth: list[TrueIncident] | None = await recent.get("true incidents", _traffic(request).incidents)
    except TrafficUnreachable:
        truth = None
    said = [*anomalies.open, *anomalies.closed]
    context: Mapping[str, Any] = {
        "reactions": None if truth is None else reactions(truth, said, datetime.now(UTC)),
        "anomalies": anomalies,
        "seen": await _seen(request),
        "kinds": KINDS,
        "minutes_max": MINUTES_MAX,
        "wish": wish,
        "problem": problem,
    }
    return page(request, "incidents.html", context, status=status)


async def _seen(request: web.Request) -> SegmentsSeen:
    database = request.app[DATABASE]
    return await request.app[RECENT].get("segments", lambda: read_segments_seen(database, datetime.now(UTC)))


def _traffic(request: web.Request) -> DemoTraffic:
    url = request.app[SETTINGS].web.demo_control_url
    assert url is not None  # the page has no address otherwise
    return DemoTraffic(request.app[CLIENT], url)
