"""How many orders come when: the hours of the day, the days of the week, paydays."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from simulator.world import facts
from simulator.world.draws import Floats

Rhythm = Literal["flat", "daily"]

# fmt: off
HOURS: Final = np.array([
    0.35, 0.2, 0.12, 0.09, 0.09, 0.15, 0.35, 0.65, 0.95, 1.15, 1.3, 1.35,
    1.3, 1.2, 1.1, 1.1, 1.15, 1.25, 1.45, 1.7, 1.85, 1.7, 1.25, 0.7,
])
# fmt: on
"""Volume by local hour, before it is scaled to a mean of 1."""

WEEKDAYS: Final = np.array([0.96, 0.95, 0.96, 0.98, 1.04, 1.08, 1.03])
"""Volume by day of the week, Monday first."""

PAYDAY_LIFT: Final = 1.15
"""Volume of the first five days of a month, against the other days."""

_BY_HOUR: Final = HOURS / HOURS.mean()


def volume(rhythm: Rhythm, at: Floats) -> Floats:
    """How many times the mean volume comes at each moment. Shape (n,).

    Args:
        rhythm: ``flat`` is always 1.
        at: the world's time, seconds since epoch, shape (n,).
    """
    if rhythm == "flat":
        return np.ones(len(at))
    local = at + facts.LOCAL_OFFSET_S
    hours = local / 3600
    hour = hours.astype(np.int64)
    part = hours - hour
    by_hour = _BY_HOUR[hour % 24] * (1 - part) + _BY_HOUR[(hour + 1) % 24] * part
    days = (local // 86_400).astype(np.int64)
    by_weekday = WEEKDAYS[(days + 3) % 7]  # 1 January 1970 was a Thursday
    dates = days.astype("datetime64[D]")
    day_of_month = (dates - dates.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64)
    lifted: Floats = by_hour * by_weekday * np.where(day_of_month < 5, PAYDAY_LIFT, 1.0)
    return lifted


def volume_max(rhythm: Rhythm) -> float:
    """A number that ``volume`` never exceeds."""
    return 1.0 if rhythm == "flat" else float(_BY_HOUR.max() * WEEKDAYS.max() * PAYDAY_LIFT)
