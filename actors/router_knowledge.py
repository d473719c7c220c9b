"""What a router has learned, and how it learns more: by experiment arm, of later attempts, of unwell gateways."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

import msgspec

from actors.routing_contexts import context_of
from actors.routing_outcomes import TOGETHER_S, Alike, LaterAttempts, Together, outcome_of
from actors.unwell_gateways import UnwellGateways
from messaging.contracts import Anomaly, RecordedAttempt
from ml.routing.context import OF_FAILURES, OF_MODEL, Outcome, RoutingContext
from ml.routing.learners import Arm, ArmLearners, arm_of
from ml.routing.node import chance, logit
from ml.routing.policies import Policy
from ml.routing.reliability import Reliability


class RouterKnowledge:
    """All that payments taught a router, with the anomalies and the reliability model that it heeds.

    Every arm has a learner of its own, so that one arm never profits from what another tried. An attempt that carries
    a ``decision_id`` was routed here and teaches only the learner of its arm, which the same pure hash finds as when
    the decision was made. An attempt without one was chosen elsewhere; it is evidence from outside and teaches all.

    Only the first attempt of an order teaches: later ones are made because an earlier one failed, so they would make
    the gateways that serve as second choice look worse than they are. Every final outcome counts, also the failures
    that are the customer's own (see AdaptivePolicy); pending and abandoned attempts say nothing; a reversed success is
    a failure. Corrections take back what the old status had taught.

    Args:
        gateways: those that exist; payments of others teach nothing.
        learners: of the arms, which know nothing yet.
    """

    def __init__(self, gateways: Collection[str], learners: ArmLearners) -> None:
        self.gateways = gateways
        self.learners = learners
        self.later = LaterAttempts()
        self.unwell = UnwellGateways()
        self.reliability: Reliability | None = None

    def shifted(self, context: RoutingContext, candidates: Sequence[str], now: float) -> RoutingContext:
        """Add what the reliability model knows of a payment, and what its earlier failures say of the next try."""
        if not candidates or (self.reliability is None and not context.previous_failures):
            return context
        shifts, causes = self.later.fallbacks.shifts(context.previous_failures, candidates, now), list[str]()
        if context.previous_failures:
            causes.append(OF_FAILURES)
        if self.reliability is not None:
            causes.append(OF_MODEL)
            known = self.reliability.shifts(context, tuple(candidates))
            shifts = [shift + other for shift, other in zip(shifts, known, strict=True)]
        by_gateway = dict(zip(candidates, shifts, strict=True))
        return msgspec.structs.replace(context, shifts=by_gateway, shifted_by=" and ".join(causes))

    def expected(self, attempt: RecordedAttempt, learner: Policy, now: datetime) -> float:
        """Success that a learner expects of an attempt as if it were its order's first."""
        context, gateway = context_of(attempt), attempt.gateway
        mean = learner.expected(context, gateway, now.timestamp())
        if self.reliability is None:
            return mean
        (shift,) = self.reliability.shifts(context, (gateway,))
        return chance(logit(mean) + shift)

    def learn(
        self,
        attempts: Sequence[RecordedAttempt],
        arm_taught: Callable[[RecordedAttempt], Arm | None],
        others: Sequence[Policy],
        now: datetime,
    ) -> None:
        """Learn from a batch of attempts.

        Args:
            attempts: as they were recorded.
            arm_taught: says the arm whose policy chose an attempt's gateway; None: none did.
            others: learners beside the arms, who hear of every payment.
            now: outcomes are taken to be no younger than this.
        """
        sums: dict[Alike, Together] = {}

        def expecting(attempt: RecordedAttempt) -> float:  # by who knows such payments: where all are in an experiment,
            arm = arm_of(self.learners.assignment(attempt, attempt.attempted_at))  # the default learner hears of none
            return self.expected(attempt, self.learners.learner(arm), now)

        for attempt in attempts:
            self.later.learn(attempt, expecting)
            outcome = outcome_of(attempt)
            if outcome is None or attempt.gateway not in self.gateways:
                continue
            if self.reliability is not None:
                (shift,) = self.reliability.shifts(context_of(attempt), (attempt.gateway,))
                outcome = msgspec.structs.replace(outcome, shift=shift)
            arm = arm_taught(attempt)
            if attempt.status_previous is not None:  # a correction takes back what another moment taught
                teach(self._learners_of(arm, others), outcome, now)
                continue
            span = outcome.at // TOGETHER_S
            alike = Alike(arm, attempt.gateway, attempt.method, attempt.issuer, attempt.network, span)
            sums.setdefault(alike, Together()).add(outcome)
        for alike, together in sums.items():
            teach(self._learners_of(alike.arm, others), together.outcome(alike), now)

    def _learners_of(self, arm: Arm | None, others: Sequence[Policy]) -> Iterable[Policy]:
        """Who hears of a payment: the learner of its arm; all (None) when it was chosen elsewhere."""
        return [*(self.learners.all() if arm is None else [self.learners.learner(arm)]), *others]

    def close(self, anomaly: Anomaly, now: datetime) -> None:
        """Let a gateway that is well again start anew: what failed meanwhile says nothing about it any more."""
        segment = self.unwell.close(anomaly)
        if segment is None or segment.gateway is None:
            return
        since = (anomaly.closed_at or now).timestamp()
        for learner in self.learners.all():
            learner.forget(segment.gateway, segment.method, segment.issuer, since=since)


def teach(learners: Iterable[Policy], outcome: Outcome, now: datetime) -> None:
    """Let learners hear of an outcome."""
    for learner in learners:
        learner.learn(outcome, now.timestamp())
