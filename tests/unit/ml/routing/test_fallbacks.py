"""What one gateway's failure says of the next."""

from __future__ import annotations

import pytest

from ml.routing.fallbacks import HALF_LIFE_S, Fallbacks


def taught(fallbacks: Fallbacks, failed: str, gateway: str, succeeded: int, lost: int, at: float = 0.0) -> None:
    """Show so many second attempts."""
    for good, count in ((True, succeeded), (False, lost)):
        for _ in range(count):
            fallbacks.learn(failed, gateway, succeeded=float(good), not_succeeded=float(not good), at=at)


def test_nothing_is_said_without_evidence() -> None:
    """Unknown pairs, and gateways that do the same after every failure."""
    fallbacks = Fallbacks()
    assert fallbacks.shift("alpha", "bravo") == 0.0
    taught(fallbacks, "alpha", "bravo", 50, 50)
    taught(fallbacks, "charlie", "bravo", 50, 50)
    assert fallbacks.shift("alpha", "bravo") == pytest.approx(0.0, abs=0.01)


def test_gateways_that_fail_together_are_found_and_few_attempts_say_little() -> None:
    """The shift grows with the evidence, and has the sign of it."""
    few, many = Fallbacks(), Fallbacks()
    for fallbacks, times in ((few, 1), (many, 40)):
        taught(fallbacks, "alpha", "bravo", 0, 5 * times)
        taught(fallbacks, "charlie", "bravo", 4 * times, 1 * times)
    assert many.shift("alpha", "bravo") < few.shift("alpha", "bravo") < 0
    assert many.shift("charlie", "bravo") > 0
    assert many.expected("alpha", "bravo", 0.9) < 0.6
    assert many.shifts(["alpha", "charlie"], ["bravo", "delta"])[1] == 0.0


def test_old_evidence_fades() -> None:
    """After four half-lives of other news, what was seen long ago hardly counts."""
    fallbacks = Fallbacks()
    taught(fallbacks, "alpha", "bravo", 0, 100)
    taught(fallbacks, "charlie", "bravo", 100, 0)
    before = fallbacks.shift("alpha", "bravo")
    taught(fallbacks, "alpha", "bravo", 60, 40, at=8 * HALF_LIFE_S)
    taught(fallbacks, "charlie", "bravo", 60, 40, at=8 * HALF_LIFE_S)
    assert before < -0.5
    assert abs(fallbacks.shift("alpha", "bravo")) < 0.15
