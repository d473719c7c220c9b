"""Any single metric through the same kind of evidence: ``score(value, timestamp)``.

A metric is forecast by whichever of a few simple forecasts has been least wrong of late (the last value, a moving
level, the same time of the day or of the week). How surprising its error is follows from the errors of the past, not
from a normal distribution; surprise is added up by the sequential tests of the watcher (mean up, mean down, spread), so
that many small surprises weigh as much as a large one. A lasting change is an alarm once, then it is the new normal.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ml.anomalies.segments import Floats

DAY_S: Final = 86_400.0
BINS: Final = 48
WEEK_BINS: Final = 7 * 24
ERRORS_KEPT: Final = 1500
"""Surprise is measured against so many of the last errors."""
LEARN_MIN: Final = 40
"""Values before anything is scored above 0."""
MEMORY: Final = 0.01
LEVELS: Final = (0.3, 0.05)
"""How fast the moving levels follow."""
SHIFTS: Final = (1.0, 2.5)
"""Standard deviations that count as a shift of the mean."""
SPREAD: Final = 2.0
"""Times the usual spread that counts as one of the spread."""
CLIP: Final = 8.0
TAIL_NATS_MAX: Final = 14.0
REPEATS_MIN: Final = 0.3
"""A value that is repeated exactly is never taken for less usual than this."""
CALM: Final = 0.985
"""After an alarm as much evidence counts for less; this share of the reserve is left at the next value."""
NATS_SCALE: Final = 9.0
"""Evidence of so many nats scores 1/2."""


class MetricWatcher:
    """Scores the values of one metric, each by what came before it.

    >>> watcher = MetricWatcher()
    >>> usual = [watcher.score(10.0 + (step * 7 % 5), 300.0 * step) for step in range(500)]
    >>> watcher.score(60.0, 150_000.0) > max(usual[100:])
    True
    """

    def __init__(self) -> None:
        self._count = 0
        self._levels: Floats = np.zeros(len(LEVELS))
        self._last = 0.0
        self._wrong: Floats = np.zeros(len(LEVELS) + 3)
        self._day, self._day_n = np.zeros(BINS), np.zeros(BINS)
        self._week, self._week_n = np.zeros(WEEK_BINS), np.zeros(WEEK_BINS)
        self._errors: Floats = np.zeros(ERRORS_KEPT)
        self._shift: Floats = np.zeros((2, len(SHIFTS)))
        self._spread = 0.0
        self._still, self._repeats = 0.0, 0.5
        self._reserve = 0.0

    def score(self, value: float, timestamp: float) -> float:
        """How surely something is wrong with the metric now, 0 to 1.

        Args:
            value: of the metric; one that is not finite scores 0 and is not learnt.
            timestamp: seconds since 1970, not before the last one's.
        """
        if not np.isfinite(value):
            return 0.0
        if self._count == 0:
            self._levels[:] = self._last = value
        forecasts = self._forecasts(timestamp)
        chosen = int(np.where(np.isnan(forecasts), np.inf, self._wrong).argmin())
        error = value - float(forecasts[chosen])
        self._stand(value)
        nats = self._surprise(error) if self._count >= LEARN_MIN else 0.0
        self._learn(value, timestamp, forecasts, error)
        return self._told(nats)

    # --- forecasts ----------------------------------------------------------------------------------------------------

    def _forecasts(self, at: float) -> Floats:
        """The last value, moving levels, the time of the day, of the week; NaN for what is not known yet."""
        day, week = int(at % DAY_S / DAY_S * BINS), int(at % (7 * DAY_S) / (7 * DAY_S) * WEEK_BINS)
        of_day = self._day[day] if self._day_n[day] >= 2 else np.nan
        of_week = self._week[week] if self._week_n[week] >= 2 else np.nan
        return np.array([self._last, *self._levels, of_day, of_week])

    def _learn(self, value: float, at: float, forecasts: Floats, error: float) -> None:
        known = ~np.isnan(forecasts)
        scale = self._scale()
        wrong = np.minimum(np.abs(value - np.where(known, forecasts, 0.0)), 5 * scale if scale > 0 else np.inf)
        rate = max(MEMORY, 1.0 / (self._count + 1))
        self._wrong[known] += rate * (wrong[known] - self._wrong[known])
        self._wrong[~known] = np.maximum(self._wrong[~known], wrong[known].max())
        self._levels += np.array(LEVELS) * (value - self._levels)
        self._last = value
        self._errors[self._count % ERRORS_KEPT] = error
        day, week = int(at % DAY_S / DAY_S * BINS), int(at % (7 * DAY_S) / (7 * DAY_S) * WEEK_BINS)
        for mean, seen, place in ((self._day, self._day_n, day), (self._week, self._week_n, week)):
            seen[place] = min(seen[place] + 1, 30)
            mean[place] += (value - mean[place]) / seen[place]
        self._count += 1

    # --- surprise -----------------------------------------------------------------------------------------------------

    def _past(self) -> Floats:
        return np.abs(self._errors[: min(self._count, ERRORS_KEPT)])

    def _scale(self) -> float:
        past = self._past()
        if not len(past):
            return 0.0
        return float(1.4826 * np.median(past) + 0.25 * past.mean() + 1e-9 * abs(self._last))

    def _surprise(self, error: float) -> float:
        """Nats against "as ever": of this value alone, or of what the tests have added up."""
        past, scale = self._past(), self._scale()
        if scale <= 0:
            return 0.0 if error == 0 else TAIL_NATS_MAX
        size = abs(error)
        larger = float((past >= size).sum())
        # Beyond the largest error ever seen the tail is taken to fall like a power of 3.
        beyond = 3.0 * np.log(max(size / max(float(past.max()), 1e-12), 1.0)) if larger == 0 else 0.0
        alone = min(float(np.log(len(past) + 1) - np.log(larger + 0.5)) + float(beyond), TAIL_NATS_MAX)
        away = float(np.clip(error / scale, -CLIP, CLIP))
        away = float(np.sign(away)) * min(abs(away), alone)  # what is usual for this metric is no evidence
        for place, shift in enumerate(SHIFTS):
            for side, sign in enumerate((1.0, -1.0)):
                gained = shift * sign * away - shift * shift
                self._shift[side, place] = max(self._shift[side, place] + gained, 0.0)
        gained = 0.5 * away * away * (1 - 1 / SPREAD**2) - np.log(SPREAD) - 0.25
        self._spread = max(self._spread + min(gained, 4.0), 0.0)
        together = max(float(self._shift.max()) / 2, self._spread / 2, self._still)
        return max(alone, min(together, 1.5 * TAIL_NATS_MAX))

    def _stand(self, value: float) -> None:
        """Add up the evidence of a metric that stands still, as when what measures it is broken."""
        if value == self._last:
            self._still -= float(np.log(max(self._repeats, REPEATS_MIN)))
        else:
            self._still = 0.0
        self._repeats += max(MEMORY / 2, 1.0 / (self._count + 2)) * (float(value == self._last) - self._repeats)

    def _told(self, nats: float) -> float:
        """The score, lowered for a while after an alarm: one trouble is one alarm."""
        fresh = max(nats - self._reserve, 0.0)
        self._reserve *= CALM
        if fresh > NATS_SCALE:
            self._reserve = max(self._reserve, nats)
            self._shift[:] = 0.0
            self._spread = self._still = 0.0
        return float(1.0 / (1.0 + np.exp(-(fresh - NATS_SCALE) / 1.5)))
