"""How the policies choose."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pytest

from ml.routing.context import Outcome, RankedCandidate, RoutingContext
from ml.routing.policies import POLICIES, AdaptivePolicy, BestFixedPolicy, Policy, PolicySettings, UniformPolicy

SETTINGS = PolicySettings(
    memory_half_life_s=43_200, exploration_floor=0.01, canary_share=0.02, draws=64, cells_max=1000
)
CONTEXT = RoutingContext(method="card", issuer="harbour_bank", currency="INR")
GATEWAYS = ("alpha", "bravo", "charlie")


def taught(policy: Policy, rates: Mapping[str, float], payments: int = 200, at: float = 0.0) -> Policy:
    """Show a policy so many payments of each gateway at these rates."""
    for gateway, rate in rates.items():
        policy.learn(
            Outcome(gateway=gateway, method="card", issuer="harbour_bank", at=at,
                    succeeded=rate * payments, failed=(1 - rate) * payments),
            at,
        )  # fmt: skip
    return policy


def play(policy: Policy, rates: np.ndarray, seed: int, late: int = 0, interval_s: float = 1.0) -> np.ndarray:
    """Let a policy route payments, one a second; the outcome of each comes ``late`` payments later.

    Returns: position of the chosen gateway of each payment.
    """
    luck = np.random.default_rng([seed, 1]).random(len(rates))
    names = GATEWAYS[: rates.shape[1]]
    chosen = np.empty(len(rates), int)
    waiting: deque[Outcome] = deque()
    for step in range(len(rates)):
        now = step * interval_s
        first = policy.rank(CONTEXT, names, now).candidates[0].gateway
        chosen[step] = names.index(first)
        good = bool(luck[step] < rates[step, chosen[step]])
        waiting.append(Outcome(gateway=first, method="card", issuer="harbour_bank", at=now,
                               succeeded=good, failed=not good))  # fmt: skip
        if len(waiting) > late:
            policy.learn(waiting.popleft(), now)
    return chosen


def adaptive(seed: int = 0, **changes: float) -> AdaptivePolicy:
    """An adaptive policy of one seed."""
    return AdaptivePolicy(msgspec.structs.replace(SETTINGS, **changes), np.random.default_rng([seed, 2]))


def phases(*parts: tuple[int, Sequence[float]]) -> np.ndarray:
    """Rates of each payment, from (payments, rates) one after the other."""
    return np.concatenate([np.tile(rates, (payments, 1)) for payments, rates in parts])


@pytest.mark.parametrize("seed", range(2))
def test_adaptive_finds_the_best_gateway(seed: int) -> None:
    """After 1,500 payments, nine in ten go to a gateway that is eight points better."""
    chosen = play(adaptive(seed), phases((2000, (0.85, 0.93, 0.80))), seed)
    assert (chosen[1500:] == 1).mean() > 0.9


@pytest.mark.parametrize("seed", range(2))
def test_adaptive_leaves_a_dead_gateway_at_once(seed: int) -> None:
    """Of the 300 payments after the best gateway dies, at most 20 still go there."""
    chosen = play(adaptive(seed), phases((1500, (0.85, 0.95, 0.80)), (300, (0.85, 0.0, 0.80))), seed)
    assert (chosen[1500:] == 1).sum() <= 20


@pytest.mark.parametrize("seed", range(2))
def test_adaptive_returns_after_recovery_thanks_to_the_floor(seed: int) -> None:
    """A gateway that was dead gets most payments again some time after it recovers."""
    rates = phases((800, (0.8, 0.95, 0.7)), (800, (0.8, 0.0, 0.7)), (2400, (0.8, 0.95, 0.7)))
    chosen = play(adaptive(seed, exploration_floor=0.05), rates, seed)
    assert (chosen[1200:1600] == 1).mean() < 0.05
    assert (chosen[-300:] == 1).mean() > 0.7


@pytest.mark.parametrize("seed", range(2))
def test_adaptive_bears_late_feedback(seed: int) -> None:
    """With 300 outcomes always under way, it still settles on the best gateway and loses little on the way."""
    rates = phases((3000, (0.75, 0.93, 0.70)))
    chosen = play(adaptive(seed), rates, seed, late=300)
    assert (chosen[1500:] == 1).mean() > 0.85
    lost = (0.93 - rates[np.arange(3000), chosen]).sum()
    assert lost < 0.4 * (0.93 - rates.mean(axis=1)).sum()


def test_an_outage_of_one_issuer_leaves_the_others_where_they_were() -> None:
    """Only the payments of the issuer that fails at the best gateway go elsewhere."""
    policy = adaptive()
    generator = np.random.default_rng(9)
    share = Counter[tuple[bool, str]]()
    issuers = ("harbour_bank", "lotus_bank", "river_bank")
    for step in range(4500):
        issuer = issuers[step % 3]
        context = RoutingContext(method="card", issuer=issuer)
        first = policy.rank(context, GATEWAYS, step).candidates[0].gateway
        rate = {"alpha": 0.86, "bravo": 0.96, "charlie": 0.80}[first]
        if step >= 3000 and issuer == "harbour_bank" and first == "bravo":
            rate = 0.05
        good = generator.random() < rate
        policy.learn(
            Outcome(gateway=first, method="card", issuer=issuer, at=step, succeeded=good, failed=not good), step
        )
        if step >= 3300:
            share[issuer == "harbour_bank", first] += 1
    assert share[True, "bravo"] < 20  # of 400
    assert share[False, "bravo"] > 680  # of 800


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("unwell", [{}, {"bravo": "anomaly"}, dict.fromkeys(GATEWAYS, "anomaly")])
@pytest.mark.parametrize("failed", [(), ("alpha",), ("alpha", "bravo", "charlie")])
def test_propensities_add_up_to_one(name: str, unwell: dict[str, str], failed: tuple[str, ...]) -> None:
    """Over the candidates, and every candidate is ranked exactly once, whatever is unwell or failed before."""
    policy = taught(POLICIES[name](SETTINGS, np.random.default_rng(1)), {"alpha": 0.9, "bravo": 0.91, "charlie": 0.6})
    ranking = policy.rank(msgspec.structs.replace(CONTEXT, previous_failures=failed), GATEWAYS, 0, unwell)
    assert sum(candidate.propensity for candidate in ranking.candidates) == pytest.approx(1)
    assert sorted(candidate.gateway for candidate in ranking.candidates) == list(GATEWAYS)
    assert ranking.candidates[0].propensity > 0


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_stated_propensities_are_those_of_the_draw(name: str) -> None:
    """Over 3,000 decisions, each gateway comes first as often as the stated propensities add up to, within 4 sigma."""
    policy = taught(POLICIES[name](SETTINGS, np.random.default_rng(2)), {"alpha": 0.9, "bravo": 0.91, "charlie": 0.85})
    stated, seen = Counter[str](), Counter[str]()
    for _ in range(3000):
        ranking = policy.rank(CONTEXT, GATEWAYS, 0, {"charlie": "anomaly"})
        seen[ranking.candidates[0].gateway] += 1
        for candidate in ranking.candidates:
            stated[candidate.gateway] += candidate.propensity
    for gateway in GATEWAYS:
        assert abs(seen[gateway] - stated[gateway]) <= 4 * np.sqrt(max(stated[gateway], 1))


def test_every_gateway_keeps_its_part_of_the_floor() -> None:
    """Where gateways are near each other, no propensity is below the floor divided by the candidates."""
    policy = taught(adaptive(), {"alpha": 0.95, "bravo": 0.90, "charlie": 0.90}, 50_000)
    ranking = policy.rank(CONTEXT, GATEWAYS, 0)
    assert min(candidate.propensity for candidate in ranking.candidates) >= 0.01 / 3 - 1e-9


def test_the_floor_shrinks_where_it_would_cost_too_much_but_never_goes() -> None:
    """Two dead gateways keep a tenth of the floor, whatever the limit of its cost."""
    policy = taught(adaptive(exploration_cost_max=0.0), {"alpha": 0.99, "bravo": 0.01, "charlie": 0.01}, 5000)
    ranking = policy.rank(CONTEXT, GATEWAYS, 0)
    assert 0.001 / 3 <= min(candidate.propensity for candidate in ranking.candidates) < 0.01 / 3


@pytest.mark.parametrize("margin_share", [None, 0.1])
def test_exploring_a_large_payment_costs_no_more_than_it_may(margin_share: float | None) -> None:
    """Shares but the best one's shrink alike, none to nothing; small payments and other currencies do not care."""

    def ranked(amount_minor: int, currency: str, spend_max: Mapping[str, float]) -> dict[str, RankedCandidate]:
        settings = PolicySettings(exploration_spend_max=dict(spend_max), margin_share=margin_share)
        policy = taught(AdaptivePolicy(settings, np.random.default_rng(0)), {"a": 0.9, "b": 0.7, "c": 0.85}, 40)
        payment = RoutingContext(method="card", issuer="x", amount_minor=amount_minor, currency=currency)
        return {each.gateway: each for each in policy.rank(payment, ("a", "b", "c"), 60.0).candidates}

    def shares(candidates: Mapping[str, RankedCandidate]) -> list[float]:
        return [candidates[name].propensity for name in "abc"]

    bound, free = ranked(1_000_000, "EUR", {"EUR": 20.0}), ranked(1_000_000, "EUR", {})
    earned = 1_000_000 * (margin_share or 1.0)
    lost = [bound["a"].expected_success - each.expected_success for each in bound.values()]
    cost = sum(each.propensity * loss for each, loss in zip(bound.values(), lost, strict=True))
    assert cost * earned == pytest.approx(20.0)
    assert sum(shares(bound)) == pytest.approx(1.0)
    assert 0 < bound["b"].propensity < free["b"].propensity
    assert bound["b"].propensity / bound["c"].propensity == pytest.approx(free["b"].propensity / free["c"].propensity)
    assert shares(ranked(100, "EUR", {"EUR": 20.0})) == shares(ranked(100, "EUR", {}))
    assert shares(ranked(1_000_000, "INR", {"EUR": 20.0})) == shares(free)


