"""Judging a policy on decisions of another one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ml.routing.context import Outcome, RoutingContext
from ml.routing.evaluation.candidate import Candidate, CandidateRefused, JudgedPolicy
from ml.routing.evaluation.estimators import (
    Estimates,
    Refused,
    Weighted,
    effective_payments,
    effective_size,
    estimate,
    variance_of_mean,
)
from ml.routing.evaluation.evaluation import evaluate
from ml.routing.evaluation.logged import LoggedDecision
from ml.routing.evaluation.money import Pricing, Valued, ValueEstimates
from ml.routing.evaluation.success_model import SuccessModel
from ml.routing.policies import PolicySettings
from ml.routing.reliability import Reliability
from ml.routing.worth import Fees

GATEWAYS = ("alpha", "bravo", "charlie")
RATES = np.array([0.97, 0.92, 0.88])


def weighted(
    rng: np.random.Generator, count: int, logged: np.ndarray, wanted: np.ndarray, rates: np.ndarray = RATES
) -> Weighted:
    """Decisions of a policy with fixed shares, and a candidate with others."""
    used = rng.choice(len(logged), count, p=logged)
    rewards = (rng.random(count) < rates[used]).astype(float)
    guess = rates * 0.9
    return Weighted((wanted / logged)[used], rewards, guess[used], np.full(count, wanted @ guess), np.zeros(count),
                    np.arange(count))  # fmt: skip


def logged(number: int, gateway: str = "alpha", **changed: object) -> LoggedDecision:
    """A decision in second ``number`` that dealt out evenly, known a second later."""
    fields: dict[str, object] = {
        "at": float(number),
        "context": RoutingContext(method="card", issuer="harbour_bank", country="IN"),
        "eligible": GATEWAYS,
        "propensities": (1 / 3, 1 / 3, 1 / 3),
        "gateway": gateway,
        "succeeded": True,
        "known_at": number + 1.0,
    }
    return LoggedDecision(**fields | changed)  # type: ignore[arg-type]


def many(rng: np.random.Generator, count: int, **changed: object) -> list[LoggedDecision]:
    """Evenly dealt out decisions with outcomes by RATES."""
    used = rng.integers(len(GATEWAYS), size=count)
    won = rng.random(count) < RATES[used]
    return [
        logged(number, GATEWAYS[gateway], succeeded=bool(paid), **changed)
        for number, (gateway, paid) in enumerate(zip(used, won, strict=True))
    ]


@pytest.mark.parametrize("wanted", [(0.9, 0.05, 0.05), (0.0, 1.0, 0.0), (0.3, 0.3, 0.4)])
def test_intervals_hold_the_truth_as_often_as_they_say(wanted: tuple[float, ...]) -> None:
    """Over 1,500 logs near the floor of the sample size, each interval misses about 5 in 100, never 7."""
    share, shares = np.array([0.5, 0.3, 0.2]), np.array(wanted)
    truth, misses = float(shares @ RATES), np.zeros(4)
    rounds = 1_500
    for seed in range(rounds):
        result = estimate(weighted(np.random.default_rng([seed, 5]), 4_000, share, shares))
        assert isinstance(result, Estimates)
        gain = truth - float(share @ RATES)
        for place, (interval, target) in enumerate(
            ((result.snips, truth), (result.ips, truth), (result.doubly_robust, truth), (result.gain, gain))
        ):
            misses[place] += not interval.low <= target <= interval.high
    assert (misses / rounds < 0.07).all(), misses
    assert misses[0] / rounds > 0.02  # nor are they so wide that they say nothing


def sticky(rng: np.random.Generator, customers: int, each: int) -> Weighted:
    """Customers that stay at one of two gateways, with a rate of their own there, 0.8 on the mean; one is judged."""
    unit = np.repeat(np.arange(customers), each)
    there, rates = (rng.random(customers) < 0.5)[unit], rng.beta(4, 1, customers)[unit]
    rewards, flat = (rng.random(len(unit)) < rates).astype(float), np.full(len(unit), 0.8)
    return Weighted(2.0 * there, rewards, flat, flat, np.zeros(len(unit)), unit)


@pytest.mark.parametrize(("customers", "each"), [(800, 20), (400, 200)])
def test_intervals_hold_the_truth_though_a_customers_payments_are_alike(customers: int, each: int) -> None:
    """A split that keeps customers together, 600 logs: each interval misses about 5 in 100, though a customer's
    payments are alike; with every payment taken for itself 3 to 9 in 10 would miss."""
    misses, rounds, answered = np.zeros(5), 600, 0
    for seed in range(rounds):
        data = sticky(np.random.default_rng([seed, 17]), customers, each)
        result = estimate(data)
        if isinstance(result, Refused):
            assert "needed" in result.why
            continue
        answered += 1
        assert result.effective < 0.5 * effective_size(data.weights)
        told = (result.snips, result.ips, result.doubly_robust, result.observed, result.gain)
        for place, (interval, truth) in enumerate(zip(told, (0.8, 0.8, 0.8, 0.8, 0.0), strict=True)):
            misses[place] += not interval.low <= truth <= interval.high
    assert answered > 0.9 * rounds
    assert (misses < 0.08 * answered).all(), (misses, answered)


def test_a_payment_a_customer_is_judged_as_a_payment() -> None:
    """Where no customer paid twice, what is told is the ordinary variance and size; by hand."""
    data = weighted(np.random.default_rng(18), 5_000, np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.4, 0.4]))
    values = data.weights * data.rewards
    assert variance_of_mean(values, data.unit) == pytest.approx(np.var(values, ddof=1) / 5_000, rel=1e-12)
    assert effective_payments(data.weights, data.rewards, data.unit) == effective_size(data.weights)


def test_customers_that_pay_often_count_as_far_as_they_differ() -> None:
    """Payments that are not alike keep their worth, though 20 are of one customer; such that are count as few."""
    rng, unit = np.random.default_rng(19), np.repeat(np.arange(500), 20)
    rewards, flat = (rng.random(10_000) < 0.9).astype(float), np.ones(10_000)
    assert effective_payments(flat, rewards, unit) > 8_000
    alike = (rng.random(500) < 0.9).astype(float)[unit]
    assert effective_payments(flat, alike, unit) == pytest.approx(500, rel=0.01)
    assert effective_payments(flat, flat, unit) == pytest.approx(500)  # nothing says that they are not alike


def test_too_few_customers_are_refused() -> None:
    """59 customers allow no interval however many payments they made, and say so, in money too."""
    decisions = [
        msgspec.structs.replace(each, unit=f"customer {number % 59}", context=RoutingContext(
            method="card", currency="INR", amount_minor=10_000
        ))
        for number, each in enumerate(many(np.random.default_rng(20), 9_000))
    ]  # fmt: skip
    found = evaluate(decisions, JudgedPolicy(Candidate(policy="uniform")), pricing=Pricing(margin_share=0.1, fees={}))
    for result in (found.result, found.money[0].result):
        assert isinstance(result, Refused)
        assert "of 59 customers of like weight, at least 60 are needed" in result.why


def test_where_all_succeed_the_interval_still_has_a_width() -> None:
    """No payment failed, with uneven weights: the interval is Wilson's of the effective number, not a point."""
    rng = np.random.default_rng(21)
    weights, flat = rng.uniform(0.1, 3.0, 3_001), np.ones(3_001)
    result = estimate(Weighted(weights, flat, flat, flat, np.zeros(3_001), np.arange(3_001)))
    assert isinstance(result, Estimates)
    assert (result.snips.estimate, result.snips.high) == (1.0, 1.0)
    assert result.snips.low == pytest.approx(1 - 3.84 / (effective_size(weights) + 3.84), abs=1e-5)


