"""From live counts to what the charts draw: rates with intervals, percentiles, shares. Pure; arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from storage.read_models.live_arrivals import Arrivals
from storage.read_models.live_series import MINUTE_S, OTHER, Counts, MinuteCounts, Series
from storage.read_models.live_traffic import COUNTS, LATENCY_COLUMN
from storage.read_models.measures import LATENCY_BUCKETS, LATENCY_MS_FIRST, LATENCY_RATIO

ATTEMPTS, PENDING, SUCCEEDED, FAILED, ABANDONED, REVERSED = range(len(COUNTS))
Z_95: Final = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""

CATEGORIES_SHOWN: Final = 8
"""More colours than these cannot be told apart; smaller categories are added up as ``other``."""

ROLLING_S: Final = 60.0
"""The rolling figures are those of so many seconds."""

ROLLING_N_MIN: Final = 10
"""With fewer in the window there is a gap: at n = 9 the interval spans half of the scale."""

MATURE_S: Final = 20.0
"""A minute is drawn when so much time has passed since its end: it holds what was attempted in it, and successes are
reported sooner than timeouts, so a minute that has just ended looks better than it was."""


class Lines(msgspec.Struct, frozen=True, eq=False):
    """One line a name over time, each point with what it rests on.

    ``times``: seconds since epoch, shape (points,). The others: shape (names, points); NaN where nothing is known.
    """

    times: Series
    names: tuple[str, ...]
    value: Series
    n: Series
    low: Series | None = None
    high: Series | None = None


def wilson_interval(succeeded: Counts, settled: Counts) -> tuple[Series, Series]:
    """The Wilson 95 % score interval of many shares at once.

    Args:
        succeeded: successes, 0 <= succeeded <= settled. Any shape.
        settled: trials, >= 0. The same shape.
    Returns: lower and upper bound, shares 0 to 1; NaN where there are no trials.
    Source: Wilson (1927), JASA 22(158), 209-212; checked against statsmodels in tests/unit/web/dashboard.
    """
    n = np.where(settled > 0, settled, np.nan).astype(np.float64)
    share = succeeded / n
    spread = Z_95 * np.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n**2))
    centre = share + Z_95**2 / (2 * n)
    scale = 1 + Z_95**2 / n
    return np.clip((centre - spread) / scale, 0, 1), np.clip((centre + spread) / scale, 0, 1)


def settled_of(values: Counts) -> Counts:
    """Attempts that are neither pending nor abandoned. Shape (..., columns) in, (...,) out."""
    return np.asarray(values[..., SUCCEEDED] + values[..., FAILED] + values[..., REVERSED])


def percentile_ms(histogram: Counts, share: float) -> Series:
    """A percentile of latencies that were counted in buckets growing by a fixed ratio.

    Inside its bucket the value is interpolated on the logarithmic scale, so it is off by less than one bucket: at most
    25 % of the true value, and about 1 to 3 % where the latencies are spread over many buckets. Below 10 ms and above
    75 s only the bound is known.

    Args:
        histogram: counts per bucket, >= 0. Shape (..., LATENCY_BUCKETS).
        share: 0 < share <= 1.
    Returns: milliseconds, shape (...,); NaN where nothing was counted.
    """
    total = histogram.sum(axis=-1)
    cumulative = np.cumsum(histogram, axis=-1)
    wanted = total * share
    bucket = np.argmax(cumulative >= wanted[..., None], axis=-1)
    inside = np.take_along_axis(histogram, bucket[..., None], axis=-1)[..., 0]
    below = np.take_along_axis(cumulative, bucket[..., None], axis=-1)[..., 0] - inside
    fraction = (wanted - below) / np.maximum(inside, 1)
    value = LATENCY_MS_FIRST * LATENCY_RATIO ** (bucket + fraction)
    return np.where(total > 0, value, np.nan)


def rolling_rates(arrivals: Arrivals, row_from: int = 0) -> Lines:
    """The authorization rate of what came in during the last ``ROLLING_S``, per cent, at every poll.

    Settled and succeeded attempts of the window are differences of sums. Where a failure of before the window is
    corrected to a success inside it, the window gains a success without a settled attempt; it then counts no more
    successes than settled attempts, so that the rate stays within 0 and 100. Both are exact again when the correction
    has left the window.

    Args:
        row_from: rows before this index are left out.
    Returns: NaN where fewer than ``ROLLING_N_MIN`` settled; ``n`` is known everywhere.
    """
    gained = arrivals.rolling(ROLLING_S, row_from)
    settled = np.maximum(settled_of(gained), 0).T
    succeeded = np.clip(gained[..., SUCCEEDED].T, 0, settled)
    known = np.where(settled >= ROLLING_N_MIN, settled, 0)
    low, high = wilson_interval(succeeded, known)
    rate = succeeded / np.where(known > 0, known, np.nan)
    return Lines(arrivals.times[row_from:], arrivals.names, 100 * rate, settled.astype(float), 100 * low, 100 * high)


def rolling_latencies(arrivals: Arrivals, row_from: int = 0, *, share: float) -> Lines:
    """A latency percentile of what came in during the last ``ROLLING_S``, milliseconds, at every poll.

    Args:
        row_from: rows before this index are left out.
        share: 0 < share <= 1.
    Returns: NaN where fewer than ``ROLLING_N_MIN`` latencies came in.
    """
    gained = arrivals.rolling(ROLLING_S, row_from)[..., LATENCY_COLUMN : LATENCY_COLUMN + LATENCY_BUCKETS]
    histogram = np.maximum(gained, 0)
    n = histogram.sum(axis=-1)
    value = np.where(n >= ROLLING_N_MIN, percentile_ms(histogram, share), np.nan)
    return Lines(arrivals.times[row_from:], arrivals.names, value.T, n.T.astype(float))


def whole_steps(arrivals: Arrivals, step_s: float, span_s: float) -> Series:
    """The edges of the steps of equal length that are over, as far back as something came in.

    Args:
        step_s: length of a step, seconds; edges are its multiples.
        span_s: at most so far back, seconds.
    Returns: ascending, seconds since epoch; empty when no step is over yet.
    """
    began = arrivals.began_at
    if began is None:
        return np.empty(0)
    last = arrivals.times[-1] // step_s
    first = max(np.ceil(began / step_s), last - span_s // step_s)
    return np.asarray(np.arange(first, last + 1) * step_s, dtype=np.float64) if last > first else np.empty(0)


def arrival_pace(arrivals: Arrivals, *, step_s: float, span_s: float) -> Lines:
    """What came in per second and name, mean of each step; n is how many that were."""
    edges = whole_steps(arrivals, step_s, span_s)
    if not len(edges):
        return _nothing()
    came = arrivals.between(edges)
    return _shown(Lines(edges[:-1], arrivals.names, came / step_s, came))


def arrival_shares(arrivals: Arrivals, *, step_s: float, span_s: float) -> Lines:
    """The share of what came in that each name got, per cent of the step; n is the step's total."""
    pace = arrival_pace(arrivals, step_s=step_s, span_s=span_s)
    total = np.broadcast_to(pace.n.sum(axis=0), pace.n.shape)
    return Lines(pace.times, pace.names, 100 * pace.n / np.where(total > 0, total, np.nan), total)


