"""All links fitted to each other: against the truth that outcomes were drawn from, and against the chain alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest

from ml.routing import lessons
from ml.routing.context import Outcome
from ml.routing.estimates import Estimates
from ml.routing.node import chance, logit
from ml.routing.table import CellTable

DAY = 86_400.0
METHODS = ("card", "wallet")
ISSUERS = ("north", "south", "east", "west", "centre")


def learned(outcomes: Iterator[Outcome], *, alert: bool = True) -> tuple[Estimates, float]:
    """Estimates with a half-life of four days that learned these, and the time of the last."""
    held, now = Estimates(half_life_s=4 * DAY, cells_max=1000, alert=alert), 0.0
    for outcome in outcomes:
        now = outcome.at
        held.learn(outcome, now)
    return held, now


def one(gateway: str, method: str, issuer: str, at: float, succeeded: float) -> Outcome:
    """One payment."""
    return Outcome(gateway=gateway, method=method, issuer=issuer, at=at, succeeded=succeeded, failed=1 - succeeded)


def additive(seed: int, payments: int) -> tuple[np.ndarray, Iterator[Outcome]]:
    """Success of three gateways by method and issuer, and payments that mostly go where an issuer's usually go."""
    random = np.random.default_rng(seed)
    log_odds = (
        2.0 + random.normal(0, 0.3, 3)[:, None, None]
        + random.normal(0, 0.5, (3, 2))[:, :, None] + random.normal(0, 0.5, (3, 5))[:, None, :]
        + random.normal(0, 0.4, 5)[None, None, :]
    )  # fmt: skip
    usual = random.integers(0, 3, 5)

    def drawn() -> Iterator[Outcome]:
        for number in range(payments):
            issuer, method = random.integers(5), int(random.random() < 0.3)
            gateway = usual[issuer] if random.random() < 0.7 else random.integers(3)
            good = random.random() < 1 / (1 + math.exp(-log_odds[gateway, method, issuer]))
            yield one("abc"[gateway], METHODS[method], ISSUERS[issuer], number * 20.0, float(good))

    return log_odds, drawn()


def error(held: Estimates, now: float, log_odds: np.ndarray) -> float:
    """Root mean square of what is wrong in the differences between gateways, log odds."""
    wrong = []
    for method, name in enumerate(METHODS):
        for issuer, bank in enumerate(ISSUERS):
            believed = np.array([belief.log_odds for belief in held.beliefs(name, bank, ("a", "b", "c"), now)])
            true = log_odds[:, method, issuer]
            wrong.append((believed - believed.mean()) - (true - true.mean()))
    return float(np.sqrt(np.mean(np.square(wrong))))


def test_differences_between_gateways_are_known_better_than_by_the_chain_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several worlds, by a tenth at least."""
    fitted, alone = [], []
    for seed in range(6):
        truth, outcomes = additive(seed, 12_000)
        fitted.append(error(*learned(outcomes, alert=False), truth))
        with monkeypatch.context() as without:
            without.setattr(lessons, "refit", lambda *_: None)
            alone.append(error(*learned(additive(seed, 12_000)[1], alert=False), truth))
    assert np.mean(fitted) < 0.9 * np.mean(alone)


def test_a_gateway_that_got_the_difficult_issuers_is_not_thought_worse() -> None:
    """Both do the same; nine in ten payments of the difficult issuer go to the one, of the easy to the other."""
    random = np.random.default_rng(3)

    def outcomes() -> Iterator[Outcome]:
        for number in range(8_000):
            is_hard, as_usual = random.random() < 0.5, random.random() < 0.9
            good = random.random() < (0.7 if is_hard else 0.95)
            yield one(
                "a" if is_hard == as_usual else "b", "card", "hard" if is_hard else "easy", 30.0 * number, float(good)
            )

    held, now = learned(outcomes())
    for issuer, true in (("hard", 0.7), ("easy", 0.95)):
        means = [belief.mean for belief in held.beliefs("card", issuer, ("a", "b"), now)]
        assert means == pytest.approx([true, true], abs=0.03)
    a, b = held.beliefs("card", "new", ("a", "b"), now)
    assert a.mean == pytest.approx(b.mean, abs=0.03)
    assert held.overall(("a",), now)[0].mean < 0.75  # what it did with the payments that it had is still known


def test_one_kind_of_payments_is_learned_as_without_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no gateway has two parts, nothing is changed."""

    def outcomes() -> Iterator[Outcome]:
        random = np.random.default_rng(5)
        for number in range(3_000):
            yield one("ab"[random.integers(2)], "card", "north", 60.0 * number, float(random.random() < 0.9))

    held, now = learned(outcomes())
    believed = [belief.log_odds for belief in held.beliefs("card", "north", ("a", "b"), now)]
    monkeypatch.setattr(lessons, "refit", lambda *_: None)
    held, now = learned(outcomes())
    assert believed == [belief.log_odds for belief in held.beliefs("card", "north", ("a", "b"), now)]


def test_a_new_gateway_begins_beside_the_others() -> None:
    """With the mean shift of those that are there, not with none."""
    held, now = learned(additive(1, 6_000)[1])
    old = [belief.log_odds for belief in held.beliefs("card", "north", ("a", "b", "c"), now)]
    unseen = held.beliefs("card", "north", ("d",), now)[0].log_odds
    assert min(old) < unseen < max(old)
    held.learn(one("d", "card", "north", now, 1.0), now)
    assert held.beliefs("card", "north", ("d",), now)[0].log_odds == pytest.approx(unseen, abs=1.0)


