"""How many orders should come now: by the clock, so that missing traffic, which sends no event, is seen.

The day is learnt in steps of ten minutes. Until a step was seen on an earlier day, the total is judged by a third of
the quietest of the last two hours, since a night falls more slowly and a sale that ends falls back to what was before
it; and in the first two hours by complete silence alone. The share that a method, an issuer or a country has of what
does come is judged from the start.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ml.anomalies.segments import Floats

DAY_S: Final = 86_400.0
BINS: Final = 144
BIN_S: Final = DAY_S / BINS
MEMORY_VISITS: Final = 5.0
STEP: Final = 0.25
"""Neighbouring steps of the day differ by so much (standard deviation of the logarithm)."""
SHIFT_BINS: Final = 3
"""The lowest of so many steps before and after is taken: days are not punctual."""
KNOWN_AFTER_S: Final = DAY_S / 2
LEVEL_S: Final = 3 * 3600.0
LEVEL_CLIP: Final = 0.25
"""How fast the level of a day may move away from the usual one, and what one step may add to it: sales pass."""
RECENT_S: Final = 1200.0
LEAST_BINS: Final = 12
LEAST_BINS_SEEN: Final = 10
LEAST_PART: Final = 1 / 3
"""So much of the quietest of so many steps comes at least, whatever the time of the day."""
WEEKDAYS: Final = 7
WEEKDAY_MEMORY: Final = 2 * DAY_S
EPOCH_WEEKDAY: Final = 3
"""1 January 1970 was a Thursday."""
KERNEL: Final = ((-1, 0.25), (0, 1.0), (1, 0.25))
"""Neighbouring steps count for a quarter."""


class Clock:
    """The usual number of orders a second at every moment of the week."""

    def __init__(self) -> None:
        self._orders, self._seconds = np.zeros(BINS), np.zeros(BINS)
        self._first = np.full(BINS, np.inf)
        self._last = np.full(BINS, -np.inf)
        self._weekday = np.zeros(WEEKDAYS)
        self._level = 0.0
        self._curve: Floats | None = None
        self._place = -1
        self._recent_orders = self._recent_s = 0.0

    def learn(self, at: float, seconds: float, orders: float) -> None:
        """Take in some seconds; a sale is learnt as a slightly busy time."""
        place = int(at % DAY_S // BIN_S)
        usual = self._usual(at)
        fade = float(np.exp(-seconds / RECENT_S))
        self._recent_orders, self._recent_s = self._recent_orders * fade + orders, self._recent_s * fade + seconds
        if usual is not None and self.known(at):
            odd = float(np.log((orders + 0.5) / (usual * seconds + 0.5)))
            gained = float(np.clip(odd, -2 * LEVEL_CLIP, LEVEL_CLIP))
            self._level += (1 - np.exp(-seconds / LEVEL_S)) * (gained - self._level * 0.2)
            self._level = float(np.clip(self._level, -1.0, 1.0))
            weekday = self._of_week(at)
            self._weekday[weekday] += (1 - np.exp(-seconds / WEEKDAY_MEMORY)) * (gained - 0.1 * self._weekday[weekday])
            orders = min(orders, usual * seconds * 1.5 + 3 * np.sqrt(usual * seconds) + 1)
        fade = float(np.exp(-seconds / (BIN_S * MEMORY_VISITS)))
        self._orders[place] = self._orders[place] * fade + orders
        self._seconds[place] = self._seconds[place] * fade + seconds
        self._first[place] = min(self._first[place], at)
        self._last[place] = at
        if place != self._place:  # within a step the curve hardly moves
            self._place, self._curve = place, None

    def known(self, at: float) -> bool:
        """Whether this time of the day, and what is around it, was seen on an earlier day."""
        place = int(at % DAY_S // BIN_S)
        around = np.arange(place - SHIFT_BINS, place + SHIFT_BINS + 1) % BINS
        return bool((self._first[around] <= at - KNOWN_AFTER_S).all())

    def expected(self, at: float) -> float | None:
        """Orders a second that are expected at least; None when the clock does not know this time yet."""
        if not self.known(at):
            return None
        curve = self._log_rates()
        place = int(at % DAY_S // BIN_S)
        around = np.arange(place - SHIFT_BINS, place + SHIFT_BINS + 1) % BINS
        return float(np.exp(curve[around].min() + self._level + self._weekday[self._of_week(at)]))

    def least(self, at: float) -> float | None:
        """Orders a second that come at least at any time of the day; None before two hours were seen.

        What is learnt lags behind by a step or two, so the last two hours are looked for in a little more.
        """
        around = np.arange(int(at % DAY_S // BIN_S) - LEAST_BINS - 2, int(at % DAY_S // BIN_S)) % BINS
        seen = around[(self._last[around] >= at - (LEAST_BINS + 3) * BIN_S) & (self._seconds[around] >= BIN_S / 2)]
        if len(seen) < LEAST_BINS_SEEN:
            return None
        return LEAST_PART * float((self._orders[seen] / self._seconds[seen]).min())

    def recent(self) -> float | None:
        """Orders a second of the last twenty minutes; None before there were enough."""
        return self._recent_orders / self._recent_s if self._recent_s >= 60.0 else None

    def _usual(self, at: float) -> float | None:
        if not self._seconds.any():
            return None
        place = at % DAY_S / BIN_S - 0.5
        low = int(np.floor(place))
        curve, part = self._log_rates(), place - low
        value = curve[low % BINS] * (1 - part) + curve[(low + 1) % BINS] * part
        return float(np.exp(value + self._level + self._weekday[self._of_week(at)]))

    def _of_week(self, at: float) -> int:
        return int(at // DAY_S + EPOCH_WEEKDAY) % WEEKDAYS

    def _log_rates(self) -> Floats:
        if self._curve is None:
            value = np.log((self._orders + 0.5) / np.maximum(self._seconds, 1.0))
            weight = np.where(self._seconds > 0, 1.0 / (STEP**2 / 4 + 1.0 / np.maximum(self._orders, 1e-9)), 0.0)
            above = sum(each * np.roll(weight * value, shift) for shift, each in KERNEL)
            below = sum(each * np.roll(weight, shift) for shift, each in KERNEL)
            self._curve = np.where(below > 0, above / np.maximum(below, 1e-9), 0.0)
        return self._curve
