"""Router advisor: says which gateway to try for a payment, and why, and learns from what became of payments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
import numpy as np

from actors.paused_gateways import PausedGateways
from actors.recent import Recent
from actors.routing_outcomes import TOGETHER_S, Alike, LaterAttempts, Together, context_of, outcome_of
from actors.routing_overrides import RoutingOverrides, in_words
from actors.unwell_gateways import UnwellGateways
from messaging.contracts import (
    AllocationPublished,
    Anomaly,
    AnomalyClosed,
    AnomalyOpened,
    AnomalyUpdated,
    AttemptsRecorded,
    ExcludedGateway,
    FailuresClassified,
    GatewayPause,
    GatewayPaused,
    GatewayResumed,
    Message,
    RankedGateway,
    RecordedAttempt,
    RouteAdvised,
    RouteRequested,
    RoutingOverridden,
    RoutingOverride,
    RoutingReleased,
)
from messaging.errors import MessageMalformed
from ml.experiments.assignment import Assignment
from ml.routing.context import OF_FAILURES, OF_MODEL, RULES, Outcome, Ranking, RoutingContext
from ml.routing.eligibility import Eligibility, GatewayTerms, eligible
from ml.routing.guidance import Conditions, Guidance, Payment
from ml.routing.learners import DEFAULT, Arm, ArmLearners, arm_of
from ml.routing.node import chance, logit
from ml.routing.policies import Policy, PolicySettings
from ml.routing.ranking import with_fallbacks
from ml.routing.reliability import Reliability
from ml.routing.rules import Ruled, RuleSet

DECISIONS_REMEMBERED_MAX: Final = 20_000
"""Decisions kept for requests that are sent again; a request lives for two seconds, so this is some minutes' worth."""

BATCHES_REMEMBERED_MAX: Final = 10_000
"""Batch ids remembered against learning twice; a batch is redelivered at once or after a restart, not hours later."""

ADVICE_VALID: Final = timedelta(seconds=60)
"""How long a ranking may be used: an outage is noticed, and heeded, within less."""

ID_LENGTH_MAX: Final = 80
TEXT_LENGTH_MAX: Final = 500


class EvidenceMinute(NamedTuple):
    """One minute of history: how the payments of one gateway, method and issuer ended. ``minute`` in epoch seconds."""

    minute: float
    gateway: str
    method: str
    issuer: str
    succeeded: int
    failed: int