def category_pace(arrivals: Arrivals, counts: MinuteCounts, *, step_s: float, span_s: float) -> Lines:
    """Failures as they came in, of the categories that ``failure_categories`` tells apart, in its order; per step."""
    came = arrival_pace(arrivals, step_s=step_s, span_s=span_s)
    names = failure_categories(counts).names
    rows = {name: np.zeros(len(came.times)) for name in names}
    for name, row in zip(came.names, came.n, strict=True):
        kept = name if name in rows else OTHER
        rows[kept] = rows.get(kept, 0.0) + row
    value = np.array(list(rows.values())).reshape(len(rows), len(came.times))
    return Lines(came.times, tuple(rows), value, value)


def mature(lines: Lines, now: float) -> Lines:
    """Only the minutes whose attempts have had the time to be reported.

    Args:
        now: seconds since epoch.
    """
    ready = slice(0, int(np.searchsorted(lines.times, now - MATURE_S - MINUTE_S, side="right")))
    low, high = (None if bound is None else bound[:, ready] for bound in (lines.low, lines.high))
    return Lines(lines.times[ready], lines.names, lines.value[:, ready], lines.n[:, ready], low, high)


def authorization_rates(counts: MinuteCounts) -> Lines:
    """The authorization rate of every gateway and minute, per cent, with its Wilson 95 % interval."""
    values = counts.values.sum(axis=2)
    settled, succeeded = settled_of(values).T, values[..., SUCCEEDED].T
    low, high = wilson_interval(succeeded, settled)
    rate = succeeded / np.where(settled > 0, settled, np.nan)
    return _shown(Lines(counts.minutes, counts.first, 100 * rate, settled.astype(float), 100 * low, 100 * high))


