"""Rules, commitments and the guardrail on how fast traffic moves."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from ml.routing.commitments import Commitments, period_of
from ml.routing.context import Outcome, RoutingContext
from ml.routing.eligibility import Eligibility
from ml.routing.evaluation.candidate import Candidate, JudgedPolicy
from ml.routing.evaluation.logged import LoggedDecision
from ml.routing.guidance import Conditions, Guidance, Payment
from ml.routing.pacing import Pace
from ml.routing.policies import AdaptivePolicy, PolicySettings, UniformPolicy
from ml.routing.rules import Commitment, Condition, Rule, RuleSet, bounded, preference_of, with_floors

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
GATEWAYS = ("alpha", "bravo", "charlie")
MAY = Eligibility(candidates=GATEWAYS, excluded=())
CARD = RoutingContext(method="card", issuer="harbour_bank", network="visa", country="DE", currency="EUR",
                      amount_minor=5_000, bin="411122", three_ds=True)  # fmt: skip


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        (Condition(), True),
        (Condition(methods=["upi"]), False),
        (Condition(methods=["upi", "card"], issuers=["harbour_bank"], networks=["visa"], countries=["DE"]), True),
        (Condition(networks=["amex"]), False),
        (Condition(bins=("4111", "55")), True),
        (Condition(bins=("55",)), False),
        (Condition(amount_minor_min=5_000, amount_minor_max=5_000), True),
        (Condition(amount_minor_min=5_001), False),
        (Condition(amount_minor_max=4_999), False),
        (Condition(attempt_number_min=2), False),
        (Condition(three_ds=True), True),
        (Condition(three_ds=False), False),
        (Condition(any=[Condition(countries=["FR"]), Condition(amount_minor_min=1_000)]), True),
        (Condition(any=[Condition(countries=["FR"]), Condition(amount_minor_min=9_000)]), False),
        (Condition(all=[Condition(countries=["DE"]), Condition(not_=Condition(methods=["upi"]))]), True),
        (Condition(not_=Condition(any=[Condition(methods=["card"])])), False),
        (Condition(methods=["card"], not_=Condition(countries=["FR"])), True),
    ],
)
def test_a_condition_holds_where_all_that_it_says_does(when: Condition, holds: bool) -> None:
    """Names, amounts, beginnings of the card number, and conditions within conditions."""
    assert when.holds(CARD) is holds


def test_a_payment_that_does_not_say_is_not_among_the_named() -> None:
    """An unknown country, card number or way of authentication is none of those that a rule names."""
    bare = RoutingContext(method="card")
    assert not Condition(countries=["DE"]).holds(bare)
    assert not Condition(bins=("4",)).holds(bare)
    assert not Condition(three_ds=True).holds(bare)
    assert not Condition(three_ds=False).holds(bare)


def test_every_rule_limits_and_the_first_one_decides() -> None:
    """Filters add up, floors take the larger, a rule that is off or does not fit has no part."""
    rules = RuleSet(
        rules=[
            Rule(name="no_charlie", never=["charlie"], at_least={"bravo": 0.1}),
            Rule(name="off", enabled=False, only=["charlie"]),
            Rule(name="upi", when=Condition(methods=["upi"]), order=["charlie"]),
            Rule(name="large", when=Condition(amount_minor_min=1_000), split={"alpha": 0.5, "bravo": 0.5}),
            Rule(name="last", order=["alpha"], at_least={"bravo": 0.3}),
        ]
    )
    found = rules.on(CARD, MAY)
    assert found.may.candidates == ("alpha", "bravo")
    assert found.may.excluded == (("charlie", "is not for such payments by rule 'no_charlie'"),)
    assert found.decider is not None
    assert found.decider.name == "large"
    assert found.floors == {"bravo": 0.3}


def test_rules_have_the_version_of_their_content() -> None:
    """The same content, the same version; anything else, another."""
    one = RuleSet(rules=[Rule(name="a", only=["alpha"])])
    assert one.version == RuleSet(rules=[Rule(name="a", only=["alpha"])]).version
    assert one.version != RuleSet(rules=[Rule(name="a", only=["bravo"])]).version


def test_a_split_is_kept_and_a_unit_stays_where_it_is() -> None:
    """Shares come out as written; when a gateway goes, only its own units move."""
    rule = Rule(name="halves", split={"alpha": 0.6, "bravo": 0.3, "charlie": 0.1})
    units = [f"customer_{number}" for number in range(6_000)]

    def first(unit: str, among: tuple[str, ...]) -> str:
        return among[preference_of(rule, among, unit).index(1.0)]

    before = {unit: first(unit, GATEWAYS) for unit in units}
    counts = Counter(before.values())
    assert [counts[name] / len(units) for name in GATEWAYS] == pytest.approx([0.6, 0.3, 0.1], abs=0.02)
    without = {unit: first(unit, ("alpha", "charlie")) for unit in units}
    assert all(without[unit] == before[unit] for unit in units if before[unit] != "bravo")
    moved = Counter(without[unit] for unit in units if before[unit] == "bravo")
    assert moved["alpha"] / moved.total() == pytest.approx(6 / 7, abs=0.03)


def test_a_split_whose_gateways_are_all_out_is_even_over_the_others() -> None:
    """Somebody must take the payment."""
    rule = Rule(name="one", split={"alpha": 1.0})
    assert preference_of(rule, ("bravo", "charlie"), None) == [0.5, 0.5]


def test_floors_are_mixed_in_and_bounded() -> None:
    """Each gets its floor at least; together half at most."""
    shares = {"alpha": 1.0, "bravo": 0.0, "charlie": 0.0}
    assert with_floors(shares, bounded({"bravo": 0.1})) == pytest.approx({"alpha": 0.9, "bravo": 0.1, "charlie": 0.0})
    crowded = with_floors(shares, bounded({"bravo": 0.4, "charlie": 0.4}))
    assert crowded == pytest.approx({"alpha": 0.5, "bravo": 0.25, "charlie": 0.25})


# --- commitments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per", "begin", "end"),
    [
        ("day", datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)),
        ("week", datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 9, tzinfo=UTC)),
        ("month", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)),
    ],
)
def test_periods_are_those_of_the_calendar(per: str, begin: datetime, end: datetime) -> None:
    """2 March 2026 is a Monday."""
    assert period_of(NOW, per) == (begin, end)  # type: ignore[arg-type]
    assert period_of(datetime(2025, 12, 31, 23, tzinfo=UTC), "month")[1] == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("promised", "able", "own", "least", "most"),
    [
        (3_000, 1.0, 0.0, 2_990, 3_060),  # the policy would give it nothing
        (1_000, 0.2, 0.0, 980, 1_060),  # it can take a fifth of the payments
        (500, 0.1, 0.02, 480, 560),
        (4_000, 1.0, 0.5, 4_900, 5_200),  # it gets more than that anyway, and nobody is forced
    ],
)
def test_a_promise_is_kept_by_the_end_of_its_day(promised: int, able: float, own: float, least: int, most: int) -> None:
    """Whatever the policy does, the gateway gets what it was promised, and hardly more than that."""
    rng = np.random.default_rng(0)
    kept = Commitments([Commitment(gateway="bravo", payments=promised, per="day")])
    day = datetime(2026, 3, 2, tzinfo=UTC)
    got = 0
    for number in range(10_000):
        now = day + timedelta(seconds=8.64 * number)
        shares = {"alpha": 1.0 - own, "bravo": own} if rng.random() < able else {"alpha": 1.0}
        kept.observe(shares)
        owed = {name: share for name, share in kept.floors(now).items() if name in shares}
        mixed = with_floors(shares, bounded(owed))
        chosen = str(rng.choice(list(mixed), p=list(mixed.values())))
        kept.count(chosen, now, now)
        got += chosen == "bravo"
    assert least <= got <= most
    assert kept.floors(day + timedelta(days=1, seconds=1)) == {}  # a new day: its pace is not known yet


def test_a_late_report_of_yesterday_is_not_counted_today() -> None:
    """The promise of a day is over with the day."""
    kept = Commitments([Commitment(gateway="bravo", payments=10, per="day")])
    kept.set(kept.periods(NOW)[0], {"alpha": 1_000})
    for _ in range(200):
        kept.count("bravo", NOW - timedelta(days=1), NOW)
    assert kept.floors(NOW)["bravo"] == pytest.approx(0.01)


# --- pace ------------------------------------------------------------------------------------------------------------


def shares_by_minute(wanted: list[list[float]], rise_max: float, per_minute: int = 300) -> list[np.ndarray]:
    """What a guardrail lets through, minute by minute, when the policy wants these shares from each minute on."""
    pace, found = Pace(rise_max), []
    for minute, shares in enumerate(wanted):
        rows = [pace.limited(GATEWAYS, shares, 60.0 * minute + 60.0 * n / per_minute) for n in range(per_minute)]
        assert all(sum(row) == pytest.approx(1.0) for row in rows)
        found.append(np.mean(rows, axis=0))
    return found


def test_traffic_moves_no_faster_than_the_limit() -> None:
    """A policy that turns around within a second is followed over minutes."""
    before, after = [0.8, 0.2, 0.0], [0.0, 0.0, 1.0]
    seen = shares_by_minute([before, before, *[after] * 6], rise_max=0.2)
    rises = [later[2] - earlier[2] for earlier, later in pairwise(seen)]
    assert max(rises) <= 0.2 + 0.06  # the wish is an average of some decisions, so the first ones slip through
    assert seen[-1][2] > 0.9
    assert shares_by_minute([before, before, after], rise_max=1.0)[-1][2] == 1.0


def test_a_pause_moves_traffic_at_once_and_only_as_the_policy_wants() -> None:
    """Another set of gateways is another matter: what the policy wants of those that are left is done."""
    pace = Pace(0.1)
    for step in range(600):
        pace.limited(GATEWAYS, [0.97, 0.02, 0.01], step * 0.2)
    rows = [pace.limited(("bravo", "charlie"), [0.97, 0.03], 120.0 + step * 0.2) for step in range(600)]
    assert np.mean(rows, axis=0) == pytest.approx([0.97, 0.03])


def test_a_policy_that_keeps_within_the_limit_is_not_touched() -> None:
    """Nothing changes for it, nor in the first minute, when nothing is known to compare with."""
    for shares in ([0.7, 0.2, 0.1], [0.6, 0.3, 0.1]):
        seen = shares_by_minute([[0.7, 0.2, 0.1], shares], rise_max=0.2)
        assert seen[1] == pytest.approx(shares)


# --- all together ----------------------------------------------------------------------------------------------------


def guided(rules: RuleSet, *, seed: int = 0, rise_max: float = 1.0) -> tuple[Guidance, UniformPolicy]:
    """Guidance with rules in force, and a policy to be guided."""
    guidance = Guidance(rise_max=rise_max, canary_share=0.02, generator=np.random.default_rng([seed, 1]))
    guidance.put_in_force(rules)
    return guidance, UniformPolicy(PolicySettings(draws=64, canary_share=0.02), np.random.default_rng(seed))


def test_rules_without_counted_commitments_are_the_same_rules() -> None:
    """Decisions name the version that the store knows; only what was promised waits."""
    rules = RuleSet(
        rules=[Rule(name="n", never=["charlie"])],
        commitments=[Commitment(gateway="bravo", payments=10_000_000, per="day")],
    )
    guidance, policy = guided(rules)
    guidance.put_in_force(rules, is_counted=False)
    assert guidance.version == rules.version
    ruled = guidance.on(CARD, MAY)
    ranked = guidance.ranked(policy, ruled, payment(1), Conditions({}, {}))
    assert [each.propensity for each in ranked.candidates] == [0.5, 0.5]


def payment(number: int, context: RoutingContext = CARD, customer: str | None = None) -> Payment:
    """Payment number ``number``."""
    return Payment(context, f"ord_{number}", customer, NOW + timedelta(seconds=number))


def test_a_rule_that_splits_states_the_share_that_was_split() -> None:
    """Each payment goes where its customer belongs; the propensity is that of all customers."""
    guidance, policy = guided(RuleSet(rules=[Rule(name="s", split={"alpha": 0.8, "bravo": 0.2}, sticky="customer_id")]))
    firsts = Counter[str]()
    for number in range(400):
        ruled = guidance.on(CARD, MAY)
        ranked = guidance.ranked(policy, ruled, payment(number, customer=f"cus_{number % 40}"), Conditions({}, {}))
        again = guidance.ranked(policy, ruled, payment(number + 1, customer=f"cus_{number % 40}"), Conditions({}, {}))
        assert ranked.candidates[0].gateway == again.candidates[0].gateway
        assert {each.gateway: each.propensity for each in ranked.candidates} == pytest.approx(
            {"alpha": 0.8, "bravo": 0.2, "charlie": 0.0}
        )
        firsts[ranked.candidates[0].gateway] += 1
    assert firsts["charlie"] == 0
    assert 0.6 < firsts["alpha"] / 400 < 0.95


def test_an_ordered_gateway_that_is_unwell_stands_behind() -> None:
    """The order is followed, the one with an open anomaly only as a canary."""
    guidance, policy = guided(RuleSet(rules=[Rule(name="o", order=["bravo", "alpha"])]))
    ruled = guidance.on(CARD, MAY)
    ranked = guidance.ranked(policy, ruled, payment(1), Conditions({}, {}))
    assert [each.gateway for each in ranked.candidates] == ["bravo", "alpha", "charlie"]
    sick = [guidance.ranked(policy, ruled, payment(n), Conditions({"bravo": "down"}, {})) for n in range(300)]
    firsts = Counter(each.candidates[0].gateway for each in sick)
    assert firsts["alpha"] > 280
    assert firsts["bravo"] == 300 - firsts["alpha"]
    assert sick[0].candidates[0].propensity == pytest.approx(0.98)
    for canary in (each for each in sick if each.candidates[0].gateway == "bravo"):
        assert canary.exploring
        assert canary.best == "bravo" or "to see whether it has recovered" in canary.reason


def test_a_floor_moves_nobody_who_does_not_have_to() -> None:
    """A customer's split and an operator's order stay as they are, but for the payments that are owed to another."""
    split = Rule(name="s", split={"alpha": 0.5, "bravo": 0.5}, sticky="customer_id")
    guidance, policy = guided(RuleSet(rules=[Rule(name="f", at_least={"charlie": 0.1}), split]))
    homes: dict[int, set[str]] = {}
    for number in range(2_000):
        who = payment(number, customer=f"cus_{number % 50}")
        first = guidance.ranked(policy, guidance.on(CARD, MAY), who, Conditions({}, {})).candidates[0]
        if first.gateway != "charlie":
            homes.setdefault(number % 50, set()).add(first.gateway)
            assert first.propensity == pytest.approx(0.45)
        else:
            assert first.propensity == pytest.approx(0.1)
    assert all(len(home) == 1 for home in homes.values())
    ordered = Rule(name="o", order=["charlie", "bravo", "alpha"])
    guidance, policy = guided(RuleSet(rules=[Rule(name="f", at_least={"alpha": 0.02}), ordered]))
    seen = Counter(
        tuple(each.gateway for each in guidance.ranked(policy, guidance.on(CARD, MAY), payment(n),
                                                       Conditions({}, {})).candidates)
        for n in range(500)
    )  # fmt: skip
    assert seen["charlie", "bravo", "alpha"] > 475
    assert set(seen) <= {("charlie", "bravo", "alpha"), ("alpha", "charlie", "bravo")}


def test_a_rule_whose_gateways_are_out_decides_nothing() -> None:
    """The policy does; a rule below it may take its gateways out as well."""
    rules = RuleSet(rules=[Rule(name="o", order=["delta"]), Rule(name="p", order=["alpha"]),
                           Rule(name="n", never=["alpha"])])  # fmt: skip
    assert rules.on(CARD, MAY).decider is None
    assert rules.on(CARD, Eligibility(candidates=("bravo", "delta"), excluded=())).decider is not None
    below = RuleSet(rules=[*rules.rules, Rule(name="q", order=["bravo"])])
    first = RuleSet(rules=[below.rules[2], *below.rules[:2], below.rules[3]])
    for each in (below, first):  # the next one has its turn, whether what limits stands above or below
        decider = each.on(CARD, MAY).decider
        assert decider is not None
        assert decider.name == "q"


def test_what_is_owed_is_not_told_as_learning() -> None:
    """The reason says that it is owed, and nothing counts as explored."""
    guidance, policy = guided(RuleSet(rules=[Rule(name="o", order=["alpha"]), Rule(name="f", at_least={"bravo": 0.5})]))
    for number in range(50):
        ranked = guidance.ranked(policy, guidance.on(CARD, MAY), payment(number), Conditions({}, {}))
        assert not ranked.exploring
        if ranked.candidates[0].gateway == "bravo" and ranked.best != "bravo":
            assert "owed a share" in ranked.reason


def test_floors_are_drawn_as_often_as_they_say() -> None:
    """The stated propensities are those that are drawn from."""
    guidance, policy = guided(RuleSet(rules=[Rule(name="f", at_least={"charlie": 0.4})]))
    seen = [guidance.ranked(policy, guidance.on(CARD, MAY), payment(n), Conditions({}, {})) for n in range(2_000)]
    stated = {each.gateway: each.propensity for each in seen[0].candidates}
    assert stated == pytest.approx({"alpha": 0.2, "bravo": 0.2, "charlie": 0.6})
    firsts = Counter(each.candidates[0].gateway for each in seen)
    assert firsts["charlie"] / 2_000 == pytest.approx(0.6, abs=0.04)


def test_floors_do_not_send_retries_back_nor_payments_to_a_gateway_that_is_down() -> None:
    """Promises end where a shopper would pay for them."""
    guidance, policy = guided(RuleSet(rules=[Rule(name="f", at_least={"charlie": 0.5})]))
    retry = msgspec.structs.replace(CARD, previous_failures=("charlie",), attempt_number=2)
    for number in range(100):
        ranked = guidance.ranked(policy, guidance.on(retry, MAY), payment(number, retry), Conditions({}, {}))
        assert ranked.candidates[0].gateway != "charlie"
    down = [guidance.ranked(policy, guidance.on(CARD, MAY), payment(n), Conditions({"charlie": "down"}, {}))
            for n in range(300)]  # fmt: skip
    assert 70 < sum(each.candidates[0].gateway == "charlie" for each in down) < 130  # a third, as the policy has it


def test_a_trial_that_a_floor_moves_elsewhere_was_none() -> None:
    """What the policy put first and did not get waits for its trial as before; where the payment went had it."""
    guidance, _ = guided(RuleSet(rules=[Rule(name="f", at_least={"charlie": 0.9})]))
    policy = AdaptivePolicy(PolicySettings(draws=64), np.random.default_rng(0))
    for name in GATEWAYS:
        policy.learn(Outcome(gateway=name, method="card", issuer="", at=NOW.timestamp(), succeeded=50, failed=5), 0.0)

    def unseen(at: float) -> dict[str, float]:
        beliefs = policy._estimates.beliefs("card", "", GATEWAYS, at)
        return {name: belief.unseen_s for name, belief in zip(GATEWAYS, beliefs, strict=True)}

    moved = 0
    for number in range(1, 200):
        one = payment(number)
        at = one.now.timestamp()
        before = unseen(at)
        ranked = guidance.ranked(policy, guidance.on(CARD, MAY), one, Conditions({}, {}))
        first = ranked.candidates[0].gateway
        after = unseen(at)
        assert after == before | {first: 0.0}
        moved += first == "charlie"
    assert moved > 100


def test_rules_are_judged_on_stored_decisions() -> None:
    """A candidate with rules says what they would have done, also where they leave nobody."""
    decisions = [
        LoggedDecision(at=float(n), context=CARD, eligible=GATEWAYS, propensities=(1 / 3,) * 3, gateway="alpha",
                       succeeded=True, known_at=float(n))
        for n in range(3)
    ]  # fmt: skip
    split = JudgedPolicy(Candidate(rules=[Rule(name="s", split={"bravo": 0.75, "alpha": 0.25})]))
    assert split.shares(decisions[0]) == pytest.approx({"alpha": 0.25, "bravo": 0.75, "charlie": 0.0})
    only = JudgedPolicy(Candidate(policy="uniform", rules=[Rule(name="o", only=["bravo"])]))
    assert only.shares(decisions[0]) == {"alpha": 0.0, "bravo": 1.0, "charlie": 0.0}
    nobody = JudgedPolicy(Candidate(rules=[Rule(name="n", never=list(GATEWAYS))]))
    assert sum(nobody.shares(decisions[0]).values()) == 0.0
    assert nobody.by_rule["left without any gateway"] == 1
