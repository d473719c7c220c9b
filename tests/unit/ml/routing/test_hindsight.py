"""What routing earned and missed, told afterwards, against worlds whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from ml.experiments.intervals import Interval
from ml.routing.evaluation.estimators import ESS_MIN
from ml.routing.hindsight.best import AS_IT_WAS, decided
from ml.routing.hindsight.cells import TRIES_MIN, Level, levels_of
from ml.routing.hindsight.decided import DecidedPayment, DecisionTable
from ml.routing.hindsight.regret import missed
from ml.routing.hindsight.report import EXPLORED_MIN, hindsight
from ml.routing.hindsight.uplift import SLICE_MIN, uplift
from ml.routing.units import UNITS_MIN

GATEWAYS = ("alpha", "bravo", "charlie", "delta")
METHODS, ISSUERS = 2, 3
RUNS = 200
HEARD_AT_ONCE = 20
"""A learning router hears of outcomes in such batches."""

MISSES_MAX = 0.07
"""Intervals must hold the truth in 93 of 100 runs."""


def rates_of(rng: np.random.Generator, *, alike: bool) -> np.ndarray:
    """Success by method, issuer and gateway; ``alike``: the same everywhere, so that any choice is as good."""
    if alike:
        return np.full((METHODS, ISSUERS, len(GATEWAYS)), 0.9)
    base = rng.uniform(0.85, 0.95, len(GATEWAYS))
    return np.clip(base + rng.normal(0, 0.03, (METHODS, ISSUERS, len(GATEWAYS))), 0.02, 0.99)


def fixed_world(seed: int, *, alike: bool, count: int = 8_000) -> tuple[DecisionTable, np.ndarray]:
    """Decisions of a router with fixed shares by method; and the true success of each payment at each gateway."""
    rng = np.random.default_rng([seed, 11])
    method, issuer = rng.integers(METHODS, size=count), rng.integers(ISSUERS, size=count)
    truth = rates_of(rng, alike=alike)[method, issuer]
    shares = rng.permuted(np.tile([0.7, 0.15, 0.1, 0.05], (METHODS, 1)), axis=1)[method]
    used = (rng.random(count)[:, None] > shares.cumsum(axis=1)).sum(axis=1).clip(0, len(GATEWAYS) - 1)
    guess = np.clip(truth.mean(axis=0) + rng.normal(0, 0.02, len(GATEWAYS)), 0.05, 0.99)
    return _table(rng, method, issuer, used, shares, np.tile(guess, (count, 1)), truth), truth


def learning_world(seed: int, *, alike: bool, count: int = 6_000) -> tuple[DecisionTable, np.ndarray]:
    """The same of a router that learns as it goes, while a gateway is down for a fifth of the time."""
    rng = np.random.default_rng([seed, 12])
    method, issuer = rng.integers(METHODS, size=count), rng.integers(ISSUERS, size=count)
    truth = rates_of(rng, alike=alike)[method, issuer]
    if not alike:
        truth[count // 2 : count * 7 // 10, rng.integers(len(GATEWAYS))] *= 0.6
    won, lost = np.full((METHODS, len(GATEWAYS)), 9.0), np.ones((METHODS, len(GATEWAYS)))
    used = np.empty(count, dtype=int)
    shares, guess = np.empty((count, len(GATEWAYS))), np.empty((count, len(GATEWAYS)))
    drawn = rng.random((count, 2))
    for start in range(0, count, HEARD_AT_ONCE):
        now = slice(start, start + HEARD_AT_ONCE)
        kind, tried = method[now], won + lost
        mean = won / tried
        keen = np.exp((mean - mean.max(axis=1, keepdims=True)) / (np.sqrt(mean * (1 - mean) / tried) + 0.01))
        share = 0.95 * keen / keen.sum(axis=1, keepdims=True) + 0.05 / len(GATEWAYS)
        shares[now], guess[now] = share[kind], mean[kind]
        chosen = (drawn[now, :1] > shares[now].cumsum(axis=1)).sum(axis=1).clip(0, len(GATEWAYS) - 1)
        used[now] = chosen
        paid = drawn[now, 1] < truth[now][np.arange(len(chosen)), chosen]
        won, lost = won * 0.99, lost * 0.99
        np.add.at(won, (kind, chosen), paid)
        np.add.at(lost, (kind, chosen), ~paid)
    return _table(rng, method, issuer, used, shares, guess, truth, paid=drawn[:, 1]), truth


def _table(
    rng: np.random.Generator, method: np.ndarray, issuer: np.ndarray, used: np.ndarray, shares: np.ndarray,
    guess: np.ndarray, truth: np.ndarray, paid: np.ndarray | None = None,
) -> DecisionTable:  # fmt: skip
    count, row = len(used), np.arange(len(used))
    best = guess.argmax(axis=1) if paid is not None else shares.argmax(axis=1)
    drawn = rng.random(count) if paid is None else paid
    return DecisionTable(
        names=GATEWAYS,
        parts=np.column_stack([np.full(count, "INR"), method.astype(str), issuer.astype(str)]),
        offered=np.ones((count, len(GATEWAYS)), dtype=bool),
        expected=guess,
        used=used,
        propensity=shares[row, used],
        exploring_chance=1 - shares[row, best],
        explored=used != best,
        succeeded=(drawn < truth[row, used]).astype(float),
        amount_minor=np.round(rng.lognormal(7, 0.6, count)) + 1,
        unit=row,
    )


def true_regret(table: DecisionTable, levels: tuple[Level, ...], truth: np.ndarray, size: np.ndarray) -> np.ndarray:
    """What each payment at the truly best gateway of its group would have brought more. Shape (decisions,)."""
    values = [
        np.where(
            level.compared,
            np.column_stack(
                [np.bincount(level.group, size * column, minlength=len(level.compared)) for column in truth.T]
            ),
            -np.inf,
        )
        for level in levels
    ]
    had = np.take_along_axis(truth, table.used[:, None], axis=1)[:, 0]
    kept = np.bincount(levels[-1].group, size * had)
    best = decided(values, kept, levels)[1][levels[-1].group]
    best = np.where(best == AS_IT_WAS, table.used, best)
    regret: np.ndarray = size * (np.take_along_axis(truth, best[:, None], axis=1)[:, 0] - had)
    return regret


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("world", [fixed_world, learning_world])
def test_intervals_hold_the_true_regret(world: Callable[..., tuple[DecisionTable, np.ndarray]], alike: bool) -> None:
    """Intervals of regret and of what was spent to learn, in payments and in money, hold the truth in 93 of 100.

    Over 200 worlds each, of a fixed and of a learning router, where gateways differ and where any is as good.
    """
    misses = np.zeros(4)
    widths, truths = np.zeros(4), np.zeros(4)
    for seed in range(RUNS):
        table, truth = world(seed, alike=alike)
        levels, every = levels_of(table), np.ones(len(table.used), dtype=bool)
        place = 0
        for size in (np.ones(len(table.used)), table.amount_minor):
            regret = true_regret(table, levels, truth, size)
            for found, counted in zip(missed(table, levels, size), (every, table.explored), strict=True):
                interval, true = found.sum_of(every), regret[counted].sum()
                misses[place] += not interval.low <= true <= interval.high
                widths[place] += interval.high - interval.low
                truths[place] += true
                place += 1
    print(f"{world.__name__} alike={alike}: held {1 - misses / RUNS}, width {widths / RUNS}, truth {truths / RUNS}")
    assert (misses / RUNS <= MISSES_MAX).all(), misses / RUNS


def test_the_best_is_not_what_luck_made_it() -> None:
    """Where all gateways are alike, regret is 0 on the mean; the best rate in hindsight alone would say much more."""
    estimates, naive = [], []
    for seed in range(100):
        table, _ = fixed_world(seed, alike=True)
        found, _ = missed(table, levels_of(table), np.ones(len(table.used)))
        estimates.append(found.parts.sum())
        naive.append(found.high_parts.sum())
    error = np.std(estimates) / len(estimates) ** 0.5
    assert abs(np.mean(estimates)) < 3 * error
    assert np.mean(naive) > 10 * error


def test_a_group_goes_one_way_or_is_left_to_finer_ones() -> None:
    """A coarse group takes one gateway only if that brings more than the best of each finer group together."""
    coarse = Level(np.zeros(2, dtype=int), np.ones((1, 2), dtype=bool), np.zeros(1, dtype=int))
    fine = Level(np.arange(2), np.ones((2, 2), dtype=bool), np.zeros(2, dtype=int))
    apart = [np.array([[10.0, 9.0]]), np.array([[6.0, 3.0], [4.0, 6.0]])]
    level, gateway = decided(apart, np.zeros(2), (coarse, fine))
    assert (level.tolist(), gateway.tolist()) == ([1, 1], [0, 1])
    unknown = [np.array([[10.0, 9.0]]), np.array([[6.0, -np.inf], [-np.inf, -np.inf]])]
    level, gateway = decided(unknown, np.array([5.0, 3.0]), (coarse, fine))
    assert (level.tolist(), gateway.tolist()) == ([0, 0], [0, 0])
    level, gateway = decided(unknown, np.array([5.0, 4.5]), (coarse, fine))
    assert (level.tolist(), gateway.tolist()) == ([1, 1], [0, AS_IT_WAS])


def payment(number: int, **changed: object) -> DecidedPayment:
    """An order of 10.00 INR, dealt evenly to one of two gateways."""
    gateway = ("alpha", "bravo")[number % 2]
    fields: dict[str, object] = {
        "order_id": f"ord_{number}", "method": "card", "issuer": "harbour_bank", "currency": "INR",
        "amount_minor": 1_000, "gateways": ("alpha", "bravo"), "propensities": (0.5, 0.5), "expected": (0.9, 0.9),
        "gateway": gateway, "exploring": gateway == "bravo", "succeeded": True, "paid": True,
    }  # fmt: skip
    return DecidedPayment(**fields | changed)  # type: ignore[arg-type]


def test_what_an_even_deal_missed_is_half_the_difference() -> None:
    """All at alpha succeed, four of five at bravo: half of the payments missed a fifth, and all of it by exploring."""
    count = 8_000
    decisions = [payment(number, succeeded=number % 10 != 1) for number in range(count)]
    found = hindsight(decisions)
    assert found.regret.total.payments is not None
    assert found.regret.total.payments.estimate == pytest.approx(count / 10, rel=0.02)
    assert found.regret.total.payments.low <= count / 10 <= found.regret.total.payments.high
    [money] = found.regret.by_currency
    assert money.amount_minor is not None
    assert money.amount_minor.estimate == pytest.approx(1_000 * found.regret.total.payments.estimate)
    assert found.spend.total.payments is not None
    assert found.spend.total.payments.estimate == pytest.approx(count / 10, rel=0.02)
    assert found.spend.total.decisions == count // 2
    assert found.compared == 1.0


def test_no_decisions_are_no_figure() -> None:
    """On nothing there is no number, and the reason in words."""
    found = hindsight([])
    assert (found.regret.total.payments, found.spend.total.payments, found.uplift.success) == (None, None, None)
    assert found.regret.total.why_not == "no decision with a known outcome yet"
    assert found.uplift.why_not == "no decisions yet"


def test_one_gateway_only_is_nothing_to_compare() -> None:
    """Where payments could go nowhere else, or never did, there is no best gateway to speak of."""
    alone = {"gateways": ("alpha",), "propensities": (1.0,), "expected": (0.9,), "gateway": "alpha", "exploring": False}
    found = hindsight([payment(number, **alone) for number in range(3_000)])
    assert found.regret.total.payments is None
    assert found.regret.total.why_not == "no payment could have gone to another gateway"
    never = {"propensities": (1.0, 0.0), "gateway": "alpha", "exploring": False}
    found = hindsight([payment(number, **never) for number in range(3_000)])
    assert found.regret.total.payments is None
    assert "no two gateways" in str(found.regret.total.why_not)


def test_too_few_effective_payments_are_refused_in_words() -> None:
    """Below 1,000 effective payments at the best gateways, in all or in a currency, there is no number."""
    decisions = [payment(number) for number in range(1_200)]
    found = hindsight(decisions)
    assert found.regret.total.effective < ESS_MIN
    assert found.regret.total.payments is None
    assert "at least 1,000 are needed" in str(found.regret.total.why_not)
    more = [*(payment(number) for number in range(6_000)), *(payment(10_000 + n, currency="EUR") for n in range(600))]
    found = hindsight(more)
    assert found.regret.total.payments is not None
    answered = {each.currency: each.payments is not None for each in found.regret.by_currency}
    assert answered == {"EUR": False, "INR": True}


def test_a_few_large_amounts_are_no_money_figure() -> None:
    """Where a handful of payments makes up nearly all money, payments are told and money is not."""
    decisions = [payment(number, amount_minor=10**9 if number % 1_000 < 2 else 100) for number in range(6_000)]
    [found] = hindsight(decisions).regret.by_currency
    assert found.payments is not None
    assert found.amount_minor is None
    assert "says, weighed by amount, as much as" in str(found.why_no_amount)
    assert "at least 1,000" in str(found.why_no_amount)


def test_little_exploring_has_no_price_yet() -> None:
    """With fewer than a hundred decisions that explored, what they cost is not told; regret is."""
    last = 2 * EXPLORED_MIN - 2
    decisions = [payment(number, exploring=number < last and number % 2 == 1) for number in range(6_000)]
    found = hindsight(decisions)
    assert found.regret.total.payments is not None
    assert found.spend.total.payments is None
    assert "99 decisions explored" in str(found.spend.total.why_not)


def test_unknown_outcomes_are_counted_apart() -> None:
    """Payments without an outcome change no figure; rules, overrides, the control slice and others' ways are named."""
    known = [payment(number, succeeded=number % 10 != 1) for number in range(6_000)]
    others = [
        payment(9_001, succeeded=None, paid=None),
        payment(9_002, decider="rule"),
        payment(9_003, decider="operator"),
        payment(9_004, control=True),
        payment(9_005, followed=False, succeeded=None),
    ]
    plain, found = hindsight(known), hindsight([*known, *others])
    assert found.regret == plain.regret
    assert found.unknown == 1
    assert found.left_out == {
        "decided by a rule": 1, "decided by an operator's override": 1, "in the control slice": 1,
        "not followed by the checkout": 1,
    }  # fmt: skip
    assert found.uplift.unknown == 1