def test_estimates_are_what_the_formulas_say() -> None:
    """By hand: IPS is the mean of weighted rewards, SNIPS divides by the weights, DR corrects the model's errors."""
    count = 6_000
    weights = np.tile([2.0, 0.5, 0.5], count // 3)
    rewards = np.tile([1.0, 0.0, 1.0, 1.0, 1.0, 0.0], count // 6)
    used, wanted = np.tile([0.8, 0.4, 0.4], count // 3), np.full(count, 0.7)
    result = estimate(Weighted(weights, rewards, used, wanted, np.zeros(count), np.arange(count)))
    assert isinstance(result, Estimates)
    assert result.ips.estimate == pytest.approx(np.mean(weights * rewards))
    assert result.snips.estimate == pytest.approx((weights * rewards).sum() / weights.sum())
    assert result.doubly_robust.estimate == pytest.approx(np.mean(wanted + weights * (rewards - used)))
    assert result.observed.estimate == pytest.approx(rewards.mean())
    assert result.gain.estimate == pytest.approx(result.snips.estimate - rewards.mean())
    assert result.effective == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_with_equal_weights_it_is_the_plain_rate_with_wilsons_interval() -> None:
    """A candidate that does what was logged gets the observed rate and its ordinary interval."""
    from ml.experiments.intervals import Interval, Proportion, wilson_interval

    rewards = np.zeros(2_000)
    rewards[:1_900] = 1.0
    flat = np.ones(2_000)
    result = estimate(Weighted(flat, rewards, flat, flat, np.zeros(2_000), np.arange(2_000)))
    ordinary = wilson_interval(Proportion(1_900, 2_000))
    assert isinstance(result, Estimates)
    assert isinstance(ordinary, Interval)
    assert (result.snips.low, result.snips.high) == pytest.approx((ordinary.low, ordinary.high), abs=1e-5)
    assert result.gain.estimate == pytest.approx(0.0, abs=1e-12)


def test_too_few_effective_decisions_are_refused() -> None:
    """Many decisions with nearly all weight on a few are few decisions; the refusal says how many."""
    rng = np.random.default_rng(3)
    few = estimate(weighted(rng, 20_000, np.array([0.96, 0.02, 0.02]), np.array([0.0, 0.0, 1.0])))
    assert isinstance(few, Refused)
    assert few.effective < 1_000 <= few.decisions
    assert "at least 1,000 are needed" in few.why
    assert effective_size(np.zeros(3)) == 0.0
    none = np.zeros(0)
    assert isinstance(estimate(Weighted(none, none, none, none, none, none.astype(int))), Refused)


def test_what_was_never_possible_is_not_judged() -> None:
    """A candidate that wants a gateway with propensity 0 is refused; a trace of it widens the interval."""
    rng = np.random.default_rng(4)
    data = weighted(rng, 8_000, np.array([0.5, 0.3, 0.2]), np.array([0.5, 0.3, 0.2]))
    whole = estimate(data)
    traced = estimate(Weighted(data.weights, data.rewards, data.predicted_used, data.predicted_candidate,
                               np.full(8_000, 0.005), data.unit))  # fmt: skip
    refused = estimate(Weighted(data.weights, data.rewards, data.predicted_used, data.predicted_candidate,
                                np.full(8_000, 0.05), data.unit))  # fmt: skip
    assert isinstance(whole, Estimates)
    assert isinstance(traced, Estimates)
    assert traced.snips.low < whole.snips.low
    assert traced.snips.high > whole.snips.high
    assert isinstance(refused, Refused)
    assert "5.0% of the candidate's choices" in refused.why


def test_a_fixed_order_is_judged_by_the_payments_that_went_there() -> None:
    """On evenly dealt out decisions, a fixed first gateway gets exactly that gateway's own rate."""
    decisions = many(np.random.default_rng(1), 3_600)
    found = evaluate(decisions, JudgedPolicy(Candidate(policy="fixed_order", parameters={"order": ["bravo"]})))
    there = [each.succeeded for each in decisions if each.gateway == "bravo"]
    assert isinstance(found.result, Estimates)
    assert found.result.snips.estimate == pytest.approx(np.mean(there))  # type: ignore[arg-type]
    assert found.result.effective == pytest.approx(len(there))
    assert found.first_choices == pytest.approx({"alpha": 0.0, "bravo": 1.0, "charlie": 0.0})


def test_a_learning_candidate_never_hears_an_outcome_early() -> None:
    """At each decision the candidate knows exactly the outcomes that were known then, also late ones."""
    rng = np.random.default_rng(2)
    decisions = [
        logged(number, known_at=None if number % 7 == 0 else number + float(rng.integers(1, 400)))
        for number in range(500)
    ]
    heard: list[LoggedDecision] = []

    class Listener:
        def shares(self, decision: LoggedDecision) -> dict[str, float]:
            due = {each.at for each in decisions if each.known_at is not None and each.known_at <= decision.at}
            assert {each.at for each in heard} == due
            return {"alpha": 1.0}

        def learn(self, decision: LoggedDecision) -> None:
            heard.append(decision)

    evaluate(decisions, Listener())
    assert len({each.at for each in heard}) == len(heard)


def test_unknown_outcomes_are_counted_and_bounded() -> None:
    """Payments without an outcome are left out of the estimate, and the bounds say what they may hide."""
    known = many(np.random.default_rng(6), 3_000)
    unknown = [logged(3_000 + n, GATEWAYS[n % 3], succeeded=None, known_at=None) for n in range(300)]
    found = evaluate([*known, *unknown], JudgedPolicy(Candidate(policy="uniform")))
    assert found.unknown == 300
    assert isinstance(found.result, Estimates)
    assert found.result.decisions == 3_000
    assert found.if_unknown is not None
    won = sum(bool(each.succeeded) for each in known)
    assert (found.if_unknown.low, found.if_unknown.high) == pytest.approx((won / 3_300, (won + 300) / 3_300))


def test_segments_have_answers_and_refusals_of_their_own() -> None:
    """Each value of each kind is judged alone: a thin one is refused while the whole is not."""
    rng = np.random.default_rng(8)
    thin = RoutingContext(method="upi", issuer="meadow_bank", country="IN")
    decisions = many(rng, 2_500) + many(rng, 200, context=thin)
    decisions.sort(key=lambda each: each.at)
    found = evaluate(decisions, JudgedPolicy(Candidate(policy="uniform")))
    by_name = {(each.kind, each.value): each.result for each in found.segments}
    assert isinstance(by_name["method", "card"], Estimates)
    assert isinstance(by_name["method", "upi"], Refused)
    assert by_name["network", "none"] == found.result


def test_earlier_decisions_only_teach() -> None:
    """Before ``judge_from`` the candidate learns and is not judged; then it knows which gateway is best."""
    decisions = many(np.random.default_rng(9), 9_000)
    found = evaluate(decisions, JudgedPolicy(Candidate(policy="best_fixed")), judge_from=4_500.0)
    assert found.taught == 4_500
    assert isinstance(found.result, Estimates)
    assert found.result.decisions == 4_500
    assert found.first_choices["alpha"] > 0.99


def test_what_an_operator_chose_only_teaches() -> None:
    """Decisions of an override are in no figure, neither as known nor as unknown; their outcomes are heard."""
    decisions = many(np.random.default_rng(22), 4_000)
    sure = (1.0, 0.0, 0.0)
    chosen = [logged(4_000 + n, propensities=sure, by_operator=True, succeeded=n > 9) for n in range(400)]
    chosen += [logged(4_400, propensities=sure, by_operator=True, succeeded=None, known_at=None)]
    later = [msgspec.structs.replace(each, at=each.at + 5_000, known_at=each.at + 5_001) for each in decisions]
    heard: list[LoggedDecision] = []

    class Listener(JudgedPolicy):
        def learn(self, decision: LoggedDecision) -> None:
            heard.append(decision)

    candidate = Candidate(policy="fixed_order", parameters={"order": ["bravo"]})
    found = evaluate([*decisions, *chosen, *later], Listener(candidate))
    assert isinstance(found.result, Estimates)
    assert (found.result.decisions, found.result.unsupported, found.unknown) == (8_000, 0.0, 0)
    assert sum(each.by_operator for each in heard) == 400


def test_money_is_counted_by_currency_with_the_fees_of_each_gateway() -> None:
    """Always one gateway: the mean of margin less fees of what went there; a thin currency is refused alone."""
    rng = np.random.default_rng(10)
    pricing = Pricing(margin_share=0.1, fees={"bravo": Fees(fixed_success=20, fixed_failure=5, bps_success=100)})
    paid = RoutingContext(method="card", currency="INR", amount_minor=10_000)
    thin = RoutingContext(method="card", currency="EUR", amount_minor=500)
    free = RoutingContext(method="card", currency="INR")
    decisions = [*many(rng, 4_000, context=paid), *many(rng, 300, context=thin), *many(rng, 50, context=free)]
    decisions.sort(key=lambda each: each.at)
    candidate = JudgedPolicy(Candidate(policy="fixed_order", parameters={"order": ["bravo"]}))
    found = evaluate(decisions, candidate, pricing=pricing)
    went = [each for each in decisions if each.context == paid and each.gateway == "bravo"]
    there = np.mean([880.0 if each.succeeded else -5.0 for each in went])
    assert [each.currency for each in found.money] == ["INR", "EUR"]
    result, refused = (each.result for each in found.money)
    assert isinstance(result, ValueEstimates)
    assert isinstance(refused, Refused)
    assert result.decisions == 4_000
    assert result.candidate.estimate == pytest.approx(there)
    assert result.candidate.low < there < result.candidate.high
    assert result.gain.high < 0  # the others are free
    assert evaluate(decisions, candidate).money == []


def test_intervals_of_money_hold_the_truth_though_amounts_are_uneven() -> None:
    """Lognormal amounts, 200 logs near the floor of the sample size: value and gain miss about 5 in 100."""
    fees = [Fees(), Fees(bps_success=150), Fees(fixed_success=10, fixed_failure=10)]
    pricing, share = Pricing(margin_share=0.05, fees=dict(zip(GATEWAYS, fees, strict=True))), np.array([0.2, 0.5, 0.3])
    amounts = np.random.default_rng(11).lognormal(9, 1.0, 400_000).round()
    mean = float(amounts.mean())
    worth = [rate * (mean * (0.05 - fee.bps_success / 1e4) - fee.fixed_success) - (1 - rate) * fee.fixed_failure
             for rate, fee in zip(RATES, fees, strict=True)]  # fmt: skip
    truth, gain, rounds = worth[0], worth[0] - float(share @ worth), 200
    misses = np.zeros(2)
    for seed in range(rounds):
        rng = np.random.default_rng([seed, 12])
        valued, paid = Valued(pricing), rng.random(6_000)
        used = rng.choice(3, 6_000, p=share)
        for number, (gateway, amount) in enumerate(zip(used, rng.choice(amounts, 6_000), strict=True)):
            context = RoutingContext(method="card", currency="INR", amount_minor=int(amount))
            succeeded = bool(paid[number] < RATES[gateway])
            decision = logged(number, GATEWAYS[gateway], context=context, succeeded=succeeded)
            valued.add(decision, 5.0 * (gateway == 0), 0.0)
        (found,) = valued.by_currency()
        assert isinstance(found.result, ValueEstimates)
        for place, (interval, target) in enumerate(((found.result.candidate, truth), (found.result.gain, gain))):
            misses[place] += not interval.low <= target <= interval.high
    assert (misses / rounds < 0.09).all(), misses
    assert (misses / rounds > 0.02).all(), misses


def test_intervals_of_money_hold_what_tiny_unsupported_payments_hide() -> None:
    """Where only payments of 100 among such of 100,000 could not go the candidate's way, its value is still held."""
    pricing, rate, tiny_share = Pricing(margin_share=0.05, fees={}), 0.99, 0.007
    large, tiny = (RoutingContext(method="card", currency="INR", amount_minor=amount) for amount in (100_000, 100))
    worth = rate * 0.05 * (100_000 * (1 - tiny_share) + 100 * tiny_share)  # everywhere, so the gain is 0
    rounds, misses = 20, np.zeros(2)
    for seed in range(rounds):
        rng, valued = np.random.default_rng([seed, 15]), Valued(pricing)
        draws = rng.random((10_000, 3)) < (tiny_share, 0.5, rate)
        for number, (is_tiny, there, succeeded) in enumerate(draws.tolist()):
            context = tiny if is_tiny else large
            decision = logged(number, "bravo" if is_tiny else "alpha", context=context, succeeded=succeeded)
            valued.add(decision, 2.0 * there * (not is_tiny), float(is_tiny))
        (found,) = valued.by_currency()
        assert isinstance(found.result, ValueEstimates)
        for place, (interval, target) in enumerate(((found.result.candidate, worth), (found.result.gain, 0.0))):
            misses[place] += not interval.low <= target <= interval.high
    assert (misses <= 0.1 * rounds).all(), misses


def lognormal_log(seed: int, sigma: float) -> ValueEstimates | Refused:
    """6,000 payments of lognormal amounts, a fifth of them at the candidate's gateway; nine in ten succeed."""
    rng, valued = np.random.default_rng([seed, 16]), Valued(Pricing(margin_share=0.05, fees={}))
    draws = zip(rng.lognormal(9, sigma, 6_000), rng.random(6_000) < 0.2, rng.random(6_000) < 0.9, strict=True)
    for number, (amount, there, succeeded) in enumerate(draws):
        context = RoutingContext(method="card", currency="INR", amount_minor=int(amount) + 1)
        valued.add(logged(number, context=context, succeeded=bool(succeeded)), 5.0 * there, 0.0)
    return valued.by_currency()[0].result


def test_amounts_that_differ_too_much_have_no_value() -> None:
    """Sigma 2.0, where too many intervals would miss, is refused in nearly every log; 1.5 is answered, and holds."""
    rounds, mean = 60, 0.9 * 0.05 * float(np.exp(9 + 1.5**2 / 2))
    wild = [lognormal_log(seed, 2.0) for seed in range(rounds)]
    refused = [each for each in wild if isinstance(each, Refused)]
    assert len(refused) > 0.9 * rounds
    assert "a few large payments carry the value" in refused[0].why
    uneven = [lognormal_log(seed, 1.5) for seed in range(rounds)]
    answered = [each.candidate for each in uneven if isinstance(each, ValueEstimates)]
    assert len(answered) > 0.8 * rounds
    assert sum(not each.low <= mean <= each.high for each in answered) <= 0.15 * len(answered)


def test_currencies_beyond_the_most_frequent_are_counted() -> None:
    """Five are told of, and how many others there were."""
    valued = Valued(Pricing(margin_share=0.05, fees={}))
    for number, currency in enumerate(("INR", "EUR", "USD", "GBP", "JPY", "CHF", "SEK")):
        for _ in range(9 - number):
            context = RoutingContext(method="card", currency=currency, amount_minor=100)
            valued.add(logged(number, context=context), 1.0, 0.0)
    assert [each.currency for each in valued.by_currency()] == ["INR", "EUR", "USD", "GBP", "JPY"]
    assert valued.left_out == 2


def test_a_candidate_by_value_minds_the_fees() -> None:
    """With a margin among its parameters the adaptive policy prefers what earns more, not what succeeds more."""
    context = RoutingContext(method="card", issuer="harbour_bank", currency="INR", amount_minor=10_000)
    decisions, fees = many(np.random.default_rng(13), 9_000, context=context), {"alpha": Fees(bps_success=150)}
    by_success, by_value = (
        evaluate(decisions, JudgedPolicy(Candidate(parameters=parameters), fees=fees), judge_from=4_500.0)
        for parameters in ({}, {"margin_share": 0.03})
    )
    assert by_success.first_choices["alpha"] > 0.9
    assert by_value.first_choices["bravo"] > 0.9


def test_a_candidate_has_the_model_it_is_given() -> None:
    """The model's shifts reach a choice; they come with outcomes too, so that they do not count twice."""

    class Model:
        def shifts(self, context: RoutingContext, gateways: tuple[str, ...]) -> tuple[float, ...]:
            return tuple(-2.5 if name == "alpha" and context.country == "IN" else 0.0 for name in gateways)

        def evidence(self, at: float) -> list[Outcome]:
            return [Outcome(gateway="charlie", method="card", issuer="harbour_bank", at=at, failed=10.0)]

    decisions = many(np.random.default_rng(14), 6_000)
    model: Reliability = Model()  # type: ignore[assignment]
    heard = evaluate(decisions, JudgedPolicy(Candidate(), reliability=model), judge_from=3_000.0)
    assert heard.first_choices["alpha"] > 0.9  # as good as it was, which without the shift would be far better still
    unheard = [msgspec.structs.replace(each, succeeded=None, known_at=None) for each in decisions]
    asked = evaluate(unheard, JudgedPolicy(Candidate(), reliability=model))
    assert asked.first_choices["alpha"] < 0.25
    assert asked.first_choices["bravo"] > asked.first_choices["charlie"]


def test_the_model_is_drawn_to_what_it_knows() -> None:
    """Thin cells borrow from their gateway; the gateway from all."""
    model = SuccessModel()
    for number in range(400):
        model.learn(logged(number, "alpha"))
        model.learn(logged(number, "bravo", succeeded=False))
    elsewhere = logged(1, context=RoutingContext(method="upi"))
    assert model.expected(logged(1), "alpha") > 0.95 > model.expected(elsewhere, "alpha") > 0.85
    assert model.expected(logged(1), "bravo") < 0.05
    assert 0.4 < model.expected(logged(1), "charlie") < 0.6


@pytest.mark.parametrize(
    ("candidate", "place"),
    [
        (Candidate(policy="clever"), "$.policy"),
        (Candidate(policy="uniform", parameters={"sorder": 1}), "$.parameters.sorder"),
        (Candidate(policy="adaptive", parameters={"exploration_floor": ["x"]}), "$.parameters.exploration_floor"),
        (Candidate(policy="adaptive", parameters={"memory_half_life_s": 0.0}), "$.parameters.memory_half_life_s"),
        (Candidate(policy="adaptive", parameters={"exploration_floor": 5}), "$.parameters.exploration_floor"),
        (Candidate(policy="adaptive", parameters={"canary_share": 0.1, "draws": -3}), "$.parameters.draws"),
        (Candidate(policy="adaptive", parameters={"cells_max": 1e3}), "$.parameters.cells_max"),
        (Candidate(policy="adaptive", parameters={"order": ["alpha", "bravoo"]}), "$.parameters.order"),
        (Candidate(policy="fixed_order"), "$.parameters.order"),
        (Candidate(policy="fixed_order", parameters={"order": []}), "$.parameters.order"),
        (Candidate(policy="adaptive", parameters={"margin_share": 1.5}), "$.parameters.margin_share"),
    ],
)
def test_a_candidate_that_cannot_be_is_refused_with_its_place(candidate: Candidate, place: str) -> None:
    """The mistake is named, and where it stands."""
    with pytest.raises(CandidateRefused) as refused:
        JudgedPolicy(candidate, gateways=GATEWAYS)
    assert refused.value.place == place


def test_a_candidate_differs_from_the_router_only_in_what_it_names() -> None:
    """Also the margin is the router's, where the candidate names none."""
    router = PolicySettings(draws=16, order=("bravo",), margin_share=0.03)
    assert JudgedPolicy(Candidate(), router=router).margin_share == 0.03
    assert JudgedPolicy(Candidate(parameters={"margin_share": 0.05}), router=router).margin_share == 0.05
    ordered = JudgedPolicy(Candidate(policy="fixed_order"), router=router)
    assert ordered.shares(logged(1))["bravo"] == 1.0
