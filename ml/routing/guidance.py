"""What stands around a policy: rules that limit or replace it, and guardrails that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec
import numpy as np

from ml.routing.commitments import Commitments
from ml.routing.context import Ranking, RoutingContext
from ml.routing.eligibility import Eligibility
from ml.routing.pacing import Pace
from ml.routing.policies import NOTHING_ELIGIBLE, Policy
from ml.routing.ranking import first_choice_shares, redrawn, with_owed
from ml.routing.rules import NO_RULES, Rule, Ruled, RuleSet, bounded, preference_of
from ml.routing.worth import Fees

FLOORS_EVERY_S = 1.0
"""So often the shares that commitments need are computed anew."""


class Payment(NamedTuple):
    """A payment that is to be routed: as policies see it, and whose it is."""

    context: RoutingContext
    order_id: str
    customer_id: str | None
    now: datetime


class Conditions(NamedTuple):
    """What is the case with the gateways: open anomalies by gateway, with the reason, and fees."""

    unwell: Mapping[str, str]
    fees: Mapping[str, Fees]


class Guidance:
    """Rules and guardrails in force.

    Args:
        rise_max: by how much a gateway's share may rise from one minute to the next, above 0 to 1; 1: without limit.
        canary_share: of payments that a gateway with an open anomaly gets where a rule decides.
        generator: source of all randomness.
    """

    def __init__(self, *, rise_max: float, canary_share: float, generator: np.random.Generator) -> None:
        self._canary_share = canary_share
        self._generator = generator
        self._pace = Pace(rise_max)
        self.rules: RuleSet = NO_RULES
        self.version = NO_RULES.version
        self.decides = False
        self.commitments = Commitments()
        self._promised: dict[str, float] = {}
        self._promised_at = 0.0

    def put_in_force(self, rules: RuleSet, *, is_counted: bool = True) -> None:
        """Take other rules from now on. Commitments that stay keep their counts only through ``commitments.set``.

        Args:
            rules: all of them.
            is_counted: it is known what commitments still need; else they wait, and nothing is owed.
        """
        self.rules = rules if is_counted else msgspec.structs.replace(rules, commitments=[])
        self.version = rules.version
        self.decides = any(rule.enabled and rule.decides for rule in rules.rules)
        self.commitments = Commitments(self.rules.commitments)
        self._promised_at = 0.0

    def on(self, context: RoutingContext, may: Eligibility) -> Ruled:
        """What the rules leave of a payment."""
        return self.rules.on(context, may)

    def ranked(self, policy: Policy, ruled: Ruled, payment: Payment, conditions: Conditions) -> Ranking:
        """Rank the gateways that may take a payment.

        Args:
            policy: decides where no rule does; what it expects of the gateways is told in any case.
            ruled: what the rules leave of the payment.
            payment: which.
            conditions: of the gateways.
        """
        candidates, now = ruled.may.candidates, payment.now.timestamp()
        if not candidates:
            return NOTHING_ELIGIBLE
        if ruled.decider is not None:
            ranked = self._by_rule(ruled.decider, policy, candidates, payment, conditions.unwell)
            return self._owed(ranked, ruled, payment, conditions.unwell)
        wanted = ranked = policy.rank(payment.context, candidates, now, conditions.unwell, conditions.fees)
        if not conditions.unwell and not payment.context.previous_failures:
            ranked = self._paced(ranked, candidates, now)
        ranked = self._owed(ranked, ruled, payment, conditions.unwell)
        first = ranked.candidates[0].gateway
        if first != wanted.candidates[0].gateway:
            policy.moved(payment.context, first, now)
        return ranked

    def _by_rule(
        self, rule: Rule, policy: Policy, candidates: tuple[str, ...], payment: Payment, unwell: Mapping[str, str]
    ) -> Ranking:
        unit = payment.customer_id if rule.sticky == "customer_id" else None
        unit = unit or payment.order_id

        def now(inside: list[int]) -> list[float]:
            return preference_of(rule, [candidates[index] for index in inside], unit)

        def likely(inside: list[int]) -> list[float]:
            return preference_of(rule, [candidates[index] for index in inside], None)

        ranked = policy.follow(payment.context, candidates, payment.now.timestamp(), now, unwell)
        shares = first_choice_shares(likely, payment.context, candidates, unwell, self._canary_share).first
        known = dict(zip(candidates, shares, strict=True))
        first, *rest = (msgspec.structs.replace(each, propensity=known[each.gateway]) for each in ranked.candidates)
        if rule.order:  # those that it does not name come last, by what is expected of them
            places = {name: place for place, name in enumerate(rule.order)}
            rest.sort(key=lambda each: (bool(each.unwell), each.failed_before, places.get(each.gateway, len(places))))
        why = "it is first in the order" if rule.order else "the split gives it this payment"
        is_canary = first.unwell is not None and any(each.unwell is None for each in rest)
        return msgspec.structs.replace(
            ranked, candidates=(first, *rest), exploring=is_canary, why_first="" if is_canary else why
        )

    def _paced(self, ranked: Ranking, candidates: tuple[str, ...], now: float) -> Ranking:
        """Let traffic move only so fast."""
        wanted = {each.gateway: each.propensity for each in ranked.candidates}
        before = [wanted[name] for name in candidates]
        allowed = self._pace.limited(candidates, before, now)
        if allowed is before:
            return ranked
        moved = redrawn(ranked, dict(zip(candidates, allowed, strict=True)), self._generator)
        return msgspec.structs.replace(moved, exploring=False, why_first="traffic moves only so fast")

    def _owed(self, ranked: Ranking, ruled: Ruled, payment: Payment, unwell: Mapping[str, str]) -> Ranking:
        """Give floors and commitments their share: not on a retry, and never a gateway with an open anomaly."""
        if not ruled.floors and not self.rules.commitments:
            return ranked
        if payment.context.previous_failures:
            return ranked
        shares = {each.gateway: each.propensity for each in ranked.candidates}
        self.commitments.observe(shares)
        owed = {name: share for name, share in self._floors(ruled, payment.now).items() if name in shares}
        return with_owed(ranked, bounded({name: owed[name] for name in owed if name not in unwell}), self._generator)

    def _floors(self, ruled: Ruled, at: datetime) -> Mapping[str, float]:
        if not self.rules.commitments:
            return ruled.floors
        now = at.timestamp()
        if now - self._promised_at >= FLOORS_EVERY_S:
            self._promised, self._promised_at = self.commitments.floors(at), now
        names = {*ruled.floors, *self._promised}
        return {name: max(ruled.floors.get(name, 0.0), self._promised.get(name, 0.0)) for name in names}
