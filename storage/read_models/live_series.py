"""What the live charts keep in memory: sums per minute, and readings of heartbeats. Pure, bounded, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Series = npt.NDArray[np.float64]
Key = tuple[str, str]
Row = tuple[float, str, str, Sequence[int] | Counts]
"""Start of the minute (seconds since epoch), first name, second name, cumulative counts of that minute."""

MINUTE_S: Final = 60.0
WINDOW_MINUTES: Final = 60
"""The charts look back one hour."""

NAMES_MAX: Final = 40
"""So many gateways, methods or categories are told apart; further ones are summed under ``OTHER``."""

OTHER: Final = "other"
READINGS_MAX: Final = 600
"""So many readings of the heartbeats are kept."""


class MinuteCounts(msgspec.Struct, frozen=True, eq=False):
    """Sums per minute, oldest first, without holes.

    ``minutes``: start of each minute, seconds since epoch, shape (minutes,).
    ``values``: shape (minutes, first, second, columns); what the columns are is up to the reader.
    """

    minutes: Series
    first: tuple[str, ...]
    second: tuple[str, ...]
    values: Counts

    def last(self, minutes: int) -> MinuteCounts:
        """The newest minutes only."""
        kept = slice(max(0, len(self.minutes) - minutes), None)
        return MinuteCounts(self.minutes[kept], self.first, self.second, self.values[kept])

    def before(self, minutes: int) -> MinuteCounts:
        """As many minutes just before the newest ones, told at the times of these.

        Args:
            minutes: at least twice as many are there.
        """
        earlier = self.values[-2 * minutes : -minutes]
        return MinuteCounts(self.minutes[-minutes:], self.first, self.second, earlier)


class MinuteGrid:
    """The newest cumulative sums of every minute of the window.

    Sums may go down as well as up: a late success takes back the failure that was counted before it.

    Args:
        columns: counts a row carries, >= 1.
        names: first names that always exist and come first, in this order.
    """

    def __init__(self, columns: int, names: Sequence[str] = ()) -> None:
        self._columns = columns
        self._first: dict[str, None] = dict.fromkeys(names[:NAMES_MAX])
        self._second: dict[str, None] = {}
        self._minutes: dict[float, dict[Key, Counts]] = {}
        self.version = 0

    def put(
        self, rows: Iterable[Row], *, since: float = float("-inf"), whole_from: float = float("inf")
    ) -> dict[Key, Counts]:
        """Take newly read sums in place of the older ones of the same minute and names; a change raises ``version``.

        Args:
            since: changes of minutes that start earlier are taken but not returned, seconds since epoch.
            whole_from: of minutes that start then or later, what is not among the rows is not there any more.
        Returns: what changed, per pair of names: new minus old over the minutes, shape (columns,); may be negative.
        """
        read: dict[tuple[float, Key], Counts] = {}
        for minute, first, second, counts in rows:
            key = (minute, (_named(first, self._first), _named(second, self._second)))
            sums = np.asarray(counts, dtype=np.int64)
            read[key] = read[key] + sums if key in read else sums
        for minute in [minute for minute in self._minutes if minute >= whole_from]:
            for names in self._minutes[minute]:
                read.setdefault((minute, names), np.zeros(self._columns, dtype=np.int64))
        changes: dict[Key, Counts] = {}
        for (minute, names), sums in read.items():
            cells = self._minutes.setdefault(minute, {})
            old = cells.get(names)
            change = sums if old is None else sums - old
            if change.any():
                cells[names] = sums
                self.version += 1
                if minute >= since:
                    changes[names] = changes[names] + change if names in changes else change
        return changes

    def forget(self, before: float) -> None:
        """Drop the minutes that start before a moment, seconds since epoch."""
        for minute in [minute for minute in self._minutes if minute < before]:
            del self._minutes[minute]

    @property
    def points(self) -> int:
        """How many sums are known that are not zero."""
        return sum(bool(sums.any()) for cells in self._minutes.values() for sums in cells.values())

    def counts(self, now: float, length: int = WINDOW_MINUTES) -> MinuteCounts:
        """Lay the window out as one array that ends with the running minute.

        Args:
            now: seconds since epoch.
            length: minutes.
        """
        minutes = minutes_until(now, length)
        first, second = tuple(self._first), tuple(self._second)
        values = np.zeros((len(minutes), len(first), len(second), self._columns), dtype=np.int64)
        rows = {name: index for index, name in enumerate(first)}
        columns = {name: index for index, name in enumerate(second)}
        for index, minute in enumerate(minutes):
            for (name, other), sums in self._minutes.get(float(minute), {}).items():
                values[index, rows[name], columns[other]] = sums
        return MinuteCounts(minutes, first, second, values)


class ReadingRing:
    """What the workers told of themselves, one row a change; the oldest rows give way.

    Args:
        capacity: rows kept, >= 1.
    """

    def __init__(self, capacity: int = READINGS_MAX) -> None:
        self._capacity = capacity
        self._times = np.full(capacity, np.nan)
        self._values = np.full((capacity, NAMES_MAX), np.nan)
        self._names: dict[str, int] = {}
        self.appended = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Every name seen so far, in the order of its first row."""
        return tuple(self._names)

    def append(self, at: float, values: Mapping[str, float]) -> None:
        """Add a row.

        Args:
            at: seconds since epoch, not before the last row's.
            values: a reading per name; of a known name that is missing nothing is known. Names beyond ``NAMES_MAX``
                are left out.
        """
        row = self.appended % self._capacity
        self._times[row] = at
        self._values[row] = np.nan
        for name, value in values.items():
            if name in self._names or len(self._names) < NAMES_MAX:
                self._values[row, self._names.setdefault(name, len(self._names))] = value
        self.appended += 1

    def rows(self) -> tuple[Series, Series]:
        """The rows kept, oldest first.

        Returns: times, shape (rows,), seconds since epoch; values, shape (rows, names), NaN where nothing is known.
        """
        index = np.arange(max(0, self.appended - self._capacity), self.appended) % self._capacity
        return self._times[index], self._values[np.ix_(index, np.arange(len(self._names)))]


def minutes_until(now: float, length: int = WINDOW_MINUTES) -> Series:
    """The starts of so many minutes, the running one last, seconds since epoch."""
    running = now // MINUTE_S * MINUTE_S
    return np.asarray(running - MINUTE_S * np.arange(length - 1, -1, -1), dtype=np.float64)


def summed(changes: Mapping[Key, Counts], part: int) -> dict[str, Counts]:
    """Add up changes over the other name.

    Args:
        changes: as returned by ``MinuteGrid.put``.
        part: the name that stays: 0 the first, 1 the second.
    """
    sums: dict[str, Counts] = {}
    for names, change in changes.items():
        name = names[part]
        sums[name] = sums[name] + change if name in sums else change
    return sums


def _named(name: str, known: dict[str, None]) -> str:
    """Remember a name, or put it under ``OTHER`` when there are too many."""
    kept = name if name in known or len(known) < NAMES_MAX else OTHER
    known.setdefault(kept)
    return kept
