"""What routing around an unwell gateway brought."""

from __future__ import annotations

import numpy as np
import pytest

from storage.read_models.anomaly_saved import Side, saved_of

BEFORE = (Side(300, 270, 300, 30_000), Side(700, 630, 700, 70_000))


def test_payments_that_moved_are_worth_the_difference_in_success() -> None:
    """A gateway of 30 % kept 2 %: 280 of 1,000 moved, at 90 % instead of 5 %."""
    meanwhile = (Side(20, 1, 20, 2_000), Side(980, 882, 980, 98_000))
    found = saved_of(before=BEFORE, meanwhile=meanwhile, currency="EUR")
    assert (found.moved, found.why_not, found.currency) == (280, None, "EUR")
    assert found.payments is not None
    assert found.payments.estimate == pytest.approx(280 * 0.85)
    assert 180 < found.payments.low < found.payments.estimate < found.payments.high <= 280
    assert found.amount_minor is not None
    assert found.amount_minor.estimate == pytest.approx(280 * 0.85 * 100)


@pytest.mark.parametrize(
    ("before", "meanwhile", "words"),
    [
        ((Side(), Side()), (Side(9, 1, 9), Side(90, 80, 90)), "none in the hour before"),
        (BEFORE, (Side(), Side()), "no full minute with payments"),
        (BEFORE, (Side(400, 20, 400), Side(600, 540, 600)), "No payments moved away"),
        (BEFORE, (Side(3, 0, 3), Side(997, 900, 997)), "Not enough data yet: 3 settled there"),
    ],
)
def test_there_is_no_answer_where_nothing_can_be_compared(
    before: tuple[Side, Side], meanwhile: tuple[Side, Side], words: str
) -> None:
    """Each in words, never a number."""
    found = saved_of(before=before, meanwhile=meanwhile, currency="EUR")
    assert found.payments is None
    assert words in str(found.why_not)


def test_several_currencies_are_not_added() -> None:
    """Payments are told, their worth is not."""
    found = saved_of(before=BEFORE, meanwhile=(Side(20, 1, 20), Side(980, 882, 980)), currency=None)
    assert found.payments is not None
    assert found.amount_minor is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Over 400 incidents with a known truth."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        rate, other = rng.uniform(0.02, 0.4), rng.uniform(0.8, 0.95)
        there, elsewhere = int(rng.integers(20, 60)), int(rng.integers(500, 1_500))
        meanwhile = (
            Side(there, int(rng.binomial(there, rate)), there),
            Side(elsewhere, int(rng.binomial(elsewhere, other)), elsewhere),
        )
        found = saved_of(before=BEFORE, meanwhile=meanwhile, currency=None)
        assert found.payments is not None
        held += found.payments.low <= found.moved * (other - rate) <= found.payments.high
    assert held >= 370
