"""The routing policies: adaptive, and the two that it is compared with."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, Protocol

import msgspec
import numpy as np

from ml.routing.belief import Belief
from ml.routing.context import Outcome, Ranking, RoutingContext
from ml.routing.estimates import Estimates
from ml.routing.exploring import chances_of_being_best, floor_in_force, trial_shares, within_spend
from ml.routing.ranking import Preference, first_choice_shares
from ml.routing.standings import Standing, Standings
from ml.routing.worth import NO_FEES, Fees, Worth, worth_at

NOTHING_ELIGIBLE: Final = Ranking(candidates=())

REVISION: Final = 7
"""Raised whenever a policy would decide otherwise on the same evidence with the same settings."""

TRIAL_PAYMENTS: Final = 30.0
"""Outcomes of each gateway that a fixed choice waits for; otherwise the first name of the list would win for ever."""

NONE_UNWELL: Final[Mapping[str, str]] = MappingProxyType({})


class PolicySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How policies learn and explore; the defaults are one configuration for all traffic.

    Attributes:
        memory_half_life_s: a payment this long ago counts half for the steady estimate, seconds, > 0.
        recent_half_life_s: the same for what is different now, seconds, > 0.
        exploration_floor: share of payments whose first gateway is dealt out evenly among the eligible, 0 to 1.
        exploration_cost_max: what the floor may cost, in shares of success, 0 to 1; beyond it the floor shrinks, to a
            tenth at most.
        exploration_spend_max: what exploring one payment may cost on average, minor units >= 0, by currency; a currency
            that is not named has no such bound. Counted in expected value where the policy ranks by it, else in the
            amount that is not paid.
        boldness: how much of the posterior deviation is explored, > 0; 1 is Thompson sampling.
        canary_share: share of payments that a gateway with an open anomaly still gets as first choice, 0 to 1.
        draws: posterior points per decision, from which the propensities come.
        cells_max: nodes remembered at most by each learner.
        order: gateways that a fixed order prefers, first one first.
        margin_share: share of the amount that a success earns before the gateway's fees, above 0 to 1; then the
            adaptive policy ranks by expected value instead of expected success. None: success alone counts.
    """

    memory_half_life_s: float = 345_600.0
    recent_half_life_s: float = 10_800.0
    exploration_floor: float = 0.01
    exploration_cost_max: float = 0.0007
    exploration_spend_max: dict[str, float] = {}
    boldness: float = 0.65
    canary_share: float = 0.01
    draws: int = 128
    cells_max: int = 20_000
    order: tuple[str, ...] = ()
    margin_share: float | None = None


ARM_PARAMETERS: Final = tuple(name for name in PolicySettings.__struct_fields__ if name != "exploration_spend_max")
"""What an experiment arm, or a policy that is judged, may set; what exploring may cost in money is the router's."""


def settings_of_arm(router: PolicySettings, parameters: Mapping[str, object]) -> PolicySettings:
    """The settings of an experiment arm, or of a policy that is judged: those of the router, but for what it names.

    What is defined by its floor gets the floor whole, whatever it costs.

    Raises: msgspec.ValidationError: a value does not fit.

    >>> settings_of_arm(PolicySettings(boldness=0.5), {"exploration_floor": 0.1}).boldness
    0.5
    """
    whole = {"exploration_cost_max": 1.0} if "exploration_floor" in parameters else {}
    return msgspec.convert({**msgspec.structs.asdict(router), **whole, **parameters}, PolicySettings)


def version_of(policy: str, settings: PolicySettings) -> str:
    """Name what decides: the same policy, parameters and code have the same version, and nothing else has.

    >>> version_of("adaptive", PolicySettings()) == version_of("adaptive", PolicySettings(boldness=0.5))
    False
    """
    said = msgspec.json.encode((REVISION, policy, settings))
    return f"{policy}-{hashlib.sha256(said).hexdigest()[:10]}"


