"""What is normal: learnt with forgetting, shared between segments, and following the hour of the day."""

from __future__ import annotations

from typing import Final

import numpy as np

from ml.anomalies.channels import COUNTED, FAILED
from ml.anomalies.counting import (
    AMOUNT_N,
    HITS,
    LATENCY_N,
    ORDERS,
    RETRIED,
    REVERSED,
    SETTLED,
    STATISTICS,
    UNKNOWN,
    Normal,
)
from ml.anomalies.effects import FITTED, Effects, Slope
from ml.anomalies.seasons import SEASONAL, Seasons
from ml.anomalies.segments import (
    ALL_FAMILY,
    FAMILIES,
    GATEWAY_FAMILY,
    NAMES_GATEWAY,
    Floats,
    Integers,
    SegmentTable,
)

RATE_SPREAD: Final = (3.0, 0.5, 0.7, 0.5, 0.5, 0.7, 0.5, 0.4, 0.4, 0.4, 0.3, 1.5)
"""How far, in ln odds or ln rate, segments of each fitted family usually lie apart, and retries from first attempts."""
MEAN_SPREAD: Final = (3.0, 0.7, 1.0, 0.3, 0.3, 0.3, 0.5, 0.1, 0.1, 0.1, 0.1, 0.2)
"""The same in ln(latency) and ln(amount)."""
RATE_START: Final = (-2.0, -4.0, -4.5, -4.0, -4.5, -5.0, -5.0, -3.0, -6.0)
"""ln odds of failure and ln rates of its kinds before anything was seen."""
MEAN_START: Final = (6.5, 10.5)
VARIANCE_START: Final = (0.25, 1.0)
VARIANCE_PRIOR: Final = 50.0
VARIANCE_MIN: Final = 0.02
LOG_RATE_MAX: Final = -0.02
REFIT_GROWTH: Final = 1.25
REFIT_S: Final = 1800.0
"""Effects are fitted again when a quarter more was heard, and at least every half hour."""
ATTEMPTS_LEARNT_MIN: Final = 600
LEARNT_S_MIN: Final = 12.0
"""Nothing is judged before so much time was learnt: busy traffic brings many attempts before its slow answers come."""
SWEEPS_FIRST: Final = 12
SWEEPS: Final = 2
HOUR_DOUBT_S: Final = 7200.0
"""What was learnt so lately says how this hour is; only then does the curve of the day come in, with its own doubt."""
LAG_PRIOR: Final = {RETRIED: (2000.0, 1.0), REVERSED: (1000.0, 0.003)}
"""For how much the pooled ratio counts in each segment, and the ratio before anything was seen."""

Doubt = Floats
"""Standard deviation of the logarithm of what is expected. Shape (segments, COUNTED + 2)."""


