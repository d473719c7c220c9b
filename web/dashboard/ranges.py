"""How far a chart reaches: ranges that follow the data that there is. Times in seconds since epoch. Pure."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from storage.read_models.live_series import Series

MS: Final = 1000.0
"""Bokeh counts time in milliseconds since epoch."""


def growing(begin: float, end: float, *, width_s_min: float, width_s_max: float) -> tuple[float, float]:
    """A range that stands still until it is full, then grows with its data, then slides.

    Args:
        begin: the oldest data.
        end: the newest data.

    >>> growing(0, 30, width_s_min=180, width_s_max=900)
    (0, 180)
    >>> growing(0, 300, width_s_min=180, width_s_max=900)
    (0, 300)
    >>> growing(0, 1000, width_s_min=180, width_s_max=900)
    (100, 1000)
    """
    start = max(begin, end - width_s_max)
    return start, max(end, start + width_s_min)


def sliding_from(oldest: float, now: float, *, width_s_min: float) -> float:
    """The start of a range that ends now and shows the oldest thing with a little room before it.

    >>> sliding_from(990.0, 1000.0, width_s_min=600)
    400.0
    >>> sliding_from(0.0, 1000.0, width_s_min=600)
    -50.0
    """
    return now - max(width_s_min, 1.05 * (now - oldest))


def ceiling(values: Series) -> float:
    """A round number a little above the largest value.

    >>> ceiling(np.array([3.0, 37.0]))
    40.0
    """
    finite = values[np.isfinite(values)]
    largest = float(finite.max()) * 1.05 if len(finite) else 0.0
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return float(next(step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= largest))


def share_range(values: Series) -> tuple[float, float]:
    """A per cent range that ends at 100 and begins at a multiple of ten below the smallest value.

    >>> share_range(np.array([83.0, 97.0]))
    (70.0, 100.0)
    """
    finite = values[np.isfinite(values)]
    lowest = float(finite.min()) if len(finite) else 0.0
    return max(0.0, math.floor((lowest - 5) / 10) * 10.0), 100.0