class Policy(Protocol):
    """Ranks gateways for a payment, and learns from what became of payments."""

    name: str
    version: str

    def rank(
        self,
        context: RoutingContext,
        candidates: tuple[str, ...],
        now: float,
        unwell: Mapping[str, str] = ...,
        fees: Mapping[str, Fees] = ...,
    ) -> Ranking:
        """Rank eligible gateways.

        Args:
            context: the payment.
            candidates: the gateways that may take it.
            now: seconds since the epoch.
            unwell: gateways with an open anomaly for this payment, and its reason.
            fees: of the gateways, for a policy that ranks by value.
        """

    def follow(
        self,
        context: RoutingContext,
        candidates: tuple[str, ...],
        now: float,
        preference: Preference,
        unwell: Mapping[str, str] = ...,
    ) -> Ranking:
        """Rank eligible gateways, at least one, as somebody else prefers, with what this policy expects of them.

        Args:
            context: the payment.
            candidates: the gateways that may take it.
            now: seconds since the epoch.
            preference: the probability of each to be first.
            unwell: gateways with an open anomaly for this payment, and its reason; they stand behind the others.
        """

    def moved(self, context: RoutingContext, gateway: str, now: float) -> None:
        """Hear that the payment that was ranked last goes to another gateway than the one put first.

        Args:
            context: the payment.
            gateway: where it goes.
            now: seconds since the epoch.
        """

    def learn(self, outcome: Outcome, now: float) -> None:
        """Take in what became of payments, or a correction of it."""

    def forget(self, gateway: str, method: str | None, issuer: str | None, *, since: float) -> None:
        """Forget a segment whose anomaly is over, so that it is tried again."""

    def expected(self, context: RoutingContext, gateway: str, now: float) -> float:
        """Success expected of a payment at one gateway, 0 to 1."""

    def evidence(self, now: float) -> Iterator[Outcome]:
        """What is known, for a policy that starts later."""

    def inherit(self, evidence: Iterable[Outcome], now: float) -> None:
        """Start from what another policy knew."""


class _Learner:
    """What the policies have in common: their estimates, and the version that decisions carry."""

    name: str

    def __init__(self, settings: PolicySettings, generator: np.random.Generator, *, half_life_s: float) -> None:
        self._settings = settings
        self._generator = generator
        self.version = version_of(self.name, settings)
        self._estimates = Estimates(
            half_life_s=half_life_s,
            recent_half_life_s=settings.recent_half_life_s,
            cells_max=settings.cells_max,
            alert=math.isfinite(half_life_s),
        )

    def follow(
        self,
        context: RoutingContext,
        candidates: tuple[str, ...],
        now: float,
        preference: Preference,
        unwell: Mapping[str, str] = NONE_UNWELL,
    ) -> Ranking:
        """Rank eligible gateways as somebody else prefers; see Policy."""
        beliefs = self._estimates.beliefs(context.method, context.issuer, candidates, now, context.network)
        shares = first_choice_shares(preference, context, candidates, unwell, self._settings.canary_share)
        standing = Standing(candidates, beliefs, shares, unwell)
        return standing.ranking(standing.draw(self._generator))

    def moved(self, context: RoutingContext, gateway: str, now: float) -> None:
        """Take back that the gateway put first was tried, and note the other; see Policy."""
        self._estimates.take_back_probe()
        self._estimates.note_probe(context.method, context.issuer, gateway, now, context.network)

    def learn(self, outcome: Outcome, now: float) -> None:
        """Take in what became of payments; see Outcome."""
        self._estimates.learn(outcome, now)

    def forget(self, gateway: str, method: str | None, issuer: str | None, *, since: float) -> None:
        """Forget a segment; see Policy."""
        self._estimates.forget(gateway, method, issuer, since=since)

    def expected(self, context: RoutingContext, gateway: str, now: float) -> float:
        """Success expected of a payment at one gateway; see Policy."""
        (belief,) = self._estimates.beliefs(context.method, context.issuer, (gateway,), now, context.network)
        return belief.mean

    def evidence(self, now: float) -> Iterator[Outcome]:
        """What is known, one outcome per cell."""
        return self._estimates.evidence(now)

    def inherit(self, evidence: Iterable[Outcome], now: float) -> None:
        """Start from what another policy knew; see Policy."""
        for outcome in evidence:
            self._estimates.learn(outcome, now, inherited=True)


