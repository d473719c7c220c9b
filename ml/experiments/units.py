"""One randomised unit of the experiments: what it was exposed to, what it did since, and what that adds to the sums.

A unit keeps its attempts, so that whatever comes later, twice or out of order (a late success, a reversal, an earlier
attempt) changes the sums to what they would be had everything come in time. What a unit adds is computed from it alone.
"""

from __future__ import annotations

from operator import add, sub
from typing import Final

import msgspec

from ml.experiments.metrics import METRICS, QUANTITIES

ATTEMPTS_MAX: Final = 200
"""Attempts that a unit counts at most; a customer with more is a machine, and its later attempts tell nothing new."""

MATURE: Final = {"order_id": "mature orders", "customer_id": "mature customers", "time_block": "blocks of time"}
"""What a comparison rests on, in words, by what an experiment splits."""

SETTLED: Final = frozenset({"succeeded", "failed", "reversed"})
"""Statuses with an outcome. A pending attempt has none yet, an abandoned one never gets one from the gateway."""

FINALITY: Final = ("pending", "abandoned", "failed", "succeeded", "reversed")
"""Which of two reports of the same moment stands."""

PARTS: Final = ("top", "bottom", "top_top", "top_bottom", "bottom_bottom")
SUM_NAMES: Final = ("units", *(f"{metric}.{part}" for metric in METRICS for part in PARTS))
"""What is added up over the units of an arm and stratum: first and second moments of every metric."""

COUNT_NAMES: Final = (
    "units", "orders", "attempts", "settled", "succeeded", "off_advice", "unconfirmed", "disagreed", "crossed",
)  # fmt: skip
"""What is counted at once, mature or not. ``off_advice``: attempts at another gateway than the advised one.
``unconfirmed``: units whose decision was not found, so that the hash was believed. ``disagreed``: units that were
decided in another arm than their hash says. ``crossed``: units that were decided in two arms."""

NO_COUNTS: Final = (0,) * len(COUNT_NAMES)
NO_SUMS: Final[tuple[float, ...]] = (0,) * len(SUM_NAMES)

AMOUNT_BANDS: Final = (10_000, 50_000, 200_000)
"""Edges between small, middle, large and very large amounts, minor units."""

_PAIRS: Final = tuple((QUANTITIES.index(metric.top), QUANTITIES.index(metric.bottom)) for metric in METRICS.values())


class AttemptSeen(msgspec.Struct, frozen=True, array_like=True):
    """What one attempt of a unit tells. Times in milliseconds since the epoch."""

    order_id: str
    number: int
    status: str
    attempted_ms: int
    occurred_ms: int
    amount_minor: int
    cost_minor: int
    latency_ms: int | None
    off_advice: bool

    def stands_over(self, other: AttemptSeen) -> bool:
        """Whether this is the later report of the two."""
        return (self.occurred_ms, FINALITY.index(self.status)) >= (other.occurred_ms, FINALITY.index(other.status))


class Exposure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """That a unit was really routed by an arm, and since when; ``counted``: it is mature and in the sums."""

    phase: str
    experiment: str
    arm: str
    stratum: str
    since_ms: int
    matures_ms: int
    counted: bool = False
    unconfirmed: bool = False
    disagreed: bool = False
    crossed: bool = False


