"""Draws a day of incidents by seed: for training and testing on trouble that nobody planned."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from simulator.world import facts
from simulator.world.draws import halves, slot_word, stream_key, word_at
from simulator.world.incidents import (
    AnyIncident,
    CardTesting,
    Degradation,
    Drift,
    FailureMixChange,
    FlashSale,
    Incident,
    LatencyBrownout,
    Maintenance,
    MarketingPush,
    Outage,
    QuietNight,
    ReversalWave,
    VolumeDrop,
)

DAY_S: Final = 86_400.0

Luck = Callable[[], float]

KINDS: Final[dict[type[Incident], float]] = {
    Outage: 20,
    Degradation: 22,
    Drift: 8,
    LatencyBrownout: 12,
    VolumeDrop: 6,
    FailureMixChange: 5,
    CardTesting: 4,
    ReversalWave: 4,
    FlashSale: 6,
    MarketingPush: 5,
    QuietNight: 3,
    Maintenance: 5,
}
"""How often each kind happens, relative weights."""

LASTS_S: Final[dict[type[Incident], tuple[float, float]]] = {
    Outage: (120, 2_400),
    Degradation: (300, 7_200),
    Drift: (3_600, 28_800),
    LatencyBrownout: (180, 3_600),
    VolumeDrop: (180, 1_800),
    FailureMixChange: (600, 7_200),
    CardTesting: (120, 1_800),
    ReversalWave: (600, 3_600),
    FlashSale: (600, 3_600),
    MarketingPush: (1_800, 14_400),
    QuietNight: (7_200, 21_600),
    Maintenance: (600, 3_600),
}
"""Shortest and longest of each kind, seconds; short ones are likelier."""


def random_incidents(seed: int, *, incidents: int = 24, day_s: float = DAY_S) -> list[AnyIncident]:
    """Draw one day of incidents, each repeated daily, by start.

    Args:
        seed: of the schedule; it has nothing to do with the seed of the world.
        incidents: how many, 0 to 500.
        day_s: length of the day, seconds, at least 32000.
    Raises: ValueError: a number is out of its range.
    """
    if not 0 <= incidents <= 500 or day_s < 32_000:
        raise ValueError(f"incidents={incidents} must be 0 to 500, and day_s={day_s} at least 32000")
    key = stream_key(seed, "schedule")
    drawn = [_drawn(word_at(key, place), day_s) for place in range(incidents)]
    return sorted(drawn, key=lambda incident: incident.starts_s)


def _drawn(word: int, day_s: float) -> AnyIncident:
    """Draw one incident: its kind, its length, its segment and its strength."""
    slots = iter(range(1, 100))

    def luck() -> float:
        return halves(slot_word(word, next(slots)))[0]

    kinds, weights = tuple(KINDS), np.cumsum(tuple(KINDS.values()))
    kind = kinds[int(weights.searchsorted(luck() * float(weights[-1]), side="right"))]
    low, high = LASTS_S[kind]
    when: dict[str, Any] = {
        "starts_s": round(luck() * (day_s - high), 1) if high < day_s else 0.0,
        "lasts_s": round(min(low * math.exp(luck() * math.log(high / low)), day_s), 1),
        "repeats_every_s": day_s,
    }
    return _shaped(kind, when | _segment(kind, luck), luck)


def _segment(kind: type[Incident], luck: Luck) -> dict[str, str]:
    """A part of the traffic: often one gateway, sometimes one issuer, one issuer at one gateway, or one method."""
    gateway = {"gateway": facts.GATEWAYS[int(luck() * len(facts.GATEWAYS))]}
    issuer = {"issuer": facts.ISSUER_NAMES[int(luck() ** 2 * len(facts.ISSUERS))]}
    method = {"method": facts.METHODS[int(luck() * len(facts.METHODS))]}
    which = luck()
    if kind is Maintenance:
        return gateway
    if issubclass(kind, VolumeDrop | FlashSale | MarketingPush | QuietNight | CardTesting):
        return method if which < 0.3 and kind is VolumeDrop else {}
    if which < 0.5:
        return gateway
    if which < 0.7:
        return issuer
    return gateway | issuer if which < 0.85 else method


def _shaped(kind: type[Incident], where: dict[str, Any], luck: Luck) -> AnyIncident:
    """Give an incident its strength."""
    if kind is Degradation:
        return Degradation(points=(5.0, 10.0, 20.0)[int(luck() * 3)], **where)
    if kind is Drift:
        return Drift(points=round(5 + 20 * luck(), 1), **where)
    if kind is LatencyBrownout:
        return LatencyBrownout(factor=round(2 + 4 * luck(), 1), **where)
    if kind is VolumeDrop:
        return VolumeDrop(factor=round(0.5 * luck(), 2), **where)
    if kind is FailureMixChange:
        return FailureMixChange(categories={"suspected_fraud": 60, "do_not_honor": 40}, **where)
    if kind is ReversalWave:
        return ReversalWave(share=round(0.05 + 0.25 * luck(), 2), **where)
    if kind is FlashSale:
        return FlashSale(factor=round(3 + 3 * luck(), 1), **where)
    if kind is Outage:
        return Outage(success=round(0.1 * luck(), 3), **where)
    plain: tuple[type[CardTesting | MarketingPush | QuietNight | Maintenance], ...]
    plain = (CardTesting, MarketingPush, QuietNight, Maintenance)
    return next(one for one in plain if one is kind)(**where)
