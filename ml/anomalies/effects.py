"""One additive effect per segment: what is normal for a cell is the sum of those of the segments that hold it.

Each effect is pulled to zero by a prior, so that a thin cell borrows from its parents and a busy one speaks for itself
(empirical Bayes with fixed prior spreads, fitted by Newton steps on one family after another). What is expected of a
wide segment is the sum over its cells, hence traffic that a router shifts changes what is expected, and raises no
alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy.sparse import csr_array

from ml.anomalies.segments import FAMILIES, Floats, SegmentTable

FITTED: Final = tuple(
    number
    for number, named in enumerate(FAMILIES)
    if named in ((), (0,), (1,), (2,), (3,), (4,), (0, 1), (0, 2), (0, 3), (0, 4), (1, 2))
)
"""The families that have effects: all, every attribute, gateway with any other, method with issuer."""
STEP_MAX: Final = 1.0

Slope = Callable[[Floats], tuple[Floats, Floats]]
"""From predictions to the gradient and the information of the log likelihood, all of shape (cells, channels)."""


class Effects:
    """Effects on several channels at once.

    Args:
        start: the value before anything was seen, one per channel.
        spread: prior standard deviation per fitted family, and last of being a retry.
        segments_max: bound on segments.
    """

    def __init__(self, *, start: tuple[float, ...], spread: tuple[float, ...], segments_max: int) -> None:
        self._start = np.array(start)
        self._precision = 1.0 / np.square(np.array(spread))
        self._values = np.zeros((segments_max, len(start)))
        self._retry = np.zeros(len(start))

    def predict(self, table: SegmentTable) -> Floats:
        """The sum of its effects for each cell. Shape (cells, channels)."""
        summed = np.repeat(self._start[None, :], len(table.cells), axis=0)
        for family in FITTED:
            summed += self._values[table.cell_segments[:, family]]
        summed += table.retry[:, None] * self._retry
        return summed

    def fit(self, table: SegmentTable, slope: Slope, *, sweeps: int) -> Floats:
        """Move the effects to the data. Returns the information about each segment. Shape (segments, channels)."""
        prediction = self.predict(table)
        matrices = [_adding(table.cell_segments[:, family], len(table.segments)) for family in FITTED]
        retry = table.retry[:, None].astype(np.float64)
        for _ in range(sweeps):
            for place, family in enumerate(FITTED):
                parent = table.cell_segments[:, family]
                gradient, information = slope(prediction)
                precision = self._precision[place]
                held = self._values[: len(table.segments)]
                step = (matrices[place] @ gradient - precision * held) / (matrices[place] @ information + precision)
                own = np.zeros(len(table.segments), dtype=np.bool_)
                own[parent] = True
                step = np.where(own[:, None], step.clip(-STEP_MAX, STEP_MAX), 0.0)
                held += step
                prediction += step[parent]
            if table.retry.any():
                gradient, information = slope(prediction)
                pull = (gradient * retry).sum(axis=0) - self._precision[-1] * self._retry
                step = (pull / ((information * retry).sum(axis=0) + self._precision[-1])).clip(-STEP_MAX, STEP_MAX)
                self._retry += step
                prediction += retry * step
        known: Floats = table.roll_up(slope(prediction)[1])
        return known

    def shift(self, segment: int, by: Floats) -> None:
        """Take a change of one segment for the new normal. Shape (channels,)."""
        self._values[segment] += by

    def keep(self, segments: np.ndarray) -> None:
        """Forget all segments but these, in this order."""
        kept = self._values[segments]
        self._values[:] = 0
        self._values[: len(kept)] = kept


def _adding(parent: np.ndarray, segments: int) -> csr_array:
    cells = np.arange(len(parent))
    return csr_array((np.ones(len(parent)), (parent, cells)), shape=(segments, len(parent)))
