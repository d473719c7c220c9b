"""An anomaly that is open: has its segment recovered?

Recovery is tested the other way round: evidence for "normal again" against "halfway between normal and how bad it was".
Every success of a segment that was down weighs a lot, so a few healthy canary payments are enough; no traffic is no
evidence, so an anomaly whose traffic was routed away stays open until somebody has paid through it again.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ml.anomalies.channels import (
    AMOUNT,
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
    OUTLIER,
    RETRIED,
    REVERSED,
    SETTLED,
    SUCCEEDED,
    Normal,
)
from ml.anomalies.findings import Finding
from ml.anomalies.segments import Floats, Integers, SegmentKey

HEALTH_NEEDED: Final = 7.0
"""Nats of evidence for health: some 1,100 to 1."""
RATIO_MIN: Final = 1.6
"""An anomaly is taken to be at least so many times normal; recovery stays decidable."""
TEMPERED_MIN: Final = 1.2
"""However mild it turns out to be, it is so many times normal: else nothing could ever tell that it is over."""
HEALTH_MAX: Final = 12.0
"""Evidence for health is not kept beyond this, so that a relapse shows."""

MASKS: Final[dict[SignalName, tuple[int, ...]]] = {
    "success_rate": (*range(COUNTED), LATENCY, AMOUNT),
    "card_testing": (*range(COUNTED), LATENCY, AMOUNT, COUNTED + 4, COUNTED + 5),
    "failure_mix": tuple(range(COUNTED)),
    "latency": (LATENCY,),
    "amount_mix": (AMOUNT, SMALL_DECLINED),
    "retries": (RETRIES, *range(COUNTED)),
    "reversals": (REVERSALS,),
    "volume": (COUNTED + 4, COUNTED + 5),
    "unnamed": (COUNTED + 6,),
}
"""The channels whose evidence each kind of trouble explains."""
RANK: Final[dict[SignalName, int]] = {
    "card_testing": 5, "success_rate": 4, "volume": 3, "retries": 3, "failure_mix": 2, "latency": 1, "reversals": 1,
    "amount_mix": 0, "unnamed": 0,
}  # fmt: skip
"""Of two names for one trouble the higher one is told."""


class Incident:
    """One open anomaly and the evidence that it is over.

    Args:
        finding: the anomaly as it was last told.
        channel: whose evidence opened it.
        first: number of its first tick.
        opened: number of the tick it was opened in.
        ratio: how many times normal it was (or how many times as long, large, or as little).
    """

    def __init__(self, finding: Finding, *, channel: int, first: int, opened: int, ratio: float) -> None:
        self.finding = finding
        self.channel = channel
        self.first = first
        self.opened = opened
        self.ratio = ratio
        self.told_tick = opened
        self.reviews = 0
        self._health = 0.0
        self._well_since = opened

    @property
    def segment(self) -> SegmentKey:
        """The segment that is unwell."""
        return self.finding.segment

    @property
    def well(self) -> bool:
        """Whether there is enough evidence for health."""
        return self._health >= HEALTH_NEEDED

    @property
    def recovering(self) -> bool:
        """Whether there is some evidence for health."""
        return self._health >= HEALTH_NEEDED / 4

    @property
    def well_since(self) -> int:
        """The tick since which the evidence for health adds up."""
        return self._well_since

    def renew(self, *, channel: int, ratio: float, tick: int) -> None:
        """Segment or depth changed: begin the evidence for health anew."""
        self.channel, self.ratio = channel, ratio
        self._health, self._well_since = 0.0, tick

    def temper(self, ratio: float) -> None:
        """Take it for less bad than at first, if it is: the worst stretch opens an anomaly, and recovery is judged
        against how bad it was."""
        if (ratio >= 1) != (self.ratio >= 1):
            return
        if self.ratio >= 1:
            self.ratio = min(self.ratio, max(ratio, TEMPERED_MIN))
        else:
            self.ratio = max(self.ratio, min(ratio, 1 / TEMPERED_MIN))

    def weigh(self, ratios: Floats, first: int, *, stride: int = 1) -> None:
        """Add the evidence for health of some steps up; ``first``: the first tick, ``stride``: ticks in a step."""
        for place, ratio in enumerate(ratios.tolist()):
            if self._health <= 0:
                self._well_since = first + place * stride
            self._health = min(max(self._health + ratio, 0.0), HEALTH_MAX)

    def health(self, seen: Floats, expected: Floats, trials: Floats) -> Floats:
        """Log likelihood ratio per tick of normal against halfway. All of shape (ticks,)."""
        if self.channel in (LATENCY, AMOUNT):
            half = np.log(self.ratio) / 2
            return np.asarray(half**2 / 2 * expected - half * seen)
        if self.channel == FAILED:
            normal = (expected / np.maximum(trials, 1e-12)).clip(1e-3, 1 - 1e-3)
            odds = normal / (1 - normal) * max(np.sqrt(self._odds_ratio(normal)), 1.3)
            bad = odds / (1 + odds)
            return np.asarray((trials - seen) * np.log((1 - normal) / (1 - bad)) + seen * np.log(normal / bad))
        if self.channel < COUNTED + 4:
            half = np.sqrt(max(self.ratio, RATIO_MIN))
            return np.asarray((half - 1) * expected - seen * np.log(half))
        half = np.sqrt(min(max(self.ratio, 0.01), 1 / RATIO_MIN))
        return np.asarray(expected * (half - 1) - seen * np.log(half))

    def _odds_ratio(self, normal: Floats) -> float:
        usual = float(np.median(normal)) if len(normal) else 0.1
        bad = min(self.ratio * usual, 0.99)
        return max(bad / (1 - bad) / (usual / (1 - usual)), RATIO_MIN)


def trail_of(
    channel: int,
    statistics: Floats,
    cell: Integers,
    tick: Integers,
    ticks: int,
    normal: Normal,
    lagged: tuple[float, float],
) -> tuple[Floats, Floats, Floats]:
    """What some rows show on one channel, per tick: seen, expected, trials. Each of shape (ticks,)."""
    if channel < COUNTED:
        settled = statistics[:, SETTLED]
        columns = statistics[:, HITS + channel], settled * normal.rate[cell, channel], settled
    elif channel in (LATENCY, AMOUNT):
        first, mean, spread = (
            (LATENCY_N, normal.latency, normal.latency_deviation)
            if channel == LATENCY
            else (AMOUNT_N, normal.amount, normal.amount_deviation)
        )
        count, deviation = statistics[:, first], spread[cell]
        away = ((statistics[:, first + 1] - mean[cell]) / deviation).clip(-OUTLIER, OUTLIER)
        columns = count * away / deviation, count / deviation**2, count
    elif channel in (RETRIES, REVERSALS):
        hits, base, ratio = (
            (RETRIED, FAILED_HITS, lagged[0]) if channel == RETRIES else (REVERSED, SUCCEEDED, lagged[1])
        )
        columns = statistics[:, hits], statistics[:, base] * ratio, statistics[:, base]
    else:
        columns = statistics[:, ORDERS], np.zeros(len(cell)), statistics[:, ORDERS]
    seen, expected, trials = (np.bincount(tick, column, ticks) for column in columns)
    return seen.astype(float), expected.astype(float), trials.astype(float)
