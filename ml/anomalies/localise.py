"""Which segment is it, and what is it? The segment whose own change explains the excess best, in few attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from ml.anomalies.channels import (
    AMOUNT,
    CHANNELS,
    COUNTED,
    FAILED,
    LATENCY,
    RETRIES,
    REVERSALS,
    SMALL_DECLINED,
    SignalName,
)
from ml.anomalies.counting import (
    AMOUNT_N,
    FAILED_HITS,
    HITS,
    LATENCY_N,
    ORDERS,
    RETRIED,
    REVERSED,
    SETTLED,
    SUCCEEDED,
    Normal,
)
from ml.anomalies.segments import NAMED, Flags, Floats, SegmentTable

ATTRIBUTE_COST: Final = 1.5
"""Nats that each further attribute must earn; breaks ties towards the plain description."""
DOUBTS: Final = 1.0
"""What is expected is taken as higher by so many standard deviations of doubt about it."""
MIX_SHARE: Final = 0.35
"""Below this share of the excess of one kind of failure, failures as a whole did not become more: their mix changed."""
PROBE_SHARE: Final = 0.3
PROBES_MIN: Final = 4.0


class Excess(NamedTuple):
    """What every segment did on one channel since some tick, against what was expected. Arrays of shape (segments,).

    ``seen``, ``expected``: hits, or orders; for means, sums of deviations over variance and their weight. ``nats``: how
    much better the segment's own best-fitting change for the worse explains it than normal, >= 0.
    """

    channel: int
    seen: Floats
    expected: Floats
    trials: Floats
    nats: Floats

    def ratio(self, segment: int) -> float:
        """How many times the expected was seen; for means, how many times as long or large."""
        if self.channel in (LATENCY, AMOUNT):
            return float(np.exp(self.seen[segment] / max(self.expected[segment], 1e-9)))
        return float((self.seen[segment] + 0.1) / (self.expected[segment] + 0.1))

    def without(self, segment: int, parts: Sequence[int]) -> Excess:
        """What is left of a segment without some of its parts, as the only one; ``nats`` are unknown."""
        seen, expected, trials = (
            column[[segment]] - sum(column[part] for part in parts)
            for column in (self.seen, self.expected, self.trials)
        )
        if self.channel not in (LATENCY, AMOUNT):  # parts may share attempts, which are then taken away twice
            seen = np.maximum(seen, 0.0)
        return Excess(self.channel, seen, np.maximum(expected, 0.0), np.maximum(trials, 0.0), np.full(1, np.nan))


def excess_of(
    table: SegmentTable,
    sums: Floats,
    normal: Normal,
    channel: int,
    *,
    doubt: Floats,
    lagged: tuple[Floats, Floats],
    orders: float = 0.0,
    upwards: bool = True,
) -> Excess:
    """Measure every segment on one channel.

    Args:
        table: cells and segments.
        sums: since the trouble began, without what open anomalies explain. Shape (cells, STATISTICS).
        normal: what is normal.
        channel: which.
        doubt: of the segments, in the logarithm. Shape (segments, COUNTED + 2).
        lagged: retries per failure and reversals per success, each of shape (segments,).
        orders: expected of all payments in the same time.
        upwards: for means, whether larger is worse.
    """
    if channel < COUNTED:
        hits, settled = sums[:, HITS + channel], sums[:, SETTLED]
        rolled = table.roll_up(np.stack((hits, settled * normal.rate[:, channel], settled), axis=1))
        seen, expected, trials = rolled.T
        worse = expected * np.exp(DOUBTS * doubt[:, channel])
        nats = _odds(seen, worse, trials) if channel == FAILED else _rate(seen, worse)
    elif channel in (LATENCY, AMOUNT):
        seen, expected, trials = _deviations(table, sums, normal, channel)
        margin = DOUBTS * doubt[:, channel] * expected
        away = (seen if upwards else -seen) - margin
        nats = np.where(away > 0, away**2 / (2 * np.maximum(expected, 1e-12)), 0.0)
    elif channel in (RETRIES, REVERSALS):
        column, base, ratio = (
            (RETRIED, FAILED_HITS, lagged[0]) if channel == RETRIES else (REVERSED, SUCCEEDED, lagged[1])
        )
        seen, trials = table.roll_up(sums[:, [column, base]]).T
        expected = trials * ratio
        nats = _rate(seen, expected)
    else:
        usual = normal.usual / max(float(normal.usual.sum()), 1e-12) * orders
        seen, expected = table.roll_up(np.stack((sums[:, ORDERS], usual), axis=1)).T
        trials = expected
        nats = np.where(seen < expected, seen * _log(seen / np.maximum(expected, 1e-12)) + expected - seen, 0.0)
    return Excess(channel, seen, expected, trials, nats)


def best_segment(table: SegmentTable, nats: Floats, among: Flags) -> tuple[int, Floats]:
    """Choose the segment to name.

    Args:
        table: segments.
        nats: from :func:`excess_of`, shape (segments,).
        among: which segments may be chosen; at least one.
    Returns: the number of the segment, and the nats of every segment less the cost of its attributes.
    """
    net = nats - ATTRIBUTE_COST * NAMED[table.family]
    return int(np.where(among, net, -np.inf).argmax()), net


def signal_of(channel: int, segment: int, measured: dict[int, Excess]) -> SignalName:
    """Say what kind of trouble a segment has.

    Args:
        channel: where the evidence came from.
        segment: number of the segment.
        measured: what was measured on this channel and, for failures, on all failures and on small declined ones.
    """
    if channel >= COUNTED and channel != AMOUNT:
        return CHANNELS[channel].signal
    own, failed, small = measured[channel], measured[FAILED], measured[SMALL_DECLINED]
    more = failed.seen[segment] - failed.expected[segment]
    probes = small.seen[segment] - small.expected[segment]
    if probes >= max(PROBE_SHARE * more, PROBES_MIN) and small.ratio(segment) > 3.0:
        return "card_testing"
    if channel == AMOUNT:
        return "amount_mix"
    if channel != FAILED and more < MIX_SHARE * (own.seen[segment] - own.expected[segment]):
        return "failure_mix"
    return "success_rate"


def _deviations(table: SegmentTable, sums: Floats, normal: Normal, channel: int) -> tuple[Floats, Floats, Floats]:
    first = LATENCY_N if channel == LATENCY else AMOUNT_N
    mean, deviation = (
        (normal.latency, normal.latency_deviation) if channel == LATENCY else (normal.amount, normal.amount_deviation)
    )
    count = sums[:, first]
    away = (sums[:, first + 1] - count * mean) / deviation**2
    seen, weight, number = table.roll_up(np.stack((away, count / deviation**2, count), axis=1)).T
    return seen, weight, number


def _log(x: Floats) -> Floats:
    logarithm: Floats = np.log(np.maximum(x, 1e-12))
    return logarithm


def _rate(seen: Floats, expected: Floats) -> Floats:
    expected = np.maximum(expected, 1e-9)
    return np.where(seen > expected, seen * _log(seen / expected) - (seen - expected), 0.0)


def _odds(seen: Floats, expected: Floats, trials: Floats) -> Floats:
    trials = np.maximum(trials, 1e-9)
    normal, rate = (expected / trials).clip(1e-6, 1 - 1e-6), (seen / trials).clip(0.0, 1.0)
    up, down = rate * _log(rate / normal), (1 - rate) * _log((1 - rate) / (1 - normal))
    return np.where(rate > normal, trials * (up + down), 0.0)
