"""What an attempt is worth: mean amount per segment in its main currency."""

from __future__ import annotations

from typing import Final

import numpy as np

from ml.anomalies.segments import Flags, Floats, Integers

CURRENCIES_MAX: Final = 8


class Amounts:
    """Attempts and amounts per leaf and currency, fading by half every ``fade_attempts`` attempts of the leaf.

    The first eight currencies are followed; others only count as traffic of no known worth.
    """

    def __init__(self, *, leaves_max: int, fade_attempts: float = 5000.0) -> None:
        self._currencies: list[str] = []
        self._sums = np.zeros((CURRENCIES_MAX, leaves_max, 2))
        self._fade_attempts = fade_attempts

    def currency(self, code: str) -> int:
        """Number a currency; -1 when there are too many."""
        if code in self._currencies:
            return self._currencies.index(code)
        if len(self._currencies) == CURRENCIES_MAX:
            return -1
        self._currencies.append(code)
        return len(self._currencies) - 1

    def add(self, leaf: Integers, currency: Integers, amount_minor: Floats) -> None:
        """Take in attempts. All of shape (n,)."""
        known = currency >= 0
        rows = np.stack((np.ones(known.sum()), amount_minor[known]), axis=1)
        np.add.at(self._sums, (currency[known], leaf[known]), rows)
        full = self._sums[..., 0].sum(axis=0) > self._fade_attempts
        if full.any():
            self._sums[:, full] *= 0.5

    def typical(self, leaves: Flags) -> tuple[str, float, float] | None:
        """Main currency of these leaves, its mean amount (minor units) and its share of their attempts; None if
        unknown."""
        if not self._currencies:
            return None
        sums = self._sums[:, np.flatnonzero(leaves)].sum(axis=1)
        main = int(sums[:, 0].argmax())
        attempts, amount = sums[main]
        if attempts < 1:
            return None
        return self._currencies[main], float(amount / attempts), float(attempts / sums[:, 0].sum())

    def keep(self, leaves: Integers) -> None:
        """Forget all leaves but these, in this order."""
        size = len(leaves)
        self._sums[:, :size] = self._sums[:, leaves]
        self._sums[:, size:] = 0