def test_what_the_reliability_model_brings_is_not_learned_as_the_parts_own() -> None:
    """Payments of one issuer go to a gateway where the model says that they do better, and they do."""
    random, shift = np.random.default_rng(11), 1.2

    def outcomes() -> Iterator[Outcome]:
        for number in range(10_000):
            issuer, method = int(random.integers(3)), int(random.integers(2))
            helped = issuer == 0 and random.random() < 0.7
            gateway = "a" if helped else "ab"[random.integers(2)]
            its = shift if helped else 0.0
            good = float(random.random() < chance(logit((0.7, 0.85, 0.9)[issuer]) + its))
            yield Outcome(gateway=gateway, method=METHODS[method], issuer=ISSUERS[issuer], at=30.0 * number,
                          succeeded=good, failed=1 - good, shift=its)  # fmt: skip

    held, now = learned(outcomes())
    for method in METHODS:
        for issuer, true in zip(ISSUERS[:3], (0.7, 0.85, 0.9), strict=True):
            believed = [belief.mean for belief in held.beliefs(method, issuer, ("a", "b"), now)]
            assert believed == pytest.approx([true, true], abs=0.05)


def held_after(
    rates: list[tuple[int, float]], look: Callable[[Estimates, int, float], None] | None = None
) -> Estimates:
    """What is known of gateway a, which does so well for so many minutes with all its issuers, and of b with 0.8."""
    random, held, number = np.random.default_rng(7), Estimates(half_life_s=4 * DAY, cells_max=1000), 0
    for minutes, rate in rates:
        for _ in range(minutes):
            now = 60.0 * number
            for gateway, its in (("a", rate), ("b", 0.8)):
                held.learn(one(gateway, "card", ISSUERS[random.integers(3)], now, float(random.random() < its)), now)
            if look is not None:
                look(held, number, now)
            number += 1
    return held


def means(held: Estimates, now: float) -> list[float]:
    """Expected success of gateway a by issuer."""
    return [held.beliefs("card", issuer, ("a",), now)[0].mean for issuer in ISSUERS[:3]]


def test_a_rise_that_lasts_is_the_steady_state_of_all_parts() -> None:
    """Two days after all parts became better: it is not forgotten with what was different lately."""
    held, now = held_after([(9_000, 0.6), (3_000, 0.95)]), 12_000 * 60.0
    held.forget("a", since=now)
    assert means(held, now) == pytest.approx([0.95] * 3, abs=0.06)


def test_a_fall_that_lasts_is_believed_and_what_was_before_is_known_again_when_it_is_over() -> None:
    """Over two days nearly every hour tells what it does now; an hour after it is back, what it did before."""
    fell, back, right = 9_000, 12_000, []

    def look(held: Estimates, number: int, now: float) -> None:
        if fell + 60 < number < back and number % 60 == 0:
            right.append(means(held, now) == pytest.approx([0.6] * 3, abs=0.15))

    held = held_after([(fell, 0.95), (back - fell, 0.6), (60, 0.95)], look)
    assert np.mean(right) > 0.95
    assert min(means(held, (back + 60) * 60.0)) > 0.88


def test_only_the_leaves_inside_a_part_are_its_leaves() -> None:
    """Of one gateway and one method; and each is moved by as much in log odds, and expected to be."""
    table = CellTable(100)
    for method in METHODS:
        for issuer in ISSUERS[:2]:
            for gateway in "ab":
                table.made((method, issuer), gateway, 0.0).add_long(100.0, 60.0, 70.0)
    for leaf in table.leaves("a", ("card", None)):
        leaf.move_by(1.0)
    for key, row in table.items():
        for gateway, node in row.cells.items():
            more = 100 * chance(logit(0.6) + 1.0) - 60 if gateway == "a" and key[0] == "card" else 0.0
            assert (node.succeeded, node.expected) == pytest.approx((60 + more, 70 + more))


@pytest.mark.parametrize("good", [0.0, 1.0])
def test_a_few_payments_of_a_new_gateway_are_not_believed_for_ever(good: float) -> None:
    """Three failures, or successes, in a row: a month later it is thought to do as the others do."""
    _, outcomes = additive(2, 1)
    held, now = learned(outcomes)
    _, outcomes = additive(2, 40_000)
    for number, outcome in enumerate(outcomes):
        now = outcome.at * 3
        held.learn(msgspec.structs.replace(outcome, at=now), now)
        if number in (2_000, 2_001, 2_002):
            held.learn(one("d", "card", "north", now, good), now)
        if number == 6_000:
            soon = held.beliefs("card", "north", ("d",), now)[0].mean
    others = [belief.mean for belief in held.beliefs("card", "north", ("a", "b", "c"), now)]
    late = held.beliefs("card", "north", ("d",), now)[0].mean
    assert 0.2 < soon < 0.98
    assert min(others) - 0.1 < late < max(others) + 0.1


def test_payments_that_have_faded_to_nothing_are_no_number_to_divide_by() -> None:
    """Years later every number is still one."""
    held, now = learned(additive(3, 2_000)[1])
    later = now + 20 * 365 * DAY
    for number, outcome in enumerate(additive(4, 600)[1]):
        if outcome.issuer != "north":
            now = later + 20.0 * number
            held.learn(msgspec.structs.replace(outcome, at=now), now)
    believed = [belief.log_odds for name in ISSUERS for belief in held.beliefs("card", name, ("a", "b", "c"), now)]
    assert np.isfinite(believed).all()
    assert max(map(abs, believed)) < 6


def test_where_rows_were_forgotten_nothing_is_fitted() -> None:
    """What is left knows less than what is above it: as good as the chain alone, whatever the room."""
    truth, outcomes = additive(4, 8_000)
    held, now = Estimates(half_life_s=4 * DAY, cells_max=20), 0.0
    for outcome in outcomes:
        now = outcome.at
        held.learn(outcome, now)
    assert error(held, now, truth) < 0.6