class AdaptivePolicy(_Learner):
    """Thompson sampling over estimates that forget with time and notice changes, with timely trials and an even floor.

    The first gateway is drawn from exactly the stated propensities. They are each gateway's share of posterior points
    in which it is the best; a share for trials of gateways that may have changed since they were last looked at, larger
    the more a change would bring over what the trial costs; and an even floor. Nothing in a decision depends on how
    many decisions wait for their outcome, except through chance, so late feedback cannot herd all payments in flight to
    one gateway as a deterministic bound would.

    Every final outcome of a payment counts, whoever's fault a failure was. Customers without money or with an expired
    card come to all gateways alike, so they lower all rates and change no ranking; leaving them out would make
    ``expected_success`` too rosy, and would let a gateway look better by relabelling its own errors.

    What the reliability model knows beyond these estimates comes with the payment (``context.shifts``), and with its
    outcome: estimates are of payments as they would do without, so that those that were sent somewhere because of their
    shift do not count twice.

    Source: Thompson (1933), Biometrika 25(3/4), 285-294.
    """

    name = "adaptive"

    def __init__(self, settings: PolicySettings, generator: np.random.Generator) -> None:
        super().__init__(settings, generator, half_life_s=settings.memory_half_life_s)
        self._standings = Standings()

    def rank(
        self,
        context: RoutingContext,
        candidates: tuple[str, ...],
        now: float,
        unwell: Mapping[str, str] = NONE_UNWELL,
        fees: Mapping[str, Fees] = NO_FEES,
    ) -> Ranking:
        """Rank eligible gateways; see Policy."""
        if not candidates:
            return NOTHING_ELIGIBLE
        method, issuer, network = context.method, context.issuer, context.network
        worth = worth_at(candidates, context.amount_minor, self._settings.margin_share, fees)
        standing, kind = None, None
        is_plain = worth is None and context.currency not in self._settings.exploration_spend_max
        if is_plain and not unwell and not context.previous_failures:
            shifts = tuple(map(context.shifts.get, candidates)) if context.shifts else ()
            kind = method, issuer, network, candidates, shifts
            standing = self._standings.get(kind, self._estimates.learned, now)
        if standing is None:
            standing = self._standing(context, candidates, now, unwell, worth)
            if kind is not None:
                self._standings.put(kind, standing)
        chosen = standing.draw(self._generator)
        self._estimates.note_probe(method, issuer, candidates[chosen], now, network)
        if standing.is_trial(chosen):
            self._standings.clear()
        return standing.ranking(chosen)

    def _standing(
        self,
        context: RoutingContext,
        candidates: tuple[str, ...],
        now: float,
        unwell: Mapping[str, str],
        worth: list[Worth] | None,
    ) -> Standing:
        beliefs = self._estimates.beliefs(context.method, context.issuer, candidates, now, context.network)
        if context.shifts:
            for gateway, belief in zip(candidates, beliefs, strict=True):
                belief.shift_by(context.shifts.get(gateway, 0.0))
        trials = [0.0] * len(candidates)

        def preference(inside: list[int]) -> list[float]:
            if len(inside) == 1:
                return [1.0]
            of_these = [worth[index] for index in inside] if worth is not None else None
            inside_beliefs = [beliefs[index] for index in inside]
            inside_trials = trial_shares(inside_beliefs)
            for index, trial in zip(inside, inside_trials, strict=True):
                trials[index] = trial
            shares = self._first_shares(inside_beliefs, of_these, inside_trials)
            spend_max = self._settings.exploration_spend_max.get(context.currency)
            if spend_max is None:
                return shares
            values = [context.amount_minor * belief.mean for belief in inside_beliefs]
            if of_these is not None:
                values = [each.at(belief.mean) for each, belief in zip(of_these, inside_beliefs, strict=True)]
            return within_spend(shares, values, spend_max)

        shares = first_choice_shares(preference, context, candidates, unwell, self._settings.canary_share)
        return Standing(candidates, beliefs, shares, unwell, worth, trials=trials, shifted_by=context.shifted_by)

    def _first_shares(self, beliefs: list[Belief], worth: list[Worth] | None, trials: list[float]) -> list[float]:
        settings = self._settings
        best = chances_of_being_best(beliefs, worth, boldness=settings.boldness, draws=settings.draws)
        floor = floor_in_force(beliefs, floor=settings.exploration_floor, cost_max=settings.exploration_cost_max)
        chosen, even = 1.0 - floor, floor / len(beliefs)
        rest = chosen * (1.0 - sum(trials))
        return [rest * share + chosen * trial + even for share, trial in zip(best, trials, strict=True)]


