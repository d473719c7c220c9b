"""How much a cell borrows."""

from __future__ import annotations

import numpy as np

from ml.routing.pooling import POOLING_FIRST, POOLING_MAX, Pooling


def measured(spread: float, seed: int = 0) -> float:
    """Strength after 300 cells of 100 payments whose rates spread around 90 %."""
    generator = np.random.default_rng(seed)
    pooling = Pooling()
    for rate in np.clip(generator.normal(0.9, spread, 300), 0, 1):
        good = generator.random(100) < rate
        for seen in range(1, 100):
            earlier = good[:seen].mean() - 0.9
            pooling.measure(earlier=earlier, earlier_payments=seen, counts=(good[seen], not good[seen]), mean=0.9)
    return pooling.strength


def test_starts_from_its_first_guess() -> None:
    """Without data nothing else is believed."""
    assert Pooling().strength == POOLING_FIRST


def test_cells_that_differ_borrow_little_and_cells_that_are_alike_borrow_much() -> None:
    """The strength comes near the noise of one payment over the variance between cells: 0.09 / 0.05^2 = 36."""
    assert 25 <= measured(0.05) <= 60
    assert 500 <= measured(0.0) <= POOLING_MAX
