"""A policy to be judged: how it is written down, and what it would have done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from ml.routing.context import Outcome, RoutingContext
from ml.routing.eligibility import Eligibility
from ml.routing.evaluation.logged import LoggedDecision
from ml.routing.parameters import mistake_in
from ml.routing.policies import ARM_PARAMETERS, POLICIES, PolicySettings, settings_of_arm
from ml.routing.reliability import Reliability
from ml.routing.rules import Commitment, Rule, RuleSet, bounded, preference_of, with_floors
from ml.routing.worth import NO_FEES, Fees

Parameter = int | float | Annotated[list[Annotated[str, Meta(max_length=60)]], Meta(max_length=50)]


DEFAULTS: Final = PolicySettings()


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy as an operator writes it down: one that the router knows, and what it is to do differently.

    Attributes:
        policy: name of a routing policy.
        parameters: settings of the router by name, as an experiment arm may set them; all others are the router's.
        rules: as in the rules file, which is a candidate itself; they stand above the policy.
        rules_in_force: it is under the rules that routers have in force when it is judged, and has none of its own.
        commitments: as there; not judged, because what they ask for depends on a whole day or month.
    """

    policy: str = "adaptive"
    parameters: dict[str, Parameter] = {}
    rules: Annotated[list[Rule], Meta(max_length=200)] = []
    rules_in_force: bool = False
    commitments: Annotated[list[Commitment], Meta(max_length=50)] = []


class CandidateRefused(ValueError):
    """A candidate that cannot be: ``place`` is where, as ``$.policy``."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(problem)
        self.place = place


class JudgedPolicy:
    """A candidate that is asked about logged decisions one after the other, and learns from their outcomes.

    It learns what a router with this policy would have learned from the payments that were really made: from each
    outcome once it was known, and never from a later one.

    Args:
        candidate: what to judge.
        seed: of all its randomness.
        router: settings of the router that it would run in.
        fees: of the gateways, for a candidate that ranks by value.
        reliability: the model that served when what is judged began; a later one would know the outcomes.
        gateways: that exist, so that an order of others is refused; empty: that is not looked at.
    Attributes:
        by_rule: decisions that rules touched, by what they did.
        margin_share: that the candidate counts with; None: it goes by success alone.
    Raises: CandidateRefused: there is no such policy or parameter, or a value does not fit.
    """

    def __init__(
        self,
        candidate: Candidate,
        *,
        seed: int = 0,
        router: PolicySettings = DEFAULTS,
        fees: Mapping[str, Fees] = NO_FEES,
        reliability: Reliability | None = None,
        gateways: Collection[str] = (),
    ) -> None:
        if candidate.policy not in POLICIES:
            raise CandidateRefused(
                "$.policy", f"there is no policy {candidate.policy!r}; known are {', '.join(POLICIES)}"
            )
        mistake = mistake_in(candidate.policy, candidate.parameters, ARM_PARAMETERS, gateways, order=router.order)
        if mistake is not None:
            raise CandidateRefused(f"$.parameters.{mistake.parameter}", mistake.problem)
        if candidate.rules and candidate.rules_in_force:
            raise CandidateRefused(
                "$.rules_in_force", "a candidate has the rules in force or rules of its own; take one of the two out"
            )
        settings = settings_of_arm(router, candidate.parameters)
        self._policy = POLICIES[candidate.policy](settings, np.random.default_rng(seed))
        self._rules = RuleSet(rules=candidate.rules)
        self._fees = fees
        self._reliability = reliability
        self._begun = False
        self.by_rule: Counter[str] = Counter()
        self.margin_share = settings.margin_share

    def shares(self, decision: LoggedDecision) -> dict[str, float]:
        """The probability with which each gateway would have been put first; all 0 where rules leave none."""
        may = Eligibility(candidates=decision.eligible, excluded=())
        ruled = self._rules.on(decision.context, may)
        candidates = ruled.may.candidates
        if len(candidates) < len(decision.eligible):
            self.by_rule["kept from a gateway"] += 1
        if not candidates:
            self.by_rule["left without any gateway"] += 1
            return dict.fromkeys(decision.eligible, 0.0)
        if ruled.decider is not None:
            self.by_rule[f"decided by {ruled.decider.name}"] += 1
            shares = dict(zip(candidates, preference_of(ruled.decider, candidates, None), strict=True))
        else:
            ranking = self._policy.rank(self._known(decision), candidates, decision.at, fees=self._fees)
            shares = {ranked.gateway: ranked.propensity for ranked in ranking.candidates}
        owed = bounded({name: share for name, share in ruled.floors.items() if name in shares})
        return dict.fromkeys(decision.eligible, 0.0) | with_floors(shares, owed)

    def _known(self, decision: LoggedDecision) -> RoutingContext:
        """The payment with what the reliability model knows of it, which a policy also begins with."""
        if self._reliability is None:
            return decision.context
        if not self._begun:
            self._begun = True
            self._policy.inherit(self._reliability.evidence(decision.at), decision.at)
        shifts = self._reliability.shifts(decision.context, decision.eligible)
        return msgspec.structs.replace(decision.context, shifts=dict(zip(decision.eligible, shifts, strict=True)))

    def learn(self, decision: LoggedDecision) -> None:
        """Take in an outcome that has become known."""
        if decision.succeeded is None or decision.known_at is None:
            return
        context = decision.context
        outcome = Outcome(
            gateway=decision.gateway,
            method=context.method,
            issuer=context.issuer,
            network=context.network,
            at=decision.at,
            succeeded=float(decision.succeeded),
            failed=float(not decision.succeeded),
            shift=self._known(decision).shifts.get(decision.gateway, 0.0),
        )
        self._policy.learn(outcome, decision.known_at)
