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
from ml.routing.ranking import first_choice_shares, redrawn
from ml.routing.rules import NO_RULES, Rule, Ruled, RuleSet, preference_of, with_floors
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
        self.commitments = Commitments()
        self._promised: dict[str, float] = {}
        self._promised_at = 0.0

    def put_in_force(self, rules: RuleSet) -> None:
        """Take other rules from now on. Commitments that stay keep their counts only through ``commitments.set``."""
        self.rules = rules
        self.commitments = Commitments(rules.commitments)
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
            ranked = self._by_rule(ruled.decider, policy, candidates, payment, conditions)
        else:
            ranked = policy.rank(payment.context, candidates, now, conditions.unwell, conditions.fees)
        return self._held(ranked, ruled, payment, conditions.unwell)

    def _by_rule(
        self, rule: Rule, policy: Policy, candidates: tuple[str, ...], payment: Payment, conditions: Conditions
    ) -> Ranking:
        unit = payment.customer_id if rule.sticky == "customer_id" else None
        unit = unit or payment.order_id
        _, places, _ = preference_of(rule, candidates, unit)

        def now(inside: list[int]) -> list[float]:
            return preference_of(rule, [candidates[index] for index in inside], unit)[0]

        def likely(inside: list[int]) -> list[float]:
            return preference_of(rule, [candidates[index] for index in inside], unit)[2]

        at = payment.now.timestamp()
        ranked = policy.follow(payment.context, candidates, at, now, conditions.unwell, places)
        if not rule.split:
            return ranked
        shares = first_choice_shares(likely, payment.context, candidates, conditions.unwell, self._canary_share).first
        known = dict(zip(candidates, shares, strict=True))
        return msgspec.structs.replace(
            ranked,
            exploring=False,
            candidates=tuple(
                msgspec.structs.replace(each, propensity=known[each.gateway]) for each in ranked.candidates
            ),
        )

    def _held(self, ranked: Ranking, ruled: Ruled, payment: Payment, unwell: Mapping[str, str]) -> Ranking:
        """Apply what holds a policy: how fast traffic moves, and floors. Not on a retry, nor for an unwell gateway."""
        sound = not payment.context.previous_failures and not unwell
        now = payment.now.timestamp()
        names = [each.gateway for each in ranked.candidates]
        before = [each.propensity for each in ranked.candidates]
        shares = before
        if sound and ruled.decider is None:
            shares = self._pace.limited(names, shares, now)
        floors = self._floors(ruled, payment.now, now)
        if floors and not payment.context.previous_failures:
            owed = {name: share for name, share in floors.items() if name not in unwell}
            shares = with_floors(shares, names, owed)
        if shares == before:
            return ranked
        return redrawn(ranked, dict(zip(names, shares, strict=True)), self._generator)

    def _floors(self, ruled: Ruled, at: datetime, now: float) -> Mapping[str, float]:
        if not self.rules.commitments:
            return ruled.floors
        if now - self._promised_at >= FLOORS_EVERY_S:
            self._promised, self._promised_at = self.commitments.floors(at), now
        names = {*ruled.floors, *self._promised}
        return {name: max(ruled.floors.get(name, 0.0), self._promised.get(name, 0.0)) for name in names}
