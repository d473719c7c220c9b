"""How normal changes with the hour of the day: a smooth curve for all payments, each gateway, method and issuer.

A curve has one value per hour. An hour that was not seen yet is taken to be like the hours next to it, with as much
doubt as neighbouring hours usually differ. Days long past fade.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ml.anomalies.segments import Floats, SegmentTable

DAY_S: Final = 86_400.0
BINS: Final = 24
BIN_S: Final = DAY_S / BINS
MEMORY_VISITS: Final = 6.0
"""An hour is the mean of about so many of its days."""
STEP: Final = 0.10
"""Neighbouring hours differ by so much (standard deviation of the logarithm)."""
SPREAD: Final = 0.25
"""One hour differs from the mean of its day by so much."""
NOISE: Final = 0.03
"""A value is never known better than this: days differ."""
SEASONAL: Final = (0, 1, 2, 3)
"""Families with curves of their own: all, gateway, method, issuer."""

_CIRCLE: Final = 2 * np.eye(BINS) - np.roll(np.eye(BINS), 1, axis=0) - np.roll(np.eye(BINS), -1, axis=0)


class Seasons:
    """Curves on several channels, as logarithms of a ratio (or, for means, as differences).

    Args:
        channels: how many.
        rates: how many of them, from the first, are counts; the others are means.
        segments_max: bound on segments.
    """

    def __init__(self, *, channels: int, rates: int, segments_max: int) -> None:
        self._rates = rates
        shape = (segments_max, BINS, channels)
        self._seen, self._expected = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._curve, self._variance = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.solved = False

    def add(self, at: float, seconds: float, segments: np.ndarray, seen: Floats, expected: Floats) -> None:
        """Take in some seconds of what was seen of these segments and what was expected. Shapes (n, channels)."""
        hour = int(at % DAY_S // BIN_S)
        fade = np.float32(np.exp(-seconds / (BIN_S * MEMORY_VISITS)))
        for held, new in ((self._seen, seen), (self._expected, expected)):
            held[segments, hour] = held[segments, hour] * fade + new.astype(np.float32)

    def rescale(self, segments: np.ndarray, ratio: Floats, difference: Floats) -> None:
        """Follow a change of what the curves are relative to: ratios of counts, differences of means."""
        self._expected[segments, :, : self._rates] *= ratio[:, None, :].astype(np.float32)
        lowered = self._expected[segments, :, self._rates :] * difference[:, None, :].astype(np.float32)
        self._seen[segments, :, self._rates :] -= lowered

    def solve(self, table: SegmentTable) -> None:
        """Draw the curves through what was seen: first of all payments, then of each part what is left."""
        family = table.family
        above = np.zeros((BINS, self._seen.shape[2]))
        for number in SEASONAL:
            segments = np.flatnonzero(family == number)
            if not len(segments):
                continue
            value, information = self._residual(segments, above)
            curve, variance = _smoothed(value, information)
            self._curve[segments], self._variance[segments] = curve, variance
            if number == SEASONAL[0]:
                above = curve[0]
        self.solved = True

    def at(self, table: SegmentTable, at: float) -> Floats:
        """What the hour adds to each cell. Shape (cells, channels)."""
        (low, high), part = _between(at)
        added = np.zeros((len(table.cells), self._seen.shape[2]))
        if self.solved:
            value = (
                self._curve[: len(table.segments), low] * (1 - part) + self._curve[: len(table.segments), high] * part
            )
            for number in SEASONAL:
                added += value[table.cell_segments[:, number]]
        return added

    def variance(self, table: SegmentTable, at: float) -> Floats:
        """Doubt about each segment's curve now, as variance: the better known hour's. Shape (segments, channels)."""
        if not self.solved:
            return np.full((len(table.segments), self._seen.shape[2]), STEP**2)
        (low, high), _ = _between(at)
        doubt: Floats = np.minimum(
            self._variance[: len(table.segments), low], self._variance[: len(table.segments), high]
        )
        return doubt

    def keep(self, segments: np.ndarray) -> None:
        """Forget all segments but these, in this order."""
        for held in (self._seen, self._expected, self._curve, self._variance):
            kept = held[segments]
            held[:] = 0
            held[: len(kept)] = kept

    def _residual(self, segments: np.ndarray, above: Floats) -> tuple[Floats, Floats]:
        """What was seen beyond the curve of all payments, and the information about it. Shapes (n, BINS, channels)."""
        seen, expected = self._seen[segments].astype(np.float64), self._expected[segments].astype(np.float64)
        rates = self._rates
        adjusted = expected[..., :rates] * np.exp(above[:, :rates])
        ratio = np.log((seen[..., :rates] + 0.5) / (adjusted + 0.5))
        mean = seen[..., rates:] / np.maximum(expected[..., rates:], 1e-9) - above[:, rates:]
        information = np.concatenate((adjusted, expected[..., rates:]), axis=2)
        value = np.concatenate((ratio, np.where(expected[..., rates:] > 0, mean, 0.0)), axis=2)
        return value, 1.0 / (NOISE**2 + 1.0 / np.maximum(information, 1e-9))


def _between(at: float) -> tuple[tuple[int, int], float]:
    """The two hours whose middles a moment lies between, and how far it is from the first."""
    place = at % DAY_S / BIN_S - 0.5
    low = int(np.floor(place))
    return (low % BINS, (low + 1) % BINS), place - low


def _smoothed(value: Floats, information: Floats) -> tuple[Floats, Floats]:
    """Ridge along the circle of hours. Shapes (n, BINS, channels); returns mean and variance."""
    weight = information.transpose(0, 2, 1)
    system = weight[..., None] * np.eye(BINS) + _CIRCLE / STEP**2 + np.eye(BINS) / SPREAD**2
    inverse = np.linalg.inv(system)
    mean = (inverse @ (weight * value.transpose(0, 2, 1))[..., None])[..., 0]
    variance = np.diagonal(inverse, axis1=2, axis2=3)
    return mean.transpose(0, 2, 1), variance.transpose(0, 2, 1)