def test_unwell_gateway_gets_the_canary_share_and_stands_last() -> None:
    """The best gateway with an open anomaly is first for 2 % of payments and last for the others, with the reason."""
    policy = taught(adaptive(), {"alpha": 0.9, "bravo": 0.97, "charlie": 0.8}, 2000)
    rankings = [policy.rank(CONTEXT, GATEWAYS, 0, {"bravo": "success 4%, anomaly anm_1"}) for _ in range(300)]
    for ranking in rankings:
        places = [candidate.gateway for candidate in ranking.candidates]
        bravo = ranking.candidates[places.index("bravo")]
        assert places.index("bravo") in (0, 2)
        assert bravo.propensity == pytest.approx(0.02)
        assert "anm_1" in bravo.reason
        assert ranking.exploring is (places[0] != "alpha")
    assert 0 < sum(ranking.candidates[0].gateway == "bravo" for ranking in rankings) < 25


def test_when_all_are_unwell_the_estimates_decide() -> None:
    """Routing never refuses: the least bad gateway is the first."""
    policy = taught(adaptive(exploration_floor=0), {"alpha": 0.3, "bravo": 0.6, "charlie": 0.1}, 2000)
    ranking = policy.rank(CONTEXT, GATEWAYS, 0, dict.fromkeys(GATEWAYS, "anomaly"))
    assert [candidate.gateway for candidate in ranking.candidates] == ["bravo", "alpha", "charlie"]


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_gateways_that_failed_for_the_order_go_to_the_end(name: str) -> None:
    """With every policy, and they are never the first choice."""
    policy = taught(POLICIES[name](SETTINGS, np.random.default_rng(0)), {"alpha": 0.8, "bravo": 0.97, "charlie": 0.7})
    context = msgspec.structs.replace(CONTEXT, previous_failures=("bravo",))
    for _ in range(20):
        last = policy.rank(context, GATEWAYS, 0).candidates[-1]
        assert (last.gateway, last.propensity) == ("bravo", 0)
        assert "failed for this order" in last.reason


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_no_candidate_is_an_empty_ranking_with_its_reason(name: str) -> None:
    """And never an exception."""
    ranking = POLICIES[name](SETTINGS, np.random.default_rng(0)).rank(CONTEXT, (), 0)
    assert (ranking.candidates, ranking.reason) == ((), "no gateway may take this payment")


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_same_seed_same_decisions(name: str) -> None:
    """All randomness comes from the generator handed in."""
    rates = phases((200, (0.85, 0.93, 0.80)))
    first, second = (play(POLICIES[name](SETTINGS, np.random.default_rng(4)), rates, 4) for _ in range(2))
    assert first.tolist() == second.tolist()


