"""Asks the Isolation Forest about every minute, and keeps it fitted to ordinary ones."""

from __future__ import annotations

from typing import Final

import numpy as np

from ml.anomalies.forest import ROWS_MIN, Forest, Minute, Minutes, fitted, nats_of
from ml.anomalies.segments import Flags, Floats

SETTLED_MIN: Final = 20.0
"""Minutes with fewer attempts are not looked at."""


class Patrol:
    """The forest in force, and the minutes it is fitted to if none is given.

    Args:
        contamination: share of ordinary minutes taken for unusual.
        retrain_s: seconds between fits.
        seed: of the forest.
    """

    def __init__(self, *, contamination: float, retrain_s: float, seed: int) -> None:
        self._is_given = False
        self._contamination, self._retrain_s, self._seed = contamination, retrain_s, seed
        self._minutes = Minutes()
        self._fitted_at: float | None = None
        self._last: Floats = np.zeros(0)
        self.forest: Forest | None = None

    def take(self, forest: Forest | None) -> None:
        """Use a forest that was fitted elsewhere from now on; None: fit one here again."""
        self._is_given = forest is not None
        self.forest = forest
        if forest is None:
            self._fitted_at = None

    def look(self, minute: Minute, clean: Flags, at: float) -> Floats:
        """Judge a minute and learn from it.

        Args:
            minute: what it looked like.
            clean: the watched segments that no open anomaly touches.
            at: its end, seconds.
        Returns: nats per watched segment, 0 for those that are not looked at.
        """
        looked = clean & (minute.settled >= SETTLED_MIN)
        rows = minute.features()
        nats: Floats = np.zeros(len(looked))
        if self.forest is not None and looked.any():
            nats[looked] = nats_of(self.forest.unusual(rows[looked]), self.forest.contamination)
        self._last = nats
        self._minutes.add(rows[looked])
        due = self._fitted_at is None or at - self._fitted_at >= self._retrain_s
        if due and not self._is_given and self._minutes.seen >= ROWS_MIN:
            self.forest = fitted(self._minutes.rows(), contamination=self._contamination, seed=self._seed)
            self._fitted_at = at
        return nats

    def ordinary(self, column: int) -> float:
        """Nats for health of a watched segment in the last minute."""
        return -float(self._last[column]) if column < len(self._last) else 0.0
