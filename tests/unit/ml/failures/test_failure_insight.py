from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import numpy as np
import pytest

from ml.experiments.intervals import Interval, Proportion, wilson_interval
from ml.failures.insight import (
    STRETCHES_MIN,
    SeenAttempt,
    Share,
    authorization,
    breaches,
    design_effect,
    money_outcomes,
    recoveries,
    sampled_interval,
)
from ml.failures.taxonomy import CATEGORIES, NEVER_AGAIN, RETRIES_BLINDLY, category_of
from ml.lack import TooFewData

START = datetime(2026, 3, 2, tzinfo=UTC)


def seen(number: int, order: int, status: str, minute: float = 0, **changed: object) -> SeenAttempt:
    """Attempt number ``number`` of an order, some minutes after the start."""
    fields: dict[str, object] = {
        "attempt_id": f"att_{number}",
        "order_id": f"ord_{order}",
        "at": START + timedelta(minutes=minute),
        "gateway": "alpha",
        "status": status,
        "amount_minor": 1_000 * order,
        "currency": "INR",
    }
    category = changed.pop("category", None)
    if category is not None:
        known = category_of(str(category))
        fields |= {"category": known.name, "hardness": known.hardness, "retry": known.retry}
    return SeenAttempt(**(fields | changed))  # type: ignore[arg-type]


HISTORY = [
    seen(1, 1, "failed", 0, category="do_not_honor"),
    seen(2, 1, "succeeded", 5, gateway="bravo"),
    seen(3, 2, "failed", 0, category="lost_or_stolen_card"),
    seen(4, 2, "failed", 1, category="do_not_honor", gateway="bravo"),
    seen(5, 3, "succeeded", 0),
    seen(6, 4, "failed", 0, category="insufficient_funds"),
    seen(7, 5, "failed", 0, category="processing_error"),
    seen(8, 5, "pending", 2),
    seen(9, 6, "abandoned", 0),
]


def test_the_three_rates_of_a_small_history():
    """Six orders by hand: retries lower the attempt rate, and do not lower the order rate."""
    found = authorization(reversed(HISTORY))

    assert found.attempts == Share(2, 7)
    assert found.first_attempts == Share(1, 5)
    assert found.orders == Share(2, 5)


def test_money_lost_and_recovered_of_a_small_history():
    """Order 1 was recovered; 2 and 4 were lost, of which a machine may try 4 and 2 again; 5 still waits."""
    (money,) = money_outcomes(HISTORY)

    assert (money.orders, money.recovered_orders, money.recovered_minor) == (3, 1, 1_000)
    assert (money.lost_orders, money.lost_minor) == (2, 6_000)
    assert (money.recoverable_orders, money.recoverable_minor) == (2, 6_000)


def test_what_retries_achieved_and_what_was_forbidden():
    """One retry helped after five minutes elsewhere; one followed a stolen card, which breaks a rule."""
    assert {(r.category, r.delay, r.gateway, r.gateway_next, r.tried, r.succeeded) for r in recoveries(HISTORY)} == {
        ("do_not_honor", "1 to 10 min", "alpha", "bravo", 1, 1),
        ("lost_or_stolen_card", "1 to 10 min", "alpha", "bravo", 1, 0),
    }
    (breach,) = breaches(HISTORY)
    assert (breach.rule, breach.attempt_id, breach.after) == ("never_category", "att_4", "lost_or_stolen_card")


@pytest.mark.parametrize(("count", "broken"), [(15, 0), (16, 1), (20, 5)])
def test_visa_s_limit_counts_every_decline_beyond_it(count: int, broken: int):
    """With 15 declines within the 30 days before, each further decline of the same card is a breach."""
    declines = [
        seen(n, n, "failed", n * 60, customer_id="cus_1", network="Visa", category="do_not_honor") for n in range(count)
    ]

    assert [breach.rule for breach in breaches(declines)] == ["visa_limit_30d"] * broken