def test_decisions_that_could_go_one_way_only_borrow_from_their_group() -> None:
    """Half of the payments were bound to bravo; what they missed is told from those that were not."""
    bound = {"propensities": (0.0, 1.0), "gateway": "bravo", "exploring": False}
    decisions = [
        payment(number, **(bound if number % 4 < 2 else {}), succeeded=number % 4 == 2 or number % 5 > 0)
        for number in range(8_000)
    ]
    found = hindsight(decisions).regret.total.payments
    assert found is not None
    lost = sum(not each.succeeded for each in decisions)
    assert found.low <= lost <= found.high


def test_one_customer_is_not_many_witnesses() -> None:
    """The same payments have a wider interval where each customer made fifty of them, all with one fate."""
    fates = [
        {"gateway": ("alpha", "bravo")[n // 50 % 2], "succeeded": n // 100 % 10 > 0, "exploring": False}
        for n in range(8_000)
    ]
    apart = [payment(n, **fate) for n, fate in enumerate(fates)]
    together = [payment(n, **fate, customer_id=f"cus_{n // 50}") for n, fate in enumerate(fates)]
    narrow, wide = hindsight(apart).regret.total.payments, hindsight(together).regret.total.payments
    assert narrow is not None
    assert wide is not None
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


# --- uplift ----------------------------------------------------------------------------------------------------------


def dealt(rng: np.random.Generator, routed: float, control: float, count: int = 6_000) -> list[DecidedPayment]:
    """Orders of two sides under two allocations, between which the slice grew and all got worse."""
    late = np.arange(count) >= count // 2
    held = rng.random(count) < np.where(late, 0.3, 0.1)
    paid = rng.random(count) < np.where(held, control, routed) - 0.2 * late
    amounts = np.round(rng.lognormal(7, 0.6, count)) + 1
    return [
        payment(n, control=bool(held[n]), paid=bool(paid[n]), amount_minor=int(amounts[n]), allocation=f"v{late[n]:d}")
        for n in range(count)
    ]


def test_uplift_holds_the_truth() -> None:
    """Over 200 worlds the intervals of success and money per order hold the truth, also when the slice grew midway."""
    misses = np.zeros(2)
    mean = float(np.exp(7 + 0.6**2 / 2)) + 1
    for seed in range(RUNS):
        found = uplift(dealt(np.random.default_rng([seed, 13]), 0.92, 0.88))
        assert found.success is not None
        [money] = found.money
        assert money.per_order is not None
        for place, (interval, truth) in enumerate(((found.success, 0.04), (money.per_order, 0.04 * mean))):
            misses[place] += not interval.low <= truth <= interval.high
    print(f"uplift: held {1 - misses / RUNS}")
    assert (misses / RUNS <= MISSES_MAX).all(), misses / RUNS


def test_no_control_slice_is_no_uplift() -> None:
    """Without a slice the answer is a sentence; with a small one, what is missing."""
    found = uplift([payment(number) for number in range(2_000)])
    assert found.success is None
    assert "holdout" in str(found.why_not)
    found = uplift([payment(number, control=number % 20 == 0) for number in range(2_000)])
    assert (found.success, found.control.orders) == (None, 100)
    assert f"{SLICE_MIN} of each are needed" in str(found.why_not)
    assert all(each.per_order is None for each in found.money)


def test_orders_from_before_the_slice_are_not_compared() -> None:
    """What was routed before there was a slice is no part of its comparison."""
    before = [payment(number, paid=False, allocation="old") for number in range(3_000)]
    since = [payment(9_000 + n, paid=n % 3 > 0, control=n % 4 == 0, allocation="new") for n in range(3_000)]
    found = uplift([*before, *since])
    assert (found.routed.orders, found.control.orders) == (2_250, 750)
    assert isinstance(found.success, Interval)


def test_orders_that_could_never_be_in_the_slice_are_not_compared() -> None:
    """Where it is dealt by customer, guests are on no side: they pay otherwise, whoever routes them."""
    rng = np.random.default_rng(17)
    guest = rng.random(6_000) < 0.4
    known = [
        payment(n, control=bool(not guest[n] and n % 4 == 0), paid=bool(rng.random() < (0.8 if guest[n] else 0.92)),
                dealt=bool(not guest[n]))
        for n in range(6_000)
    ]  # fmt: skip
    found = uplift(known)
    assert found.success is not None
    assert found.success.low <= 0.0 <= found.success.high
    assert found.not_dealt == guest.sum()


def test_uplift_holds_the_truth_with_as_few_customers_as_are_taken() -> None:
    """Where each customer pays better or worse than others, the fewest that are answered for give honest intervals."""
    misses = 0
    for seed in range(RUNS):
        rng = np.random.default_rng([seed, 19])
        rates = rng.beta(9, 1, 2 * UNITS_MIN)
        customer = np.arange(1_200) % (2 * UNITS_MIN)
        paid = rng.random(1_200) < rates[customer]
        found = uplift([
            payment(n, control=bool(customer[n] % 2), paid=bool(paid[n]), customer_id=f"cus_{customer[n]}")
            for n in range(1_200)
        ])  # fmt: skip
        assert found.success is not None
        misses += not found.success.low <= 0.0 <= found.success.high
    assert misses / RUNS <= MISSES_MAX, misses / RUNS


def test_a_few_customers_are_no_interval() -> None:
    """Three hundred orders of ten customers say little: a sentence, not a number."""
    few = [payment(n, control=n % 2 == 0, customer_id=f"cus_{n % 20}") for n in range(4_000)]
    found = uplift(few)
    assert found.success is None
    assert "rests on 10 customers" in str(found.why_not)
    told = hindsight([
        payment(n, gateway=("alpha", "bravo")[n % 2], exploring=False, customer_id=f"cus_{n % 20}")
        for n in range(8_000)
    ])  # fmt: skip
    assert told.regret.total.payments is None
    assert "those of 20 customers" in str(told.regret.total.why_not)


def test_a_floor_is_no_trial() -> None:
    """What a rule's floor sends to a gateway of which less is expected says nothing of how often one would explore."""
    best = payment(1, gateway="alpha", exploring=False)
    given = payment(2, gateway="bravo", exploring=False)
    learnt = payment(3, gateway="bravo", exploring=True)
    expected = {"alpha": 0.9, "bravo": 0.8}
    shares = {"alpha": 0.7, "bravo": 0.3}
    cases = [
        msgspec.structs.replace(
            one,
            gateways=tuple(shares),
            propensities=tuple(shares.values()),
            expected=tuple(expected.values()),
        )
        for one in (best, given, learnt)
    ]
    assert DecisionTable.of(cases).exploring_chance == pytest.approx([0.3, 0.3, 0.3])


def test_an_order_counts_once() -> None:
    """A checkout that asked twice about one order has one order, on the side that it was dealt to first."""
    asked = [payment(number // 2, control=number % 4 == 0) for number in range(4_000)]
    assert uplift(asked).routed.orders + uplift(asked).control.orders == 2_000


def test_groups_that_are_tried_too_seldom_are_not_compared() -> None:
    """A gateway is compared from a hundred effective tries on."""
    decisions = [payment(n, propensities=(0.99, 0.01), gateway="bravo" if n < 99 else "alpha") for n in range(5_000)]
    levels = levels_of(DecisionTable.of(decisions))
    assert TRIES_MIN == 100
    assert levels[-1].compared.tolist() == [[True, False]]