def test_best_fixed_stays_with_the_best_of_the_long_run() -> None:
    """After its short trial it neither explores nor leaves when the gateway has a bad time."""
    policy = taught(BestFixedPolicy(SETTINGS, np.random.default_rng(0)), {"alpha": 0.9, "bravo": 0.95, "charlie": 0.8})
    policy.learn(Outcome(gateway="bravo", method="card", issuer="harbour_bank", at=1, failed=5), 1)
    ranking = policy.rank(CONTEXT, GATEWAYS, 10**7, {"bravo": "anomaly"})
    assert [(each.gateway, each.propensity) for each in ranking.candidates] == [
        ("bravo", 1),
        ("alpha", 0),
        ("charlie", 0),
    ]


def test_best_fixed_tries_all_before_it_settles() -> None:
    """Without any knowledge every gateway is as likely; it does not marry the first name of the list."""
    ranking = BestFixedPolicy(SETTINGS, np.random.default_rng(0)).rank(CONTEXT, GATEWAYS, 0)
    assert [each.propensity for each in ranking.candidates] == pytest.approx([1 / 3] * 3)


def test_uniform_stays_uniform() -> None:
    """Whatever it saw, and whatever is unwell."""
    policy = taught(UniformPolicy(SETTINGS, np.random.default_rng(0)), {"alpha": 0.1, "bravo": 0.99})
    ranking = policy.rank(CONTEXT, GATEWAYS, 0, {"alpha": "anomaly"})
    assert [each.propensity for each in ranking.candidates] == pytest.approx([1 / 3] * 3)


def test_reasons_name_the_payments_they_rest_on() -> None:
    """The numbers in a reason are those of the estimate."""
    policy = taught(adaptive(exploration_floor=0), {"alpha": 0.5, "bravo": 0.95, "charlie": 0.5}, 1000)
    first = policy.rank(CONTEXT, GATEWAYS, 0).candidates[0]
    assert first.gateway == "bravo"
    assert first.reason.startswith(f"{first.expected_success:.1%} expected (90 % interval {first.belief.low:.1%} to ")
    assert "from about 1000 recent payments like this" in first.reason
    assert first.belief.low < first.expected_success < first.belief.high
