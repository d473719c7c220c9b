"""Router advisor: says which gateway to try for a payment, and why, and learns from what became of payments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
import numpy as np

from actors.answered_requests import AnsweredRequests, decision_id_of
from actors.paused_gateways import PausedGateways
from actors.recent import Recent
from actors.router_knowledge import RouterKnowledge
from actors.routing_contexts import context_asked, context_of
from actors.routing_overrides import RoutingOverrides, in_words
from messaging.contracts import (
    AllocationPublished,
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
from ml.experiments.assignment import Assignment
from ml.routing.context import RULES, Ranking
from ml.routing.eligibility import Eligibility, GatewayTerms, eligible
from ml.routing.guidance import Conditions, Guidance, Payment
from ml.routing.learners import DEFAULT, Arm, ArmLearners, arm_of
from ml.routing.policies import Policy, PolicySettings
from ml.routing.ranking import with_fallbacks
from ml.routing.reliability import Reliability
from ml.routing.rules import Ruled, RuleSet

BATCHES_REMEMBERED_MAX: Final = 10_000
"""Batch ids remembered against learning twice; a batch is redelivered at once or after a restart, not hours later."""

ADVICE_VALID: Final = timedelta(seconds=60)
"""How long a ranking may be used: an outage is noticed, and heeded, within less."""

TEXT_LENGTH_MAX: Final = 500


class RouterAdvisor:
    """Ranks the gateways for each payment with the policy of its experiment arm, or the default policy.

    What it has learned lies in ``router_knowledge``; how a router that starts comes by it, in ``router_start``.

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
        self._knows = self.fresh_knowledge()
        self._answered = AnsweredRequests()
        self._batches: Recent[str, None] = Recent(BATCHES_REMEMBERED_MAX)
        self._paused = PausedGateways()
        self.pauses_heard = 0
        """Counts what was said of pauses, so that what the store said before is known to be older."""
        self._overrides = RoutingOverrides(policies, generator)
        self.overrides_heard = 0
        """The same of overrides."""
        self._guidance = Guidance(rise_max=rise_max, canary_share=policies.canary_share, generator=generator)

    # --- answer ------------------------------------------------------------------------------------------------------

    def advise(self, request: RouteRequested, now: datetime) -> RouteAdvised:
        """Decide; a request that is sent again gets the very same decision while it is remembered.

        Raises: MessageMalformed: the id is that of another request; its gateways may not suit this payment.
        """
        advised = self._answered.answer_to(request)
        if advised is None:
            advised = self._decide(request, now)
            self.remember(request, advised)
        return advised

    def remember(self, request: RouteRequested, advised: RouteAdvised) -> None:
        """Keep a decision, so that its request gets it again; also one that another replica made."""
        self._answered.put(request, advised)

    def _decide(self, request: RouteRequested, now: datetime) -> RouteAdvised:
        context = context_asked(request)
        may = self._paused.without(eligible(context, self._gateways, asked=request.candidates), now)
        ruled = self._guidance.on(context, may)
        overridden = self._overrides.at(now)
        if overridden:  # rules say who may take a payment; in which order is the operator's to say
            ruled = Ruled(ruled.may, None, {})
        assigned = None if overridden or ruled.decider else self._knows.learners.assignment(request, now)
        policy = overridden[1] if overridden else self._knows.learners.learner(arm_of(assigned))
        candidates = ruled.may.candidates
        context = self._knows.shifted(context, candidates, now.timestamp())
        payment = Payment(context, request.order_id, request.customer_id, now)
        conditions = Conditions(self._knows.unwell.among(candidates, context) if candidates else {}, self._fees)
        if overridden:
            ranking = policy.rank(context, candidates, now.timestamp())
        else:
            ranking = self._guidance.ranked(policy, ruled, payment, conditions)
            if ruled.decider is None:
                ranking = with_fallbacks(ranking, self._knows.later.fallbacks, now.timestamp())
        advised = self._advised(request, now, ranking, ruled, policy, assigned)
        if overridden:
            said = f"{in_words(overridden[0])}; {advised.reason}"
            return msgspec.structs.replace(advised, reason=said[:TEXT_LENGTH_MAX])
        return advised

    def _advised(  # six things that a decision consists of
        self,
        request: RouteRequested,
        now: datetime,
        ranking: Ranking,
        ruled: Ruled,
        policy: Policy,
        assigned: Assignment | None,
    ) -> RouteAdvised:
        allocation, reliability = self._knows.learners.allocation, self._knows.reliability
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
            model_version=reliability.version if reliability is not None and name == "adaptive" else None,
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
                    self._knows.learners.put_in_force(message.allocation(), now.timestamp())
                case AnomalyOpened() | AnomalyUpdated():
                    self._knows.unwell.heed(message.anomaly)
                case AnomalyClosed():
                    self._knows.close(message.anomaly, now)
                case GatewayPaused():
                    self.pauses_heard += 1
                    self._paused.pause(message.pause)
                case GatewayResumed():
                    self.pauses_heard += 1
                    self._paused.resume(message.pause_id)
                case RoutingOverridden():
                    self.overrides_heard += 1
                    self._overrides.put(message.override, self._knows.learners.learner(DEFAULT), now)
                case RoutingReleased():
                    self.overrides_heard += 1
                    self._overrides.release(message.override_id)
                case FailuresClassified() | _:
                    pass
        return iter(())

    def fresh_knowledge(self) -> RouterKnowledge:
        """Knowledge of nothing yet, to be filled beside what is in force, and then taken."""
        learners = ArmLearners(self._policies, default_policy=self._default_policy, generator=self._generator)
        return RouterKnowledge(self._gateways, learners)

    def take(self, knowledge: RouterKnowledge, now: datetime) -> None:
        """Let other knowledge take the place of everything that was learned here.

        What operators said stands apart from it: ``heed_pauses`` and ``heed_override`` compare that with the store.
        """
        self._knows = knowledge
        self._overrides.renew(knowledge.learners.learner(DEFAULT), now)

    def serve(self, reliability: Reliability | None) -> None:
        """Take another reliability model from now on; None: none."""
        self._knows.reliability = reliability

    def put_rules_in_force(self, rules: RuleSet, counts: Mapping[str, Mapping[str, int]] | None, now: datetime) -> None:
        """Take other rules from now on.

        Args:
            rules: all of them.
            counts: first attempts of the present day, week and month so far, by gateway, for the commitments; None:
                they are not known, and nothing is owed.
            now: the present.
        """
        self._guidance.put_in_force(rules, is_counted=counts is not None)
        if counts is not None:
            for period in self._guidance.commitments.periods(now):
                self._guidance.commitments.set(period, counts.get(period[0], {}))

    def heed_override(self, override: RoutingOverride | None, heard_before: int, now: datetime) -> None:
        """Hold to what the store says is in force, also when word of it was lost.

        Args:
            override: as the store has it; None: none is in force.
            heard_before: ``overrides_heard`` before the store was asked; what was heard meanwhile is newer.
            now: the present.
        """
        held = self._overrides.at(now)
        held_id = None if held is None else held[0].override_id
        if self.overrides_heard != heard_before or (override and override.override_id) == held_id:
            return
        if held_id is not None:
            self._overrides.release(held_id)
        if override is not None:
            self._overrides.put(override, self._knows.learners.learner(DEFAULT), now)

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
        for attempt in recorded.attempts:
            if attempt.status_previous is None and attempt.attempt_number == 1:
                self._guidance.commitments.count(attempt.gateway, attempt.attempted_at, now)
        self._knows.learn(recorded.attempts, self._arm_taught, tuple(self._overrides.learners()), now)

    def _arm_taught(self, attempt: RecordedAttempt) -> Arm | None:
        """The arm whose policy chose an attempt's gateway; None: none did, so that it is evidence for all."""
        if attempt.decision_id is None or self._overrides.decided(attempt.attempted_at):
            return None
        if self._guidance.decides and self._guidance.on(context_of(attempt), self._able(attempt)).decider:
            return None
        return arm_of(self._knows.learners.assignment(attempt, attempt.attempted_at))

    def _able(self, attempt: RecordedAttempt) -> Eligibility:
        return eligible(context_of(attempt), self._gateways)
