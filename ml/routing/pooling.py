"""How alike the cells under one parent are, learned from the outcomes themselves."""

from __future__ import annotations

from typing import Final

POOLING_FIRST: Final = 40.0
"""How many payments the cell above is worth, before the data say how different cells are."""

POOLING_MIN: Final = 15.0
POOLING_MAX: Final = 3000.0
"""However alike cells looked so far, some thousand payments of its own must be able to outvote the cell above."""

TRUST: Final = 400.0
"""How many payments' worth of weight the first guess has."""

NOISE_FIRST: Final = 0.1
"""Variance of one outcome in the first guess: success near 90 %."""

MEMORY_PAYMENTS: Final = 50_000
"""When so many payments were measured, they count half from then on."""


class Pooling:
    """Estimates how many payments the belief of the cell above is worth to a cell.

    If cells differ, the past surprise of a cell foretells its next one; if they are alike, it does not. The covariance
    of the two is the variance between cells, and the noise of one outcome divided by it is the number of payments
    after which a cell should believe itself as much as the cell above (empirical Bayes).

    Args:
        first: the strength before anything was measured, payments, > 0.
        most: the largest strength, payments.
    """

    def __init__(self, first: float = POOLING_FIRST, *, most: float = POOLING_MAX) -> None:
        self.strength = first
        self._first = first
        self._most = most
        self._covariance = self._noise = self._weight = 0.0

    def measure(self, *, earlier: float, earlier_payments: float, counts: tuple[float, float], mean: float) -> None:
        """Take in one outcome of a cell.

        Args:
            earlier: the cell's own success so far minus what the cell above said.
            earlier_payments: effective payments behind ``earlier``, > 0.
            counts: payments that succeeded and failed now.
            mean: success that the cell above said, 0 to 1.
        """
        succeeded, failed = counts
        payments = succeeded + failed
        trust = earlier_payments / (earlier_payments + self._first)
        self._covariance += trust * (succeeded - payments * mean) * earlier
        self._noise += trust * payments * mean * (1 - mean)
        self._weight += trust * payments
        if self._weight > MEMORY_PAYMENTS:
            self._covariance, self._noise, self._weight = self._covariance / 2, self._noise / 2, self._weight / 2
        noise = self._noise + NOISE_FIRST * TRUST
        between = self._covariance + NOISE_FIRST / self._first * TRUST
        self.strength = min(self._most, max(POOLING_MIN, noise / between)) if between > 0 else self._most
