"""Counts: attempts added up per cell for learning, and per tick and watched segment as evidence against normal."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from scipy.sparse import csc_array

from ml.anomalies.attempts import Attempts
from ml.anomalies.channels import (
    CHANNELS,
    COUNTED,
    FAILED,
    FAULT_FIRST,
    FAULTS,
    SMALL_DECLINED,
    TECHNICAL,
    TECHNICAL_HITS,
)
from ml.anomalies.segments import Flags, Floats, Integers

ORDERS: Final = 0
SETTLED: Final = 1
SUCCEEDED: Final = 2
HITS: Final = 3
"""Columns HITS .. HITS + COUNTED: failed, one per fault, technical, small declined; in the order of the channels."""
RETRIED: Final = HITS + COUNTED
REVERSED: Final = RETRIED + 1
LATENCY_N: Final = REVERSED + 1
LATENCY_SUM: Final = LATENCY_N + 1
LATENCY_SQUARES: Final = LATENCY_N + 2
AMOUNT_N: Final = LATENCY_N + 3
AMOUNT_SUM: Final = LATENCY_N + 4
AMOUNT_SQUARES: Final = LATENCY_N + 5
STATISTICS: Final = LATENCY_N + 6
"""Columns of the sums per cell."""

FAILED_HITS: Final = HITS + FAILED
IS_TECHNICAL: Final = np.array([fault in TECHNICAL for fault in FAULTS])

SMALL: Final = 1.9
"""An amount is small when its logarithm lies so many standard deviations below what is normal: 1 in 35 orders."""
SMALL_SHARE: Final = 1 / 35
UNKNOWN: Final = 1e3
"""Deviation of the logarithm of amounts before any were heard. Then each counts as small with that probability, so that
what is learnt of small declined ones is right in size when the first amounts are known."""
OUTLIER: Final = 3.0
"""Deviations of ln(latency) and ln(amount) count for no more than so many standard deviations."""


class Normal(NamedTuple):
    """What is normal at a moment, per cell; arrays of shape (cells,), ``rate`` (cells, COUNTED), shares of attempts.

    ``latency``, ``amount``: mean of the logarithm; ``_deviation``: its standard deviation. ``usual``: orders a second.
    """

    rate: Floats
    latency: Floats
    latency_deviation: Floats
    amount: Floats
    amount_deviation: Floats
    usual: Floats


class Evidence(NamedTuple):
    """Counts per tick and watched segment against what was expected. Arrays of shape (ticks, watched).

    ``hits``, ``expected``: one array per counted channel, shape (COUNTED, ticks, watched). ``losses``: expected log
    likelihood ratio per size of the first channel, shape (sizes, ticks, watched). ``latency``, ``amount``: sums of
    deviations over variance; ``_weight``: sums of 1 / variance. ``failed``, ``succeeded``: also what is explained.
    """

    hits: Floats
    expected: Floats
    losses: Floats
    latency: Floats
    latency_weight: Floats
    amount: Floats
    amount_weight: Floats
    retried: Floats
    reversed: Floats
    failed: Floats
    succeeded: Floats
    orders: Floats
    usual: Floats


def statistics_of(attempts: Attempts, normal: Normal) -> Floats:
    """One row of sums per attempt. Shape (n, STATISTICS)."""
    rows = np.zeros((len(attempts.at), STATISTICS))
    rows[:, ORDERS], rows[:, SETTLED], rows[:, SUCCEEDED] = attempts.order, attempts.settled, attempts.succeeded
    rows[:, FAILED_HITS] = attempts.failed
    known = np.flatnonzero(attempts.fault >= 0)
    rows[known, HITS + FAULT_FIRST + attempts.fault[known]] = attempts.fault_count[known]
    rows[known, HITS + TECHNICAL_HITS] = attempts.fault_count[known] * IS_TECHNICAL[attempts.fault[known]]
    priced = ~np.isnan(attempts.amount)
    amount = np.where(priced, attempts.amount, 0.0)
    cell = attempts.cell
    deviation = normal.amount_deviation[cell]
    small = np.where(deviation < UNKNOWN, amount < normal.amount[cell] - SMALL * deviation, SMALL_SHARE)
    rows[:, HITS + SMALL_DECLINED] = small * (priced & (attempts.failed > 0))
    rows[:, RETRIED], rows[:, REVERSED] = attempts.retry, attempts.reversed
    timed = ~np.isnan(attempts.latency)
    latency = np.where(timed, attempts.latency, 0.0)
    rows[:, LATENCY_N], rows[:, LATENCY_SUM], rows[:, LATENCY_SQUARES] = timed, latency, latency * latency
    rows[:, AMOUNT_N], rows[:, AMOUNT_SUM], rows[:, AMOUNT_SQUARES] = priced, amount, amount * amount
    return rows


def per_cell(statistics: Floats, cell: Integers, cells: int) -> Floats:
    """Add rows up per cell. Shape (n, columns) in, (cells, columns) out."""
    return _added(statistics, cell[:, None], cells)


def loss_per_attempt(rate: Floats) -> Floats:
    """What an attempt costs each size of the first channel: ln(1 + p (size - 1)). Shape (n,) in, (n, sizes) out."""
    sizes = np.array(CHANNELS[FAILED].sizes)
    loss: Floats = np.log1p(rate[:, None] * (sizes - 1.0))
    return loss


def evidence_of(
    statistics: Floats,
    cell: Integers,
    tick: Integers,
    normal: Normal,
    unmasked: Flags,
    columns: Integers,
    shape: tuple[int, int],
) -> Evidence:
    """Count rows against normal.

    Args:
        statistics: from :func:`statistics_of`, shape (n, STATISTICS).
        cell: the cell of each row, shape (n,).
        tick: the tick of each row, from 0, shape (n,).
        normal: what is normal.
        unmasked: per channel, the cells that no open anomaly explains. Shape (channels, cells).
        columns: the place of each cell's segments among the watched ones; the last place stands for none. Shape
            (cells, families).
        shape: (ticks, watched).
    """
    ticks, watched = shape
    sizes = len(CHANNELS[FAILED].sizes)
    counted = COUNTED
    shifts = 2 * counted + sizes
    table = np.zeros((len(cell), shifts + 9), dtype=np.float32)
    free = unmasked[:, cell].T
    settled = statistics[:, SETTLED, None] * free[:, :counted]
    rate = normal.rate[cell]
    table[:, :counted] = statistics[:, HITS : HITS + counted] * free[:, :counted]
    table[:, counted : 2 * counted] = settled * rate
    table[:, 2 * counted : shifts] = settled[:, FAILED, None] * loss_per_attempt(normal.rate[:, FAILED])[cell]
    kinds = ((LATENCY_N, normal.latency, normal.latency_deviation), (AMOUNT_N, normal.amount, normal.amount_deviation))
    for place, (first, mean, deviation) in enumerate(kinds):
        count = statistics[:, first] * free[:, counted + place]
        spread = deviation[cell]
        away = (statistics[:, first + 1] - mean[cell]) / spread
        table[:, shifts + 2 * place] = count * away.clip(-OUTLIER, OUTLIER) / spread
        table[:, shifts + 2 * place + 1] = count / (spread * spread)
    table[:, shifts + 4] = statistics[:, RETRIED] * free[:, counted + 2]
    table[:, shifts + 5] = statistics[:, REVERSED] * free[:, counted + 3]
    table[:, shifts + 6], table[:, shifts + 7] = statistics[:, FAILED_HITS], statistics[:, SUCCEEDED]
    table[:, shifts + 8] = statistics[:, ORDERS] * free[:, counted + 4]
    places = tick[:, None] * (watched + 1) + columns[cell]
    summed = _added(table, places, ticks * (watched + 1)).reshape(ticks, watched + 1, -1)[:, :watched]
    split = np.ascontiguousarray(summed.transpose(2, 0, 1))
    usual = _added((normal.usual * unmasked[counted + 4])[:, None], columns, watched + 1)[:watched, 0]
    parts = (split[:counted], split[counted : 2 * counted], split[2 * counted : shifts], *split[shifts:], usual)
    return Evidence._make(parts)


def _added(rows: Floats, places: Integers, size: int) -> Floats:
    """Add each row to all of its places. Shapes (n, columns), (n, places of each) in, (size, columns) out."""
    count, width = places.shape
    pointers = np.arange(0, count * width + 1, width)
    matrix = csc_array((np.ones(count * width, dtype=rows.dtype), places.ravel(), pointers), shape=(size, count))
    summed: Floats = matrix @ rows
    return summed