class Unit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An order or a customer that takes part in experiments."""

    unit: str
    exposures: tuple[Exposure, ...] = ()
    attempts: dict[str, AttemptSeen] = {}

    def with_attempt(self, attempt_id: str, seen: AttemptSeen) -> Unit:
        """The unit after one more report; an older one than what is known changes nothing."""
        known = self.attempts.get(attempt_id)
        if known is None and len(self.attempts) >= ATTEMPTS_MAX:
            return self
        if known is not None and not seen.stands_over(known):
            return self
        return msgspec.structs.replace(self, attempts=self.attempts | {attempt_id: seen})

    def with_exposure(self, found: Exposure) -> Unit:
        """The unit after one more decision of an arm: the earliest one stays, whatever the order in which they come."""
        known = next((each for each in self.exposures if each.phase == found.phase), None)
        if known is None:
            return msgspec.structs.replace(self, exposures=(*self.exposures, found))
        kept = msgspec.structs.replace(
            min(known, found, key=lambda each: (each.since_ms, each.arm, each.stratum)),
            counted=known.counted,
            crossed=known.crossed or known.arm != found.arm,
            disagreed=known.disagreed or found.disagreed,
            unconfirmed=known.unconfirmed and found.unconfirmed,
        )
        return msgspec.structs.replace(
            self, exposures=tuple(kept if each is known else each for each in self.exposures)
        )

    def matured(self, now_ms: int) -> Unit:
        """The unit with every exposure counted that is old enough."""
        exposures = tuple(
            msgspec.structs.replace(each, counted=True) if not each.counted and each.matures_ms <= now_ms else each
            for each in self.exposures
        )
        return msgspec.structs.replace(self, exposures=exposures)

    @property
    def next_ms(self) -> int | None:
        """When the next of its exposures is mature; None: all are counted."""
        return min((each.matures_ms for each in self.exposures if not each.counted), default=None)


Tally = dict[tuple[str, str, str], tuple[int, ...]]
"""Counts by (phase, experiment, arm)."""

Sums = dict[tuple[str, str, str], tuple[float, ...]]
"""Sums by (phase, arm, stratum)."""


def changes(before: Unit | None, after: Unit) -> tuple[Tally, Sums]:
    """What a unit adds now that it did not add before; parts that do not change are left out."""
    counts: Tally = {}
    sums: Sums = {}
    for unit, sign in ((after, add), (before, sub)):
        if unit is None:
            continue
        for exposure in unit.exposures:
            did = quantities(unit, exposure.since_ms)
            arm = (exposure.phase, exposure.experiment, exposure.arm)
            counts[arm] = tuple(map(sign, counts.get(arm, NO_COUNTS), _counts_of(unit, exposure, did)))
            if exposure.counted:
                place = (exposure.phase, exposure.arm, exposure.stratum)
                sums[place] = tuple(map(sign, sums.get(place, NO_SUMS), sums_of(did)))
    return (
        {arm: change for arm, change in counts.items() if any(change)},
        {place: change for place, change in sums.items() if any(change)},
    )


def quantities(unit: Unit, since_ms: int) -> tuple[int, ...]:
    """What a unit did since its exposure, in the order of ``QUANTITIES``.

    Attempts before the exposure are not its doing. An order is paid once, however many of its attempts succeeded.
    """
    orders: dict[str, int | None] = {}
    settled = succeeded = first_settled = first_succeeded = cost = latency = latencies = attempts = 0
    for seen in unit.attempts.values():
        if seen.attempted_ms < since_ms:
            continue
        attempts += 1
        won = seen.status == "succeeded"
        if won or seen.order_id not in orders:
            orders[seen.order_id] = seen.amount_minor if won else None
        cost += seen.cost_minor
        if seen.latency_ms is not None:
            latency += seen.latency_ms
            latencies += 1
        if seen.status in SETTLED:
            settled += 1
            succeeded += won
            if seen.number == 1:
                first_settled += 1
                first_succeeded += won
    paid = [amount for amount in orders.values() if amount is not None]
    return (
        len(orders), len(paid), attempts, settled, succeeded, first_settled, first_succeeded,
        sum(paid), cost, latency, latencies,
    )  # fmt: skip


def sums_of(did: tuple[int, ...]) -> tuple[float, ...]:
    """What one unit adds to the sums of its arm and stratum, in the order of ``SUM_NAMES``."""
    sums: list[float] = [1]
    for top_at, bottom_at in _PAIRS:
        top, bottom = did[top_at], did[bottom_at]
        sums += (top, bottom, _square(top, top), _square(top, bottom), bottom * bottom)
    return tuple(sums)


def stratum_of(method: str, issuer: str, country: str | None, amount_minor: int) -> str:
    """Where a unit belongs by what was known before it was routed: method, issuer, country and amount band.

    >>> stratum_of("upi", "harbour_bank", "IN", 49_900)
    'upi|harbour_bank|IN|1'
    """
    band = sum(amount_minor >= edge for edge in AMOUNT_BANDS)
    return f"{method}|{issuer}|{country or '?'}|{band}"


def _counts_of(unit: Unit, exposure: Exposure, did: tuple[int, ...]) -> tuple[int, ...]:
    off_advice = sum(seen.off_advice for seen in unit.attempts.values() if seen.attempted_ms >= exposure.since_ms)
    flags = (int(exposure.unconfirmed), int(exposure.disagreed), int(exposure.crossed))
    return (1, did[0], did[2], did[3], did[4], off_advice, *flags)


def _square(a: int, b: int) -> float:
    """A product; of amounts a float, because sums of their squares outgrow what a store keeps as an integer."""
    product = a * b
    return product if product < 2**31 else float(product)
