"""Draws the incidents of a long stream: all kinds, some two at once, among sales, pushes and maintenance.

An incident lasts at least some times as long as the physical limit of noticing it, and never hits what another one, or
maintenance, has hit a short while before or after: so all can be found in principle, and told apart. How strong and
where is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from simulator.offline import BEGAN_AT
from simulator.scenario import Scenario
from simulator.world import facts
from simulator.world.incidents import (
    AnyIncident,
    CardTesting,
    Degradation,
    Drift,
    FailureMixChange,
    FlashSale,
    LatencyBrownout,
    Maintenance,
    MarketingPush,
    Outage,
    ReversalWave,
    VolumeDrop,
)
from simulator.world.rhythm import Rhythm, volume

DAY_S = 86_400.0
KINDS = {
    "gateway_outage": 1, "issuer_down": 1, "method_down": 1, "gateway_issuer_outage": 1, "points_20": 1,
    "points_10": 1, "points_5": 1, "pair_points": 1, "latency": 1, "latency_pair": 1, "volume": 1,
    "failure_mix": 1, "card_testing": 1, "drift": 1, "reversals": 1,
}  # fmt: skip
"""How often each kind is drawn, relative weights: all alike."""
NATS = 22.0
"""About what an alert takes when a week's budget is shared by hundreds of segments."""
LASTS = 4.0
"""An incident lasts so many times the limit, or its kind's least, whichever is longer."""
LASTS_S_MAX = 4 * 3600.0
GAP_S = 1800.0
"""What two incidents have in common, a gateway, an issuer or a method, is well at least so long between them."""
TRIES_MAX = 200
MIX = {"suspected_fraud": 60.0, "do_not_honor": 40.0}


def schedule(
    seed: int,
    *,
    rate: float,
    seconds: float,
    warm_s: float,
    incidents: int,
    rhythm: Rhythm = "daily",
) -> Scenario:
    """Draw one stream's story.

    Args:
        seed: of the schedule alone.
        rate: mean orders a second.
        seconds: length.
        warm_s: nothing is wrong so long.
        incidents: how many.
        rhythm: ``daily`` or ``flat``.
    """
    luck = np.random.default_rng([seed, 77])
    names, weights = list(KINDS), np.array(list(KINDS.values()), dtype=float) / sum(KINDS.values())
    drawn: list[AnyIncident] = []
    slot = (seconds - warm_s) / incidents
    for number in range(incidents):
        kind = names[number % len(names)] if number < 2 * len(names) else str(luck.choice(names, p=weights))
        start = warm_s + (number + float(luck.uniform(0.05, 0.4))) * slot
        if number % 7 == 6:  # two at once
            start = drawn[-1].starts_s + float(luck.uniform(0.1, 0.5)) * drawn[-1].lasts_s
        busy = float(volume(rhythm, np.array([BEGAN_AT + start, BEGAN_AT + start + 1800.0])).min())
        tries = (_moved(_incident(kind, luck, rate * busy), round(start, 1)) for _ in range(TRIES_MAX))
        drawn += _first_apart(tries, drawn)
    drawn = [one for one in drawn if one.starts_s + one.lasts_s < seconds - 120]
    harmless: list[AnyIncident] = []
    for one in _harmless(luck, seconds):
        tries = (_moved(one, round(luck.uniform(0.2, 0.9) * seconds, 1)) for _ in range(TRIES_MAX))
        harmless += _first_apart(tries, [*drawn, *harmless])
    return Scenario(title=f"Benchmark {seed}", rhythm=rhythm, incidents=[*drawn, *harmless])


def _first_apart(tries: Iterable[AnyIncident], others: list[AnyIncident]) -> list[AnyIncident]:
    """The first incident that no other one hides, if there is any."""
    return list(islice((one for one in tries if not any(_hide(one, other) for other in others)), 1))


def _hide(one: AnyIncident, other: AnyIncident) -> bool:
    """Whether two incidents hit the same at about the same time."""
    first, second = sorted((one, other), key=lambda incident: incident.starts_s)
    if second.starts_s > first.starts_s + first.lasts_s + GAP_S:
        return False
    parts, others = _parts(one), _parts(other)
    return bool(parts & others) or (not parts and type(one) is type(other))


def _parts(incident: AnyIncident) -> set[tuple[str, str]]:
    named = ((name, getattr(incident, name, None)) for name in ("gateway", "issuer", "method"))
    return {(name, value) for name, value in named if value is not None}


def _harmless(luck: np.random.Generator, seconds: float) -> list[AnyIncident]:
    days = max(1, round(seconds / DAY_S))
    found: list[AnyIncident] = []
    for _ in range(days):
        found.append(FlashSale(starts_s=0, lasts_s=float(luck.uniform(600, 3600)), factor=float(luck.uniform(3, 6))))
        if luck.random() < 0.6:
            found.append(MarketingPush(starts_s=0, lasts_s=float(luck.uniform(1800, 14_400)), factor=1.6))
        if luck.random() < 0.6:
            gateway = str(luck.choice(facts.GATEWAYS))
            found.append(Maintenance(starts_s=0, lasts_s=float(luck.uniform(600, 3600)), gateway=gateway))
    return found