class RouterAdvisor:
    """Ranks the gateways for each payment with the policy of its experiment arm, or the default policy.

    Every arm has a learner of its own, so that one arm never profits from what another tried. An attempt that carries
    a ``decision_id`` was routed here and teaches only the learner of its arm, which the same pure hash finds as when
    the decision was made. An attempt without one was chosen elsewhere; it is evidence from outside and teaches all.

    Only the first attempt of an order teaches: later ones are made because an earlier one failed, so they would make
    the gateways that serve as second choice look worse than they are. Every final outcome counts, also the failures
    that are the customer's own (see AdaptivePolicy); pending and abandoned attempts say nothing; a reversed success is
    a failure. Corrections take back what the old status had taught.

    Args:
        gateways: what each gateway takes, by name.
        policies: how policies learn and explore.
        default_policy: for payments in no experiment, until an allocation says otherwise.
        generator: source of all randomness.
        rise_max: by how much a gateway's share may rise from one minute to the next, above 0 to 1; 1: without limit.
    Raises: ValueError: default_policy is no known policy.
    """

    def __init__(
        self,
        gateways: Mapping[str, GatewayTerms],
        policies: PolicySettings,
        *,
        default_policy: str,
        generator: np.random.Generator,
        rise_max: float = 1.0,
    ) -> None:
        self._gateways = dict(gateways)
        self._fees = {name: terms.fees for name, terms in gateways.items()}
        self._fees_version = hashlib.sha256(msgspec.json.encode(self._fees, order="sorted")).hexdigest()[:6]
        self._policies = policies
        self._default_policy = default_policy
        self._generator = generator
        self._learners = self._fresh_learners()
        self._decisions: Recent[str, RouteAdvised] = Recent(DECISIONS_REMEMBERED_MAX)
        self._batches: Recent[str, None] = Recent(BATCHES_REMEMBERED_MAX)
        self._unwell = UnwellGateways()
        self._paused = PausedGateways()
        self.pauses_heard = 0
        """Counts what was said of pauses, so that what the store said before is known to be older."""
        self._overrides = RoutingOverrides(policies, generator)
        self._reliability: Reliability | None = None
        self._later = LaterAttempts()
        self._guidance = Guidance(rise_max=rise_max, canary_share=policies.canary_share, generator=generator)

    # --- answer ------------------------------------------------------------------------------------------------------

    def advise(self, request: RouteRequested, now: datetime) -> RouteAdvised:
        """Decide; a request that is sent again gets the very same decision while it is remembered.

        Raises: MessageMalformed: the id is that of another order's request; its gateways may not suit this payment.
        """
        decided = self._decisions.get(request.request_id)
        if decided is not None:
            if decided.order_id != request.order_id:
                raise MessageMalformed("$.request_id: was a request of another order before; give each one its own")
            return decided
        advised = self._decide(request, now)
        self.remember(advised)
        return advised

    def remember(self, advised: RouteAdvised) -> None:
        """Keep a decision, so that its request gets it again; also one that another replica made."""
        self._decisions.put(advised.request_id, advised)

    def _decide(self, request: RouteRequested, now: datetime) -> RouteAdvised:
        context = RoutingContext(
            method=request.method,
            issuer=request.issuer,
            network=request.network,
            country=request.country,
            currency=request.currency,
            amount_minor=request.amount_minor,
            attempt_number=request.attempt_number,
            bin=request.bin,
            previous_failures=tuple(failure.gateway for failure in request.previous_failures),
        )
        may = self._paused.without(eligible(context, self._gateways, asked=request.candidates), now)
        ruled = self._guidance.on(context, may)
        overridden = self._overrides.at(now)
        if overridden:  # rules say who may take a payment; in which order is the operator's to say
            ruled = Ruled(ruled.may, None, {})
        assigned = None if overridden or ruled.decider else self._learners.assignment(request, now)
        policy = overridden[1] if overridden else self._learners.learner(arm_of(assigned))
        candidates = ruled.may.candidates
        context = self._shifted(context, candidates, now.timestamp())
        payment = Payment(context, request.order_id, request.customer_id, now)
        conditions = Conditions(self._unwell.among(candidates, context) if candidates else {}, self._fees)
        if overridden:
            ranking = policy.rank(context, candidates, now.timestamp())
        else:
            ranking = self._guidance.ranked(policy, ruled, payment, conditions)
            if ruled.decider is None:
                ranking = with_fallbacks(ranking, self._later.fallbacks, now.timestamp())
        advised = self._advised(request, now, ranking, ruled, policy, assigned)
        if overridden:
            said = f"{in_words(overridden[0])}; {advised.reason}"
            return msgspec.structs.replace(advised, reason=said[:TEXT_LENGTH_MAX])
        return advised

    def _shifted(self, context: RoutingContext, candidates: Sequence[str], now: float) -> RoutingContext:
        """Add what the reliability model knows of the payment, and what its earlier failures say of the next try."""
        if not candidates or (self._reliability is None and not context.previous_failures):
            return context
        shifts, causes = self._later.fallbacks.shifts(context.previous_failures, candidates, now), list[str]()
        if context.previous_failures:
            causes.append(OF_FAILURES)
        if self._reliability is not None:
            causes.append(OF_MODEL)
            known = self._reliability.shifts(context, tuple(candidates))
            shifts = [shift + other for shift, other in zip(shifts, known, strict=True)]
        by_gateway = dict(zip(candidates, shifts, strict=True))
        return msgspec.structs.replace(context, shifts=by_gateway, shifted_by=" and ".join(causes))

    def _advised(  # six things that a decision consists of
        self,
        request: RouteRequested,
        now: datetime,
        ranking: Ranking,
        ruled: Ruled,
        policy: Policy,
        assigned: Assignment | None,
    ) -> RouteAdvised:
        allocation = self._learners.allocation
        version, rule = policy.version, ruled.decider
        name, reason = policy.name, ranking.reason
        if rule is not None:
            name, version = RULES, self._guidance.version
            reason = f"rule {rule.name!r} {'splits' if rule.split else 'orders'} such payments; {reason}"
        is_by_value = any(candidate.value is not None for candidate in ranking.candidates)
        return RouteAdvised(
            decision_id=decision_id_of(request.request_id),
            request_id=request.request_id,
            order_id=request.order_id,
            advised_at=now,
            ranking=[
                RankedGateway(
                    gateway=candidate.gateway,
                    expected_success=candidate.expected_success,
                    success_low=candidate.belief.low,
                    success_high=candidate.belief.high,
                    propensity=candidate.propensity,
                    reason=candidate.reason[:TEXT_LENGTH_MAX],
                    expected_value_minor=candidate.value,
                )
                for candidate in ranking.candidates
            ],
            policy=name,
            policy_version=f"{version}-{self._fees_version}" if is_by_value else version,
            rule=rule.name if rule else None,
            model_version=self._reliability.version if self._reliability is not None and name == "adaptive" else None,
            runner_up=ranking.runner_up,
            runner_up_needs=ranking.runner_up_needs,
            valid_until=now + ADVICE_VALID,
            reason=reason[:TEXT_LENGTH_MAX],
            exploring=ranking.exploring,
            excluded=[ExcludedGateway(gateway=out[:60], reason=why) for out, why in ruled.may.excluded],
            experiment=assigned.experiment if assigned else None,
            arm=assigned.arm if assigned else None,
            allocation_version=allocation.version if allocation else None,
        )

    # --- learn -------------------------------------------------------------------------------------------------------

    def handle(self, messages: Sequence[Message], now: datetime, known: object = None) -> Iterator[Message]:
        """Learn from facts. Says nothing; a batch that was seen before has no effect.

        Args:
            messages: AttemptsRecorded, AnomalyOpened, AnomalyUpdated, AnomalyClosed, AllocationPublished,
                GatewayPaused, GatewayResumed, RoutingOverridden, RoutingReleased.
                FailuresClassified changes nothing here: whose fault a failure was does not change the ranking.
            now: outcomes are taken to be no younger than this.
            known: not needed by this worker.
        """
        for message in messages:
            match message:
                case AttemptsRecorded():
                    self._learn_batch(message, now)
                case AllocationPublished():
                    self._learners.put_in_force(message.allocation(), now.timestamp())
                case AnomalyOpened() | AnomalyUpdated():
                    self._unwell.heed(message.anomaly)
                case AnomalyClosed():
                    self._close(message.anomaly, now)
                case GatewayPaused():
                    self.pauses_heard += 1
                    self._paused.pause(message.pause)
                case GatewayResumed():
                    self.pauses_heard += 1
                    self._paused.resume(message.pause_id)
                case RoutingOverridden():
                    self._overrides.put(message.override, self._learners.learner(DEFAULT), now)
                case RoutingReleased():
                    self._overrides.release(message.override_id)
                case FailuresClassified() | _:
                    pass
        return iter(())

    def warm_start(
        self,
        minutes: Iterable[EvidenceMinute],
        anomalies: Iterable[Anomaly],
        allocation: AllocationPublished | None,
        now: datetime,
        pauses: Iterable[GatewayPause] = (),
        override: RoutingOverride | None = None,
        reliability: Reliability | None = None,
        newest: Iterable[RecordedAttempt] = (),
    ) -> None:
        """Replace everything learned by what the store holds.

        Sums per minute do not say which arm a payment was in, nor which attempts were first, so they warm the learners
        of all arms alike; from then on each arm learns from its own. All of it is built beside what is in force, and
        takes its place at the end, so that payments may be answered meanwhile, from another thread.

        Args:
            minutes: history, oldest first; reversed payments count as failed.
            anomalies: those that are open.
            allocation: the last one; None: there never was one.
            now: the present.
            pauses: of gateways, those that are not over.
            override: of the routing; None: none holds.
            reliability: the model in force; its rates are what learners begin with. None: none is.
            newest: the newest attempts, oldest first: which gateways fail together.
        """
        later, learners, unwell = LaterAttempts(), self._fresh_learners(), UnwellGateways()
        if allocation is not None:
            learners.put_in_force(allocation.allocation(), now.timestamp())
        for anomaly in anomalies:
            unwell.heed(anomaly)
        minutes = list(minutes)
        if reliability is not None:
            begin = min((entry.minute for entry in minutes), default=now.timestamp())
            evidence = [outcome for outcome in reliability.evidence(begin) if outcome.gateway in self._gateways]
            for learner in learners.all():
                learner.inherit(evidence, now.timestamp())
        for entry in minutes:
            if entry.gateway in self._gateways:
                outcome = Outcome(
                    gateway=entry.gateway,
                    method=entry.method,
                    issuer=entry.issuer,
                    at=entry.minute + 30.0,
                    succeeded=entry.succeeded,
                    failed=entry.failed,
                )
                self._teach(learners.all(), outcome, now)
        for attempt in newest:
            later.learn(attempt, lambda each: _expected(each, learners.learner(DEFAULT), reliability, now))
        overrides = RoutingOverrides(self._policies, self._generator)
        if override is not None:
            overrides.put(override, learners.learner(DEFAULT), now)
        self._reliability, self._later, self._learners = reliability, later, learners
        self._unwell, self._paused, self._overrides = unwell, PausedGateways(pauses), overrides

    def serve(self, reliability: Reliability | None) -> None:
        """Take another reliability model from now on; None: none."""
        self._reliability = reliability

    def put_rules_in_force(self, rules: RuleSet, counts: Mapping[str, Mapping[str, int]], now: datetime) -> None:
        """Take other rules from now on.

        Args:
            rules: all of them.
            counts: first attempts of the present day, week and month so far, by gateway, for the commitments.
            now: the present.
        """
        self._guidance.put_in_force(rules)
        for period in self._guidance.commitments.periods(now):
            self._guidance.commitments.set(period, counts.get(period[0], {}))

    def override_held(self, now: datetime) -> str | None:
        """The id of the override that holds; None: none does."""
        held = self._overrides.at(now)
        return None if held is None else held[0].override_id

    def heed_override(self, override: RoutingOverride | None, held_before: str | None, now: datetime) -> None:
        """Hold to what the store says is in force, also when word of it was lost.

        Args:
            override: as the store has it; None: none is in force.
            held_before: the one that was held before the store was asked; what was heard meanwhile is newer.
            now: the present.
        """
        if self.override_held(now) != held_before or (override and override.override_id) == held_before:
            return
        if held_before is not None:
            self._overrides.release(held_before)
        if override is not None:
            self._overrides.put(override, self._learners.learner(DEFAULT), now)

    def heed_pauses(self, pauses: Iterable[GatewayPause], heard_before: int) -> None:
        """Hold to the pauses that the store knows, also when word of one was lost.

        Args:
            pauses: those that are not over.
            heard_before: ``pauses_heard`` before the store was asked; what was heard meanwhile is newer.
        """
        if self.pauses_heard == heard_before:
            self._paused = PausedGateways(pauses)

    def _learn_batch(self, recorded: AttemptsRecorded, now: datetime) -> None:
        if recorded.batch_id in self._batches:
            return
        self._batches.put(recorded.batch_id, None)
        sums: dict[Alike, Together] = {}

        def expecting(attempt: RecordedAttempt) -> float:  # by who knows such payments: where all are in an experiment,
            arm = arm_of(self._learners.assignment(attempt, attempt.attempted_at))  # the default learner hears of none
            return _expected(attempt, self._learners.learner(arm), self._reliability, now)

        for attempt in recorded.attempts:
            if attempt.status_previous is None and attempt.attempt_number == 1:
                self._guidance.commitments.count(attempt.gateway, attempt.attempted_at, now)
            self._later.learn(attempt, expecting)
            outcome = outcome_of(attempt)
            if outcome is None or attempt.gateway not in self._gateways:
                continue
            if self._reliability is not None:
                (shift,) = self._reliability.shifts(context_of(attempt), (attempt.gateway,))
                outcome = msgspec.structs.replace(outcome, shift=shift)
            arm = self._arm_taught(attempt)
            if attempt.status_previous is not None:  # a correction takes back what another moment taught
                self._teach(self._learners_of(arm), outcome, now)
                continue
            span = outcome.at // TOGETHER_S
            alike = Alike(arm, attempt.gateway, attempt.method, attempt.issuer, attempt.network, span)
            sums.setdefault(alike, Together()).add(outcome)
        for alike, together in sums.items():
            self._teach(self._learners_of(alike.arm), together.outcome(alike), now)

    def _arm_taught(self, attempt: RecordedAttempt) -> Arm | None:
        """The arm whose policy chose an attempt's gateway; None: none did, so that it is evidence for all."""
        if attempt.decision_id is None or self._overrides.decided(attempt.attempted_at):
            return None
        if self._guidance.decides and self._guidance.on(context_of(attempt), self._able(attempt)).decider:
            return None
        return arm_of(self._learners.assignment(attempt, attempt.attempted_at))

    def _able(self, attempt: RecordedAttempt) -> Eligibility:
        return eligible(context_of(attempt), self._gateways)

    def _learners_of(self, arm: Arm | None) -> Iterable[Policy]:
        """Who hears of a payment: the learner of its arm; all (None) when it was chosen elsewhere."""
        arms = self._learners.all() if arm is None else [self._learners.learner(arm)]
        return [*arms, *self._overrides.learners()]

    def _teach(self, learners: Iterable[Policy], outcome: Outcome, now: datetime) -> None:
        for learner in learners:
            learner.learn(outcome, now.timestamp())

    def _close(self, anomaly: Anomaly, now: datetime) -> None:
        """Let a gateway that is well again start anew: what failed meanwhile says nothing about it any more."""
        segment = self._unwell.close(anomaly)
        if segment is None or segment.gateway is None:
            return
        since = (anomaly.closed_at or now).timestamp()
        for learner in self._learners.all():
            learner.forget(segment.gateway, segment.method, segment.issuer, since=since)

    def _fresh_learners(self) -> ArmLearners:
        return ArmLearners(self._policies, default_policy=self._default_policy, generator=self._generator)


def _expected(attempt: RecordedAttempt, learner: Policy, reliability: Reliability | None, now: datetime) -> float:
    """Success expected of an attempt as if it were its order's first."""
    context, gateway = context_of(attempt), attempt.gateway
    mean = learner.expected(context, gateway, now.timestamp())
    if reliability is None:
        return mean
    (shift,) = reliability.shifts(context, (gateway,))
    return chance(logit(mean) + shift)


def decision_id_of(request_id: str) -> str:
    """Name the decision on a request, so that every replica gives it the same name.

    >>> decision_id_of("req_7")
    'dec_req_7'
    """
    plain = f"dec_{request_id}"
    if len(plain) <= ID_LENGTH_MAX:
        return plain
    return f"dec_{hashlib.sha256(request_id.encode()).hexdigest()[:40]}"