class BestFixedPolicy(_Learner):
    """The gateway with the best success over all that was ever seen, for every payment that it may take.

    This is what a careful merchant without a router does, so it neither explores nor forgets nor heeds anomalies. Only
    at the very start, until each gateway has some payments, it deals them out evenly; else the first name would win.
    """

    name = "best_fixed"

    def __init__(self, settings: PolicySettings, generator: np.random.Generator) -> None:
        super().__init__(settings, generator, half_life_s=math.inf)

    def rank(
        self,
        context: RoutingContext,
        candidates: tuple[str, ...],
        now: float,
        unwell: Mapping[str, str] = NONE_UNWELL,
        fees: Mapping[str, Fees] = NO_FEES,
    ) -> Ranking:
        """Rank eligible gateways; see Policy. ``unwell`` and ``fees`` are not heeded."""
        if not candidates:
            return NOTHING_ELIGIBLE
        beliefs = self._estimates.overall(candidates, now)

        def preference(inside: list[int]) -> list[float]:
            if min(beliefs[index].own for index in inside) < TRIAL_PAYMENTS:
                return [1.0 / len(inside)] * len(inside)
            best = max(inside, key=lambda index: beliefs[index].mean)
            return [float(index == best) for index in inside]

        shares = first_choice_shares(preference, context, candidates, NONE_UNWELL, 0.0)
        standing = Standing(candidates, beliefs, shares, NONE_UNWELL)
        return standing.ranking(standing.draw(self._generator))


class FixedOrderPolicy(_Learner):
    """The first eligible gateway of a list that an operator wrote down, as a rule of thumb; the others come after it.

    It neither explores nor heeds anomalies. Where the list names no eligible gateway, each gets an even share.
    """

    name = "fixed_order"

    def __init__(self, settings: PolicySettings, generator: np.random.Generator) -> None:
        super().__init__(settings, generator, half_life_s=settings.memory_half_life_s)

    def rank(
        self,
        context: RoutingContext,
        candidates: tuple[str, ...],
        now: float,
        unwell: Mapping[str, str] = NONE_UNWELL,
        fees: Mapping[str, Fees] = NO_FEES,
    ) -> Ranking:
        """Rank eligible gateways; see Policy. ``unwell`` and ``fees`` are not heeded."""
        if not candidates:
            return NOTHING_ELIGIBLE

        def preference(inside: list[int]) -> list[float]:
            inside_names = [candidates[index] for index in inside]
            first = next((name for name in self._settings.order if name in inside_names), None)
            if first is None:
                return [1.0 / len(inside)] * len(inside)
            return [float(name == first) for name in inside_names]

        return self.follow(context, candidates, now, preference)


class UniformPolicy(_Learner):
    """Every eligible gateway with the same probability: what experiments and off-policy evaluation measure against."""

    name = "uniform"

    def __init__(self, settings: PolicySettings, generator: np.random.Generator) -> None:
        super().__init__(settings, generator, half_life_s=settings.memory_half_life_s)

    def rank(
        self,
        context: RoutingContext,
        candidates: tuple[str, ...],
        now: float,
        unwell: Mapping[str, str] = NONE_UNWELL,
        fees: Mapping[str, Fees] = NO_FEES,
    ) -> Ranking:
        """Rank eligible gateways; see Policy. ``unwell`` and ``fees`` are not heeded."""
        if not candidates:
            return NOTHING_ELIGIBLE
        return self.follow(context, candidates, now, lambda inside: [1.0 / len(inside)] * len(inside))


POLICIES: Final[Mapping[str, Callable[[PolicySettings, np.random.Generator], Policy]]] = {
    policy.name: policy for policy in (AdaptivePolicy, BestFixedPolicy, FixedOrderPolicy, UniformPolicy)
}
"""Every policy that an experiment may name."""