class Baseline:
    """Learns what is normal from minutes that nothing is known to be wrong with.

    Args:
        memory_s: mean age of what is remembered, seconds, > 0; older minutes fade exponentially.
        segments_max: bound on segments.
        cells_max: bound on cells.
    """

    def __init__(self, *, memory_s: float, segments_max: int, cells_max: int) -> None:
        self._memory_s = memory_s
        self._sums = np.zeros((cells_max, STATISTICS))
        self._read = np.zeros((cells_max, STATISTICS))
        self._seconds = 0.0
        self._heard = np.zeros(cells_max)
        self._rates = Effects(start=RATE_START, spread=RATE_SPREAD, segments_max=segments_max)
        self._means = Effects(start=MEAN_START, spread=MEAN_SPREAD, segments_max=segments_max)
        self.seasons = Seasons(channels=COUNTED + 2, rates=COUNTED, segments_max=segments_max)
        self._variance = np.array(VARIANCE_START)
        self._fitted_attempts = self._fitted_at = 0.0
        self._base: tuple[Floats, Floats] | None = None
        self._information = np.zeros((segments_max, COUNTED + 2))
        self.attempts_learnt = 0.0
        self._lived = self._lived_s = self._fitted_lived = 0.0
        self._fitted_alive = False

    @property
    def has_lived(self) -> bool:
        """Whether enough was heard since the start to know what no stored sums tell: amounts, faults, retries."""
        return self._lived >= ATTEMPTS_LEARNT_MIN and self._lived_s >= LEARNT_S_MIN

    def begin_to_live(self) -> None:
        """What is learnt from here on was heard, not read; stored sums tell no retries and reversals."""
        self._read = self._sums.copy()
        self._lived = self._lived_s = self._fitted_lived = 0.0

    def learn(self, table: SegmentTable, sums: Floats, *, at: float, seconds: float, exposed: Floats) -> None:
        """Take in some seconds.

        Args:
            table: the cells.
            sums: what was counted, zero where something was wrong. Shape (cells, STATISTICS).
            at: their middle, seconds.
            seconds: how long they were.
            exposed: 1 where the cell was learnt from, 0 where it was left out; a cell left out does not fade.
        """
        size = len(sums)
        fading = float(np.exp(-seconds / self._memory_s))
        fade = np.where(exposed > 0, fading, 1.0)[:, None]
        self._sums[:size] *= fade
        self._read[:size] *= fade
        self._sums[:size] += sums * exposed[:, None]
        self._seconds = self._seconds * fading + seconds
        left_out = self._heard[:size][exposed <= 0]
        self._heard = self._heard * fading + seconds
        self._heard[:size][exposed <= 0] = left_out
        learnt = float((sums[:, SETTLED] * exposed).sum())
        self.attempts_learnt += learnt
        self._lived += learnt
        self._lived_s += seconds
        if self._fitted_attempts > 0:
            self.learn_hour(table, sums * exposed[:, None], at, seconds)

    def due(self, at: float) -> bool:
        """Whether the effects should be fitted anew."""
        grown = self._lived > self._fitted_lived * REFIT_GROWTH + 50
        awake = self.has_lived and not self._fitted_alive
        return self._fitted_attempts == 0 or grown or awake or at - self._fitted_at >= REFIT_S

    def refit(self, table: SegmentTable, at: float) -> None:
        """Fit effects and curves to what was learnt."""
        before, self._base = self._base, None
        sweeps = SWEEPS_FIRST if self._fitted_attempts < 5_000 else SWEEPS
        sums = self._sums[: len(table.cells)]
        known = self._rates.fit(table, lambda eta: _rate_slope(sums, eta), sweeps=sweeps)
        means = self._means.fit(table, self._mean_slope(sums), sweeps=sweeps)
        self._information[: len(table.segments)] = np.concatenate((known, means), axis=1)
        self._variance = self._pooled_variance(table, sums)
        self._fitted_at, self._fitted_attempts = at, self.attempts_learnt
        self._fitted_lived, self._fitted_alive = self._lived, self.has_lived
        if before is not None:
            self._follow(table, before)
        self.seasons.solve(table)

    def normal(self, table: SegmentTable, at: float) -> Normal:
        """What is normal at a moment, for every cell, also those never learnt from."""
        rate, mean = self._predicted(table)
        added = self.seasons.at(table, at)
        sums = self._sums[: len(table.cells)]
        rate = np.minimum(rate * np.exp(added[:, :COUNTED]), 0.97)
        deviation = [self._deviation(sums, kind, mean[:, kind]) for kind in (0, 1)]
        mean = mean + added[:, COUNTED:]
        if not self.has_lived:
            deviation[1] = np.full_like(deviation[1], UNKNOWN)
        usual = sums[:, ORDERS] / self._heard_s(table)
        return Normal(rate, mean[:, 0], deviation[0], mean[:, 1], deviation[1], usual)

    def doubt(self, table: SegmentTable, at: float) -> Doubt:
        """How well the expectation of each segment is known."""
        information = self._information[: len(table.segments)]
        spread = np.full(len(FAMILIES), 0.3)
        spread[list(FITTED)] = RATE_SPREAD[:-1]
        own = 1.0 / (information + 1.0 / np.square(spread[table.family])[:, None])
        season = self.seasons.variance(table, at)
        parents = table.cell_segments
        of_all, of_gateway = season[parents[:, ALL_FAMILY]], season[parents[:, GATEWAY_FAMILY]]
        hour = np.zeros_like(own)
        for family in range(len(FAMILIES)):
            hour[parents[:, family]] = of_all + of_gateway if NAMES_GATEWAY[family] else of_all
        moved = 1.0 - float(np.exp(-self._seconds / HOUR_DOUBT_S))
        deviation: Floats = np.sqrt(own + moved * hour)
        return deviation

    def lagged(self, table: SegmentTable, column: int, base: int) -> Floats:
        """How many hits of a column follow from one of another that was heard, per segment. Shape (segments,)."""
        heard = self._sums[: len(table.cells)] - self._read[: len(table.cells)]
        rolled = np.maximum(table.roll_up(heard[:, [column, base]]), 0.0)
        prior, start = LAG_PRIOR[column]
        whole = rolled[0] if len(rolled) else np.zeros(2)
        pooled = (whole[0] + prior * start) / (whole[1] + prior)
        ratio: Floats = (rolled[:, 0] + prior * pooled) / (rolled[:, 1] + prior)
        return ratio

    def settled_per_s(self, table: SegmentTable) -> Floats:
        """Usual traffic of each cell. Shape (cells,)."""
        usual: Floats = self._sums[: len(table.cells), SETTLED] / self._heard_s(table)
        return usual

    def _heard_s(self, table: SegmentTable) -> Floats:
        """How much time is remembered of each cell: less where it was left out. Shape (cells,)."""
        return np.maximum(self._heard[: len(table.cells)], 1.0)

    @property
    def seconds(self) -> float:
        """How much time is remembered."""
        return self._seconds

    def column(self, table: SegmentTable, number: int) -> Floats:
        """One column of what is remembered. Shape (cells,)."""
        return self._sums[: len(table.cells), number]

    def adopt(self, segment: int, cells: np.ndarray, channel: int, ratio: float) -> None:
        """Take a lasting change of one segment for the new normal; ``ratio`` of hits (or of exp(mean))."""
        change = np.zeros(COUNTED + 2)
        change[channel] = np.log(max(ratio, 1e-3))
        self._rates.shift(segment, change[:COUNTED])
        self._means.shift(segment, change[COUNTED:])
        if channel < COUNTED:
            for sums in (self._sums, self._read):
                sums[cells, HITS + channel] *= ratio
        else:
            first = (LATENCY_N, AMOUNT_N)[channel - COUNTED]
            count = self._sums[cells, first]
            shifted = self._sums[cells, first + 1] + count * change[channel]
            self._sums[cells, first + 2] += (shifted**2 - self._sums[cells, first + 1] ** 2) / np.maximum(count, 1e-9)
            self._sums[cells, first + 1] = shifted
        self._base = None

    def keep(self, cells: Integers, segments: Integers) -> None:
        """Forget all cells and segments but these, in this order."""
        for sums in (self._sums, self._read):
            kept = sums[cells]
            sums[:] = 0
            sums[: len(kept)] = kept
        heard = self._heard[cells]
        self._heard[:] = self._seconds
        self._heard[: len(heard)] = heard
        for part in (self._rates, self._means, self.seasons):
            part.keep(segments)
        information = self._information[segments]
        self._information[:] = 0
        self._information[: len(information)] = information
        self._base = None

    def _predicted(self, table: SegmentTable) -> tuple[Floats, Floats]:
        """What effects alone say of each cell; worked out again when cells or effects changed."""
        if self._base is None or len(self._base[0]) != len(table.cells):
            self._base = _rates_of(self._rates.predict(table)), self._means.predict(table)
        return self._base

    def learn_hour(self, table: SegmentTable, sums: Floats, at: float, seconds: float) -> None:
        """Take in what some seconds say of their hour of the day. Shape (cells, STATISTICS)."""
        rate, mean = self._predicted(table)
        segments, seen, expected = self._against(table, sums, rate[: len(sums)], mean[: len(sums)])
        self.seasons.add(at, seconds, segments, seen, expected)

    def _against(
        self, table: SegmentTable, sums: Floats, rate: Floats, mean: Floats
    ) -> tuple[Integers, Floats, Floats]:
        """The segments with curves, what was seen of each, and what effects alone expect of it.

        Shapes (segments,) and twice (segments, COUNTED + 2).
        """
        count = sums[:, [LATENCY_N, AMOUNT_N]]
        total = sums[:, [LATENCY_N + 1, AMOUNT_N + 1]]
        seen = np.concatenate((sums[:, HITS : HITS + COUNTED], (total - count * mean) / self._variance), axis=1)
        expected = np.concatenate((sums[:, SETTLED, None] * rate, count / self._variance), axis=1)
        both = np.concatenate((seen, expected), axis=1)
        padded = np.zeros((len(table.cells), both.shape[1]))
        padded[: len(both)] = both
        segments, rolled = table.roll_up_to(SEASONAL, padded)
        return segments, rolled[:, : COUNTED + 2], rolled[:, COUNTED + 2 :]

    def _follow(self, table: SegmentTable, before: tuple[Floats, Floats]) -> None:
        """Keep the curves true when what they are relative to has moved."""
        after, size = self._predicted(table), len(before[0])
        sums = self._sums[:size]
        _, seen_before, old = self._against(table, sums, *before)
        segments, seen, new = self._against(table, sums, after[0][:size], after[1][:size])
        ratio = (new[:, :COUNTED] + 1e-6) / (old[:, :COUNTED] + 1e-6)
        difference = (seen_before - seen)[:, COUNTED:] / np.maximum(new[:, COUNTED:], 1e-9)
        self.seasons.rescale(segments, ratio, difference)

    def _mean_slope(self, sums: Floats) -> Slope:
        count, total = sums[:, [LATENCY_N, AMOUNT_N]], sums[:, [LATENCY_N + 1, AMOUNT_N + 1]]
        variance = self._variance
        return lambda mean: ((total - count * mean) / variance, count / variance)

    def _pooled_variance(self, table: SegmentTable, sums: Floats) -> Floats:
        _, mean = self._predicted(table)
        pooled = []
        for kind, first in enumerate((LATENCY_N, AMOUNT_N)):
            square = _squares(sums, first, mean[:, kind])
            prior = VARIANCE_START[kind] * VARIANCE_PRIOR
            pooled.append((square.sum() + prior) / (sums[:, first].sum() + VARIANCE_PRIOR))
        return np.array(pooled)

    def _deviation(self, sums: Floats, kind: int, mean: Floats) -> Floats:
        first = (LATENCY_N, AMOUNT_N)[kind]
        square = _squares(sums, first, mean)
        variance = (square + VARIANCE_PRIOR * self._variance[kind]) / (sums[:, first] + VARIANCE_PRIOR)
        deviation: Floats = np.sqrt(np.maximum(variance, VARIANCE_MIN))
        return deviation


def _rates_of(eta: Floats) -> Floats:
    rate = np.exp(np.minimum(eta, LOG_RATE_MAX))
    rate[:, FAILED] = 1.0 / (1.0 + np.exp(-eta[:, FAILED]))
    return rate


def _rate_slope(sums: Floats, eta: Floats) -> tuple[Floats, Floats]:
    rate = _rates_of(eta)
    expected = sums[:, SETTLED, None] * rate
    information = expected.copy()
    information[:, FAILED] *= 1.0 - rate[:, FAILED]
    return sums[:, HITS : HITS + COUNTED] - expected, information


def _squares(sums: Floats, first: int, mean: Floats) -> Floats:
    count, total, squares = sums[:, first], sums[:, first + 1], sums[:, first + 2]
    return np.maximum(squares - 2 * mean * total + count * mean**2, 0.0)
