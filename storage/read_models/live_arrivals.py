"""What came in, poll by poll, whenever it was attempted: what the rolling charts draw. Pure, bounded, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from storage.read_models.live_series import MINUTE_S, Counts, Series

ARRIVALS_MINUTES: Final = 15
"""The rolling charts look back so far."""

ROW_S: Final = 0.9
"""Polls that follow faster than this share a row, so that the rows kept last long enough whatever the polling."""

ROWS_MAX: Final = 1_200
"""15 minutes, the window of the first of them, and room for it. With 41 names of 46 columns each: 18 MB."""


class Arrivals(msgspec.Struct, frozen=True, eq=False):
    """Everything that came in since the process began, added up: one row a poll, oldest first.

    ``times``: seconds since epoch, ascending, shape (rows,). ``sums``: shape (rows, names, columns).
    ``serial``: rows that were ever added when this was taken; the last row is number ``serial - 1``.
    """

    times: Series
    names: tuple[str, ...]
    sums: Counts
    serial: int

    def rolling(self, span_s: float, row_from: int = 0) -> Counts:
        """What came in during the last seconds before each row.

        The window reaches back to the newest row that is at least ``span_s`` old, so it is made of whole polls; at the
        very beginning it is as long as what is known. Differences of sums cannot drift: what a correction took out of
        one column and put into another stands in the sums from then on.

        Args:
            span_s: length of the window, seconds.
            row_from: rows before this index are left out.
        Returns: shape (rows - row_from, names, columns); negative where more was taken back than came in.
        """
        back = np.searchsorted(self.times, self.times[row_from:] - span_s, side="right") - 1
        return np.asarray(self.sums[row_from:] - self.sums[np.maximum(back, 0)])

    def between(self, edges: Series, column: int = 0) -> Series:
        """What came in between moments, spread evenly over the time between two polls.

        Args:
            edges: ascending, seconds since epoch, at least one.
            column: the count to look at.
        Returns: shape (names, edges - 1), >= 0: what was taken back lowers no bar below nothing.
        """
        sums = self.sums[..., column].T
        at = [np.interp(edges, self.times, known) for known in sums] if len(self.times) else []
        reached = np.array(at, dtype=np.float64).reshape(len(at), len(edges))
        return np.maximum(0.0, np.diff(reached, axis=1))

    @property
    def began_at(self) -> float | None:
        """The row before the first arrival that is still known, seconds since epoch; None: nothing came in."""
        total = self.sums[..., 0].sum(axis=1)
        changed = np.flatnonzero(total != total[0]) if len(total) else total
        return float(self.times[changed[0] - 1]) if len(changed) else None


class ArrivalRing:
    """Adds up what came in, one row a poll; the oldest rows give way.

    Args:
        columns: counts of a name, >= 1.
        names: names that always exist and come first, in this order. Whoever adds bounds the names.
        capacity: rows kept, >= 2.
    """

    def __init__(self, columns: int, names: Sequence[str] = (), capacity: int = ROWS_MAX) -> None:
        self._capacity = capacity
        self._places = {name: place for place, name in enumerate(dict.fromkeys(names))}
        self._total = np.zeros((len(self._places), columns), dtype=np.int64)
        self._times = np.zeros(capacity)
        self._sums = np.zeros((capacity, len(self._places), columns), dtype=np.int64)
        self._serial = 0
        self._taken: Arrivals | None = None

    def begin(self, minutes: Series, names: Sequence[str], values: Counts, now: float) -> None:
        """Begin with the sums of past minutes, so that a restart does not empty the charts: one row a minute.

        Args:
            minutes: starts of the minutes, ascending, seconds since epoch; the running one last.
            values: shape (minutes, names, columns).
            now: seconds since epoch.
        """
        filled = np.flatnonzero(values.any(axis=(1, 2)))
        if not len(filled):
            self.add(now, {})
            return
        self.add(float(minutes[filled[0]]), {})
        for minute, row in zip(minutes[filled[0] :], values[filled[0] :], strict=True):
            self.add(min(float(minute) + MINUTE_S, now), dict(zip(names, row, strict=True)))

    def add(self, at: float, changes: Mapping[str, Counts]) -> None:
        """Add what came in since the last call, negative where a correction took something back.

        Args:
            at: seconds since epoch; a moment before the last row's waits for the next one.
            changes: per name, shape (columns,).
        """
        for name, change in changes.items():
            place = self._place(name)
            self._total[place] += change
        if self._serial and at - self._times[(self._serial - 1) % self._capacity] < ROW_S:
            return
        row = self._serial % self._capacity
        self._times[row], self._sums[row] = at, self._total
        self._serial += 1

    def arrivals(self) -> Arrivals:
        """The rows kept; the same object as before when none was added."""
        if self._taken is None or self._taken.serial != self._serial:
            index = np.arange(max(0, self._serial - self._capacity), self._serial) % self._capacity
            self._taken = Arrivals(self._times[index], tuple(self._places), self._sums[index], self._serial)
        return self._taken

    def _place(self, name: str) -> int:
        if name not in self._places:
            self._places[name] = len(self._places)
            self._total = np.pad(self._total, ((0, 1), (0, 0)))
            self._sums = np.pad(self._sums, ((0, 0), (0, 1), (0, 0)))
        return self._places[name]