def volumes(counts: MinuteCounts) -> Lines:
    """Attempts of every gateway and minute."""
    attempts = counts.values[..., ATTEMPTS].sum(axis=2).T.astype(float)
    return _shown(Lines(counts.minutes, counts.first, attempts, attempts))


def minute_latencies(counts: MinuteCounts, *, share: float) -> Lines:
    """A latency percentile of every gateway and minute, milliseconds; NaN where fewer than ``ROLLING_N_MIN`` came in.

    Args:
        share: 0 < share <= 1.
    """
    buckets = slice(LATENCY_COLUMN, LATENCY_COLUMN + LATENCY_BUCKETS)
    histogram = np.maximum(counts.values[..., buckets].sum(axis=2), 0)
    n = histogram.sum(axis=-1)
    value = np.where(n >= ROLLING_N_MIN, percentile_ms(histogram, share), np.nan)
    return _shown(Lines(counts.minutes, counts.first, value.T, n.T.astype(float)))


def compared(
    compute: Callable[[MinuteCounts], Lines], counts: MinuteCounts, before: MinuteCounts, names: tuple[str, str]
) -> Lines:
    """The lines of every gateway, one of all together, and one of all together in the period before.

    Args:
        compute: computes lines from sums, one a first name.
        before: told at the same times as ``counts``.
        names: what the two lines of all together are called; with one gateway there is no first of them.
    """
    own = compute(counts)
    together, earlier = (
        compute(MinuteCounts(sums.minutes, (name,), sums.second, sums.values.sum(axis=1, keepdims=True)))
        for name, sums in zip(names, (counts, before), strict=True)
    )
    parts = [own, earlier] if len(own.names) <= 1 else [own, together, earlier]

    def joined(part: str) -> Series | None:
        values = [getattr(lines, part) for lines in parts]
        return None if values[0] is None else np.concatenate(values)

    return Lines(
        counts.minutes,
        tuple(name for lines in parts for name in lines.names),
        np.concatenate([lines.value for lines in parts]),
        np.concatenate([lines.n for lines in parts]),
        joined("low"),
        joined("high"),
    )


def failure_categories(counts: MinuteCounts) -> Lines:
    """Failures of every category and minute, the biggest category first, small ones added up as ``other``."""
    per_category = counts.values[..., 0].sum(axis=1).T.astype(float)
    totals = per_category.sum(axis=1)
    order = [
        index for index in np.argsort(-totals, kind="stable") if totals[index] > 0 and counts.second[index] != OTHER
    ]
    kept, rest = order[:CATEGORIES_SHOWN], order[CATEGORIES_SHOWN:]
    rest += [index for index, name in enumerate(counts.second) if name == OTHER and totals[index] > 0]
    rows, names = [per_category[index] for index in kept], [counts.second[index] for index in kept]
    if rest:
        rows.append(per_category[rest].sum(axis=0))
        names.append(OTHER)
    value = np.array(rows).reshape(len(names), len(counts.minutes))
    return Lines(counts.minutes, tuple(names), value, value)


def _nothing() -> Lines:
    return Lines(np.empty(0), (), np.empty((0, 0)), np.empty((0, 0)))


def _shown(lines: Lines) -> Lines:
    """Leave out the names that have nothing to show."""
    kept = np.flatnonzero((lines.n > 0).any(axis=1)) if lines.n.size else np.array([], dtype=int)
    low, high = (None if bound is None else bound[kept] for bound in (lines.low, lines.high))
    return Lines(lines.times, tuple(lines.names[i] for i in kept), lines.value[kept], lines.n[kept], low, high)