def test_a_random_history_counted_another_way():
    """Five hundred orders, added up attempt by attempt in a plain way, give the same figures."""
    draw = random.Random(11)
    history, number = [], 0
    for order in range(500):
        minute = 0.0
        for _ in range(draw.randint(1, 4)):
            number += 1
            status = draw.choice(["succeeded", "failed", "failed", "abandoned", "pending"])
            category = draw.choice(CATEGORIES).name if status == "failed" else None
            gateway = draw.choice(["alpha", "bravo"])
            history.append(seen(number, order, status, minute, gateway=gateway, category=category))
            minute += draw.choice([0.5, 5, 30, 600, 3_000])
    shuffled = draw.sample(history, len(history))

    found, money = authorization(shuffled), money_outcomes(shuffled)[0]
    settled = [each for each in history if each.status in ("succeeded", "failed")]
    paid = {each.order_id for each in settled if each.status == "succeeded"}
    assert found.attempts == Share(sum(e.status == "succeeded" for e in settled), len(settled))
    assert found.orders == Share(len(paid), len({each.order_id for each in settled}))
    last = {each.order_id: each for each in history}
    last_failed = {each.order_id: each for each in history if each.status == "failed"}
    lost = [o for o in last_failed if o not in paid and last[o].status != "pending"]
    assert money.lost_orders == len(lost)
    assert money.lost_minor == sum(last[order].amount_minor for order in lost)
    assert money.recoverable_orders == sum(last_failed[order].retry in RETRIES_BLINDLY for order in lost)
    followed = [
        (one, two)
        for one, two in pairwise(history)
        if one.order_id == two.order_id and one.status == "failed" and two.status in ("succeeded", "failed")
    ]
    assert sum(row.tried for row in recoveries(shuffled)) == len(followed)
    assert sum(row.succeeded for row in recoveries(shuffled)) == sum(two.status == "succeeded" for _, two in followed)
    barred: set[str] = set()
    broken = []
    for each in history:
        if each.order_id in barred:
            broken.append(each.attempt_id)
        if each.status == "failed" and each.retry in NEVER_AGAIN:
            barred.add(each.order_id)
    assert sorted(breach.attempt_id for breach in breaches(shuffled)) == sorted(broken)


WORLDS: Final[dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float]]] = {
    "alike": (lambda draw, count: np.full(count, 0.1), 0.1),
    "unlike": (lambda draw, count: draw.beta(2, 18, count), 0.1),
    "outages": (lambda draw, count: np.where(draw.random(count) < 0.3, 0.5, 0.06), 0.3 * 0.5 + 0.7 * 0.06),
    "anything": (lambda draw, count: draw.uniform(0, 1, count), 0.5),
}
"""How likely a failure is in each stretch, and its mean."""


@pytest.mark.parametrize("spread", [0.0, 0.7])
@pytest.mark.parametrize("stretches", [1, 2, 4, 8, 16, 30, 48, 96])
@pytest.mark.parametrize("world", WORLDS)
def test_intervals_of_samples_in_time_hold_the_truth(world: str, stretches: int, spread: float) -> None:
    """However many of 96 stretches hold attempts, and however unlike their sizes are: the interval holds the true share
    about as often as it says, or there is none. Where stretches differ, the plain one misses it far too often."""
    levels, truth = WORLDS[world]
    held, held_plain, answers, worlds = 0, 0, 0, 1_000
    for seed in range(worlds):
        draw = np.random.default_rng(seed)
        settled, failed = np.zeros((2, 96))
        places = draw.permutation(96)[:stretches]
        settled[places] = np.maximum(draw.poisson(60 * draw.lognormal(0, spread, stretches)), 1)
        failed[places] = draw.binomial(settled[places].astype(int), levels(draw, stretches))
        found = sampled_interval(failed, settled)
        if isinstance(found, TooFewData):
            continue
        answers += 1
        held += found.low <= truth <= found.high
        plain = wilson_interval(Proportion(int(failed.sum()), int(settled.sum())))
        assert isinstance(plain, Interval)
        held_plain += plain.low <= truth <= plain.high
    if stretches < STRETCHES_MIN:
        assert answers == 0
    if stretches == 96:
        assert answers == worlds
    if answers > 200:
        assert held / answers >= 0.93
        assert world == "alike" or held_plain / answers < 0.75


def test_one_large_stretch_among_tiny_ones_is_one() -> None:
    """Stretches count by what they say: fifty with one attempt each say nothing of how a large one differs."""
    settled = np.array([10_000.0, *[1.0] * 50])
    assert sampled_interval(settled * 0, settled) == TooFewData(seen=1, needed=STRETCHES_MIN)


def test_stretches_without_attempts_change_nothing() -> None:
    """Three stretches say the same among 96 as alone."""
    parts, wholes = np.array([1.0, 9.0, 2.0]), np.array([10.0, 20.0, 10.0])
    empty = np.zeros(93)
    assert design_effect(np.append(parts, empty), np.append(wholes, empty)) == design_effect(parts, wholes) > 2


@pytest.mark.parametrize("parts", [[0.0, 0.0], [4.0, 4.0]])
def test_where_all_ended_alike_there_is_no_design_effect(parts: list[float]) -> None:
    """No failure, only failures, and no attempt at all."""
    assert design_effect(np.array(parts), np.array([4.0, 4.0])) == 1.0
    assert design_effect(np.zeros(2), np.zeros(2)) == 1.0


def test_trials_drawn_one_by_one_have_no_design_effect() -> None:
    """It is about 1 on average when every stretch has the same share."""
    draw = np.random.default_rng(3)
    settled = np.full(96, 60)
    effects = [design_effect(draw.binomial(settled, 0.1).astype(float), settled.astype(float)) for _ in range(200)]
    assert 1.0 <= np.mean(effects) < 1.15
