"""What one gateway's failure says of the next."""

from __future__ import annotations

import pytest

from ml.routing.fallbacks import HALF_LIFE_S, Fallbacks
from ml.routing.node import chance, logit


def taught(fallbacks: Fallbacks, failed: str, gateway: str, succeeded: int, lost: int, at: float = 0.0) -> None:
    """Show so many second attempts."""
    for good, count in ((True, succeeded), (False, lost)):
        for _ in range(count):
            fallbacks.learn(failed, gateway, succeeded=float(good), not_succeeded=float(not good), at=at)


def test_nothing_is_said_without_evidence() -> None:
    """Unknown pairs, and gateways that do the same after every failure."""
    fallbacks = Fallbacks()
    assert fallbacks.shift("alpha", "bravo", 0.0) == 0.0
    taught(fallbacks, "alpha", "bravo", 50, 50)
    taught(fallbacks, "charlie", "bravo", 50, 50)
    assert fallbacks.shift("alpha", "bravo", 0.0) == pytest.approx(0.0, abs=0.01)


def test_gateways_that_fail_together_are_found_and_few_attempts_say_little() -> None:
    """The shift grows with the evidence, and has the sign of it."""
    few, many = Fallbacks(), Fallbacks()
    for fallbacks, times in ((few, 1), (many, 40)):
        taught(fallbacks, "alpha", "bravo", 0, 5 * times)
        taught(fallbacks, "charlie", "bravo", 4 * times, 1 * times)
    assert many.shift("alpha", "bravo", 0.0) < few.shift("alpha", "bravo", 0.0) < 0
    assert many.shift("charlie", "bravo", 0.0) > 0
    assert many.expected("alpha", "bravo", 0.9, 0.0) < 0.6
    assert many.shifts(["alpha", "charlie"], ["bravo", "delta"], 0.0)[1] == 0.0


def test_old_evidence_fades() -> None:
    """After four half-lives of other news, what was seen long ago hardly counts."""
    fallbacks = Fallbacks()
    taught(fallbacks, "alpha", "bravo", 0, 100)
    taught(fallbacks, "charlie", "bravo", 100, 0)
    before = fallbacks.shift("alpha", "bravo", 0.0)
    taught(fallbacks, "alpha", "bravo", 60, 40, at=8 * HALF_LIFE_S)
    taught(fallbacks, "charlie", "bravo", 60, 40, at=8 * HALF_LIFE_S)
    assert before < -0.5
    assert abs(fallbacks.shift("alpha", "bravo", 8 * HALF_LIFE_S)) < 0.15


def test_what_was_learned_of_a_pair_fades_also_when_nobody_tries_it_again() -> None:
    """An outage of a month ago must not keep a gateway from being second: nothing new would ever be learned of it."""
    fallbacks = Fallbacks()
    taught(fallbacks, "alpha", "bravo", 0, 100)
    for number in range(30):
        taught(fallbacks, "charlie", "bravo", 9, 1, at=number * HALF_LIFE_S / 4)
    assert fallbacks.shift("alpha", "bravo", 30 * HALF_LIFE_S / 4) > -0.2 > fallbacks.shift("alpha", "bravo", 0.0)


def test_payments_that_failed_before_are_known_to_succeed_less_often_anywhere() -> None:
    """The level is learned for each number of failures, moves no gateway before another, and fades."""
    fallbacks = Fallbacks()
    for failures, won in ((1, 60), (2, 30)):
        for number in range(100):
            good = float(number < won)
            fallbacks.learn_level(failures, expected=0.9, succeeded=good, not_succeeded=1.0 - good, at=0.0)
    expected = [chance(logit(0.9) + fallbacks.level(failures, 0.0)) for failures in (0, 1, 2, 3)]
    assert expected == pytest.approx([0.9, 0.669, 0.385, 0.385], abs=0.01)  # 30 of 130 say what one failure less says
    assert fallbacks.shifts(["alpha"], ["bravo", "charlie"], 0.0) == [fallbacks.level(1, 0.0)] * 2
    assert abs(fallbacks.level(1, 20 * HALF_LIFE_S)) < 0.01
    fallbacks.learn_level(1, expected=0.9, succeeded=1.0, not_succeeded=-1.0, at=0.0)
    assert chance(logit(0.9) + fallbacks.level(1, 0.0)) == pytest.approx(0.677, abs=0.002)
