"""Time ranges as they stand in addresses: ``range=1h``, or ``from=now-2h&to=now-1h``, or moments in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

RANGES: Final = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}
LENGTH_MAX: Final = timedelta(days=7)
LENGTH_MIN: Final = timedelta(minutes=5)
RELATIVE: Final = re.compile(r"now(?:-(\d{1,5})([smhdw]))?")
UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class TimeRange(msgspec.Struct, frozen=True, kw_only=True):
    """A time range in whole minutes; ``name`` is its key in ``RANGES``, empty for one of one's own."""

    since: datetime
    until: datetime
    name: str
    asked_from: str
    asked_to: str


def time_range(now: datetime, name: str = "", start: str = "", end: str = "") -> TimeRange:
    """Read a time range.

    Args:
        now: the present.
        name: a key of ``RANGES``; empty: ``start`` and ``end`` tell, without them the last hour.
    Raises: ValueError: says what does not fit.

    >>> read = time_range(datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC), start="now-2h", end="now-1h")
    >>> read.since.isoformat(), read.until.isoformat()
    ('2026-01-01T10:00:00+00:00', '2026-01-01T11:01:00+00:00')
    """
    if not name and not start and not end:
        name = "1h"
    if name:
        if name not in RANGES:
            raise ValueError(f"A range is one of {', '.join(RANGES)}.")
        return _whole(now - RANGES[name], now, name, "", "")
    since, until = moment(start or "now-1h", now), moment(end or "now", now)
    if until - since > LENGTH_MAX:
        raise ValueError("A range is 7 days long at most.")
    if until - since < LENGTH_MIN:
        raise ValueError("A range is 5 minutes long at least, and ends after its start.")
    return _whole(since, until, "", start, end)


def moment(text: str, now: datetime) -> datetime:
    """Read a moment: ``now``, ``now-90m``, or RFC 3339; without an offset it is UTC.

    Raises: ValueError: it is neither.

    >>> moment("now-1d", datetime(2026, 1, 2, tzinfo=UTC)).isoformat()
    '2026-01-01T00:00:00+00:00'
    """
    try:
        if found := RELATIVE.fullmatch(text):
            return now - timedelta(**{UNITS[found[2]]: int(found[1])}) if found[1] else now
        read = datetime.fromisoformat(text)
        return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # before the year 1
        raise ValueError("A moment is written now, now-90m, or 2026-01-31T12:00 in UTC.") from None


def _whole(since: datetime, until: datetime, name: str, start: str, end: str) -> TimeRange:
    """Whole steps, so that the same address within a step shows the same; the running minute is included."""
    coarse = until - since > timedelta(hours=2)
    step = 600 if coarse else 60
    first = datetime.fromtimestamp(since.timestamp() // step * step, UTC)
    last = datetime.fromtimestamp(-(-until.timestamp() // step) * step, UTC)
    return TimeRange(since=first, until=last, name=name, asked_from=start, asked_to=end)