def _moved(incident: AnyIncident, start: float) -> AnyIncident:
    return msgspec.structs.replace(incident, starts_s=start)


def _incident(kind: str, luck: np.random.Generator, rate: float) -> AnyIncident:
    """One incident of a kind, strong enough for the traffic of its segment."""
    weights = np.array([issuer.weight for issuer in facts.ISSUERS]) / sum(issuer.weight for issuer in facts.ISSUERS)
    gateway, method = str(luck.choice(facts.GATEWAYS)), str(luck.choice(facts.METHODS))
    issuer = int(luck.choice(8 if rate >= 5 else 4))
    name, share = facts.ISSUER_NAMES[issuer], float(weights[issuer])
    of_method = float(facts.METHOD_WEIGHTS[facts.METHODS.index(method)])
    low = 0.9 * rate
    if kind == "gateway_outage":
        return Outage(**_when(_success_s(low / 5, 0.12, 0.95), 180), gateway=gateway, success=0.05)
    if kind == "issuer_down":
        return Outage(**_when(_success_s(low * share, 0.12, 0.95), 240), issuer=name, success=0.05)
    if kind == "method_down":
        return Outage(**_when(_success_s(low * of_method, 0.12, 0.95), 180), method=method, success=0.06)
    if kind == "gateway_issuer_outage":
        return Outage(**_when(_success_s(low / 5 * share, 0.12, 0.9), 300), gateway=gateway, issuer=name, success=0.08)
    if kind.startswith("points"):
        points = {"points_20": 20.0, "points_10": 10.0, "points_5": 5.0}[kind]
        while _success_s(low / 5, 0.12, 0.12 + points / 100) * LASTS > LASTS_S_MAX:
            points *= 1.6
        when = _when(_success_s(low / 5, 0.12, 0.12 + points / 100), 600)
        return Degradation(**when, gateway=gateway, points=min(points, 60.0))
    if kind == "pair_points":
        points = 30.0
        while _success_s(low / 5 * share, 0.12, 0.12 + points / 100) * LASTS > LASTS_S_MAX and points < 75:
            points *= 1.3
        when = _when(_success_s(low / 5 * share, 0.12, 0.12 + points / 100), 900)
        return Degradation(**when, gateway=gateway, issuer=name, points=points)
    if kind.startswith("latency"):
        factor = float(luck.uniform(2, 3))
        part: dict[str, Any] = {"gateway": gateway} if luck.random() < 0.6 else {"issuer": name}
        part = {"gateway": gateway, "method": "upi"} if kind == "latency_pair" else part
        within = low * (share if "issuer" in part else 0.2) * (0.52 if kind == "latency_pair" else 1.0)
        return LatencyBrownout(
            **_when(NATS / (within * 0.85 * math.log(factor) ** 2 / 0.5), 240), factor=factor, **part
        )
    if kind == "volume":
        factor = float(luck.uniform(0.0, 0.3))
        of: dict[str, Any] = {} if luck.random() < 0.5 else {"method": str(luck.choice(("card", "upi")))}
        within = low * (0.3 if of else 1.0)
        return VolumeDrop(**_when(NATS / (within * (1 - factor)), 420), factor=factor, **of)
    if kind == "failure_mix":
        return FailureMixChange(**_when(NATS / (low / 5 * 0.11 * 1.5), 900), gateway=gateway, categories=MIX)
    if kind == "card_testing":
        return CardTesting(**_when(0.0, 420), orders_factor=float(luck.uniform(0.3, 1.0)))
    if kind == "drift":
        points = 15.0
        while _success_s(low / 5, 0.12, 0.12 + points / 200) * 3 > 3 * 3600 and points < 50:
            points *= 1.4
        return Drift(starts_s=0, lasts_s=3 * 3600.0, gateway=gateway, points=min(points, 50.0))
    assert kind == "reversals"
    return ReversalWave(**_when(NATS / (low / 5 * 0.2 * 3), 900), gateway=gateway, share=float(luck.uniform(0.1, 0.3)))


def _when(limit_s: float, least_s: float) -> dict[str, Any]:
    return {"starts_s": 0.0, "lasts_s": round(min(max(LASTS * limit_s, least_s), LASTS_S_MAX), 1)}


def _success_s(per_second: float, before: float, after: float) -> float:
    """Seconds until there are enough nats against a failure rate that rose."""
    nats = after * math.log(after / before) + (1 - after) * math.log((1 - after) / (1 - before))
    return NATS / (per_second * nats)
