"""What happens to one attempt: its status, its latency, and why it failed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from scipy.special import ndtri

from simulator.world import facts
from simulator.world.draws import GOLDEN, MASK, Floats, halves, mix, slot_word, stream_key, word_at
from simulator.world.failures import (
    BUSINESS_SHARES,
    CARD_TESTING_SHARES,
    CATEGORIES,
    GATEWAY_SHARES,
    NETWORK_TIMEOUT,
    PROCESSING_ERROR,
    TECHNICAL_SHARES,
    Dialect,
)
from simulator.world.incidents import FailureMixChange, SuccessKinds, success_under
from simulator.world.orders import Order
from simulator.world.plan import IncidentPlan, PlannedIncident

Status = Literal["succeeded", "failed", "pending"]
Cause = Literal["none", "incident", "gateway", "issuer", "payer", "capacity"]

CAUSES: Final[tuple[Cause, ...]] = ("none", "incident", "gateway", "issuer", "payer", "capacity")

ATTEMPT_STRIDE: Final = 64
"""Attempts of one order have places of their own: number times this, plus gateway and method."""

LATENCY_MIN_MS: Final = 25.0
THROTTLED_MS: Final = 40.0
"""A gateway that is full says so quickly."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What happened to an attempt.

    ``status`` is what the gateway says when it answers; ``status_final`` what is true in the end (None: nobody will
    ever know). The rest of the truth (``category``, ``cause``) is not for the system under test.
    """

    status: Status
    status_final: Literal["succeeded", "failed"] | None
    latency_ms: float
    failure_code: str | None = None
    failure_message: str | None = None
    settle_after_s: float | None = None
    reversed_after_s: float | None = None
    reported_twice: bool = False
    category: str | None = None
    cause: Cause = "none"


class OutcomeModel:
    """Draws the outcome of any attempt of any order; the same attempt always ends the same.

    Args:
        seed: of the world.
        dialects: what each gateway says, in the order of ``facts.GATEWAYS``.
    """

    def __init__(self, seed: int, dialects: Sequence[Dialect]) -> None:
        self.key = stream_key(seed, "attempts")
        self._dialects = dialects
        medians = facts.LATENCY_MEDIAN_MS[None, :] * facts.LATENCY_GATEWAY[:, None]
        self._latency_log = [[math.log(value) for value in row] for row in medians.tolist()]
        self._latency_spread = facts.LATENCY_SPREAD.tolist()
        self._timeout_ms = facts.TIMEOUT_MS.tolist()
        self._pending = facts.PENDING_SHARE.tolist()

    def outcome(self, order: Order, gateway: int, number: int, now: float, plan: IncidentPlan) -> Outcome:
        """Decide one attempt.

        Args:
            order: what is paid.
            gateway: code of the gateway.
            number: which attempt of the order it is, from 1.
            now: the world's time, seconds since epoch.
            plan: the incidents.
        """
        place = number * ATTEMPT_STRIDE + gateway * len(facts.METHODS) + order.method
        word = mix((word_at(self.key, order.index) + place * GOLDEN) & MASK)
        active = plan.active(now)
        if active:
            active = [one for one in active if one.touches(gateway, order.method, order.issuer, order.network)]
        cause, shares = self._fate(order, gateway, word, active, now - plan.began_at)
        luck_latency, luck_late = halves(slot_word(word, 3))
        latency = self._latency_ms(order.method, gateway, luck_latency)
        if active:
            latency *= plan.latency_factor(active)
        latency = min(max(latency, LATENCY_MIN_MS), self._timeout_ms[gateway])
        if shares is None:
            return self._with_lateness(word, luck_late, order.method, rounded(latency, 10), plan.reversal_share(active))
        luck_category, luck_code = halves(slot_word(word, 4))
        category = int(shares.searchsorted(luck_category, side="right"))
        if category == NETWORK_TIMEOUT:
            latency = self._timeout_ms[gateway]
        row = self._dialects[gateway].say(category, luck_code, halves(slot_word(word, 5))[1])
        failure = (row.code, row.message, CATEGORIES[category], cause)
        return self._with_lateness(word, luck_late, order.method, rounded(latency, 10), 0.0, failure)

    def throttled(self, order: Order, gateway: int, number: int) -> Outcome:
        """The answer of a gateway that has no room for attempt ``number``."""
        luck, _ = halves(slot_word(word_at(self.key, order.index), number))
        row = self._dialects[gateway].say(PROCESSING_ERROR, luck, 1.0)
        return Outcome(
            status="failed",
            status_final="failed",
            latency_ms=THROTTLED_MS,
            failure_code=row.code,
            failure_message=row.message,
            category=CATEGORIES[PROCESSING_ERROR],
            cause="capacity",
        )

    def _fate(
        self, order: Order, gateway: int, word: int, active: Sequence[PlannedIncident], elapsed_s: float
    ) -> tuple[Cause, Floats | None]:
        """Who fails the attempt, with which shares of categories; none and None when it succeeds."""
        luck_incident, luck_gateway = halves(slot_word(word, 1))
        luck_issuer, _ = halves(slot_word(word, 2))
        acceptance = order.acceptance[gateway]
        mix_change: Floats | None = None
        if active:
            chance = usual = (1 - order.business) * (1 - order.technical) * acceptance
            for one in active:
                if isinstance(one.incident, SuccessKinds):
                    reduced = success_under(one.incident, chance, one.incident.progress(elapsed_s))
                    if reduced < chance and luck_incident * usual >= reduced:
                        return "incident", one.shares
                    chance = reduced
                elif isinstance(one.incident, FailureMixChange):
                    mix_change = one.shares
        if luck_gateway >= acceptance:
            return "gateway", GATEWAY_SHARES[order.method] if mix_change is None else mix_change
        if luck_issuer < order.technical:
            return "issuer", TECHNICAL_SHARES if mix_change is None else mix_change
        if order.payer_luck < order.business:
            usual_shares = CARD_TESTING_SHARES if order.fraud else BUSINESS_SHARES[order.method]
            return "payer", usual_shares if mix_change is None else mix_change
        return "none", None

    def _latency_ms(self, method: int, gateway: int, luck: float) -> float:
        return math.exp(self._latency_log[gateway][method] + self._latency_spread[method] * float(ndtri(luck)))

    def _with_lateness(
        self,
        word: int,
        luck_late: float,
        method: int,
        latency_ms: float,
        reversal_share: float,
        failure: tuple[str, str, str, Cause] | None = None,
    ) -> Outcome:
        """Some outcomes come late or never, some successes are taken back, some reports come twice."""
        luck_reversal, luck_twice = halves(slot_word(word, 7))
        settle_after_s = reversed_after_s = None
        late = luck_late < self._pending[method]
        taken_back = failure is None and not late and luck_reversal < max(facts.REVERSAL_SHARE, reversal_share)
        known = True
        if late or taken_back:
            luck_settle, luck_never = halves(slot_word(word, 6))
        if late:
            known = luck_never >= facts.NEVER_SHARE
            settle_after_s = _between(facts.SETTLE_S_MIN, facts.SETTLE_S_MAX, luck_settle) if known else None
        if taken_back:
            reversed_after_s = _between(facts.REVERSAL_S_MIN, facts.REVERSAL_S_MAX, luck_settle)
        final: Literal["succeeded", "failed"] = "succeeded" if failure is None else "failed"
        code, message, category, cause = failure or (None, None, None, "none")
        return Outcome(
            status="pending" if late else final,
            status_final=final if known else None,
            latency_ms=latency_ms,
            failure_code=code,
            failure_message=message,
            settle_after_s=settle_after_s,
            reversed_after_s=reversed_after_s,
            reported_twice=luck_twice < facts.DUPLICATE_SHARE,
            category=category,
            cause=cause,
        )


def rounded(value: float, steps: int) -> float:
    """Round to so many steps in a unit, halves up: the same for one number and for an array.

    >>> rounded(1.25, 10)
    1.3
    """
    return math.floor(value * steps + 0.5) / steps


def _between(low: float, high: float, luck: float) -> float:
    """A time between two bounds, short ones likelier: uniform in the logarithm. Rounded to milliseconds."""
    return rounded(low * math.exp(luck * math.log(high / low)), 1000)
