"""What truly happened, how soon it could have been noticed, and how a list of alerts compares with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from ml.anomalies.segments import SegmentKey, overlap
from simulator.offline import Chunk
from simulator.world import facts
from simulator.world.failures import CATEGORIES
from simulator.world.outcomes import CAUSES
from simulator.world.outcomes_many import FAILED, SUCCEEDED
from simulator.world.plan import Label

BUDGET_S = 7 * 86_400.0
CHANNELS = 230 * 4
"""The limit is that of one false alert a week, shared by 230 segments x 4 signals."""
LATE_S = 60.0
"""An alert so long after the end of an incident still counts as having found it."""


class Alert(NamedTuple):
    """One alert of a detector; ``segment`` as it was last named. Times in seconds."""

    at: float
    segment: SegmentKey
    signal: str = ""
    ended: float = math.inf


class Truth:
    """One incident, and what its segment went through."""

    def __init__(self, label: Label, *, rate: float, factor: float, points: float) -> None:
        self.label = label
        self.rate = rate
        self.factor = factor
        self.points = points
        self.start, self.end = label.starts_at.timestamp(), label.ends_at.timestamp()
        method = "card" if label.kind == "card_testing" else label.method
        self.segment: SegmentKey = (label.gateway, method, label.issuer, label.network, None)
        self.attempts = self.failed = self.by_incident = self.succeeded = self.orders = 0.0
        self.spread = 0.0
        self.mix = np.zeros((2, len(CATEGORIES)))
        self.small = np.zeros(2)

    def take_in(self, chunk: Chunk) -> None:
        """Count the attempts of a chunk that fell into the incident, and those of its segment in the hour before."""
        seen, truth = chunk.attempts, chunk.truth
        inside = (seen.at >= self.start - 3600) & (seen.at < self.end)
        if not inside.any():
            return
        names = (facts.GATEWAYS, facts.METHODS, facts.ISSUER_NAMES, facts.NETWORKS)
        columns = (seen.gateway, seen.method, seen.issuer, seen.network)
        for value, known, column in zip(self.segment, names, columns, strict=False):
            if value is not None:
                inside &= column == known.index(value)
        now = inside & (seen.at >= self.start)
        before = inside & ~now
        small = (seen.amount_minor < 7_000) & (seen.status == FAILED)
        for place, rows in enumerate((before, now)):
            category = truth.category[rows & (seen.status == FAILED)]
            self.mix[place] += np.bincount(category[category >= 0], minlength=len(CATEGORIES))
            self.small[place] += small[rows].sum()
        failed = now & (seen.status == FAILED)
        self.attempts += now.sum()
        self.failed += failed.sum()
        self.by_incident += (failed & (truth.cause == CAUSES.index("incident"))).sum()
        self.succeeded += (now & (seen.status == SUCCEEDED)).sum()
        self.orders += (now & (seen.number == 1)).sum()
        self.spread += facts.LATENCY_SPREAD[seen.method[now]].sum()

    def limit_s(self) -> float:
        """The mean delay of the best possible test that knows what to look for, seconds."""
        lasts = self.end - self.start
        per_s = max(self.attempts, 1.0) / lasts
        kind = self.label.kind
        if kind in ("outage", "degradation", "drift"):
            after = _inside(self.failed / max(self.attempts, 1.0))
            untouched = self.attempts - self.by_incident
            before = _inside((self.failed - self.by_incident + 2.4) / (untouched + 20.0))
            if kind == "drift":
                return self._drift_s(per_s, before)
            return delay_s(per_s, bernoulli_nats(before, after), bernoulli_nats(after, before))
        if kind == "latency":
            spread = self.spread / max(self.attempts, 1.0)
            nats = math.log(self.factor) ** 2 / (2 * spread**2)
            return delay_s(max(self.succeeded, 1.0) / lasts, nats, nats)
        if kind == "volume_drop":
            factor = max(self.factor, 1e-3)
            usual = max(self.orders, 1.0) / lasts / factor if self.factor > 0.01 else self._usual_orders()
            return delay_s(usual, factor - 1 - math.log(factor), factor * math.log(factor) + 1 - factor)
        if kind == "card_testing":
            usual, now = max(self.small[0], 1.0) / 3600, max(self.small[1], 1.0) / lasts
            ratio = now / usual
            return delay_s(usual, ratio - 1 - math.log(ratio), ratio * math.log(ratio) - ratio + 1)
        if kind == "failure_mix":
            before, after = ((row + 0.5) / (row + 0.5).sum() for row in self.mix)
            forward, back = (
                float((after * np.log(after / before)).sum()),
                float((before * np.log(before / after)).sum()),
            )
            return delay_s(max(self.failed, 1.0) / lasts, back, forward)
        assert kind == "reversals"
        return self._reversals_s(max(self.succeeded, 1.0) / lasts)

    def _reversals_s(self, per_s: float) -> float:
        """As for a drift: successes are taken back only after some time, so their rate grows from nothing."""
        usual, full = facts.REVERSAL_SHARE * per_s, self.factor * per_s
        low, high = facts.REVERSAL_S_MIN, facts.REVERSAL_S_MAX
        needed = _solved(BUDGET_S * CHANNELS * (full - usual - usual * math.log(full / usual))) - 1
        nats, second = 0.0, 0
        while nats < needed and second < 3600:
            second += 1
            begun = min(max(math.log(max(second, low) / low) / math.log(high / low), 0.0), 1.0)
            now = usual + (full - usual) * begun
            nats += now * math.log(now / usual) - now + usual
        return float(second)

    def _usual_orders(self) -> float:
        share = 1.0
        if self.label.method is not None:
            share = float(facts.METHOD_WEIGHTS[facts.METHODS.index(self.label.method)])
        return share * self.rate

    def _drift_s(self, per_s: float, before: float) -> float:
        """When the nats of a loss that grows evenly reach what a step would need."""
        lasts = self.end - self.start
        full = _inside(before + self.points / 100)
        needed = _solved(per_s * BUDGET_S * CHANNELS * bernoulli_nats(before, full)) - 1
        sum_nats = 0.0
        for second in range(int(lasts)):
            sum_nats += per_s * bernoulli_nats(_inside(before + self.points / 100 * second / lasts), before)
            if sum_nats >= needed:
                return float(second)
        return lasts


def _inside(rate: float) -> float:
    return min(max(rate, 1e-4), 1 - 1e-4)


def bernoulli_nats(true: float, other: float) -> float:
    """Kullback-Leibler divergence of two chances, nats: what one attempt tells when the first is true."""
    return true * math.log(true / other) + (1 - true) * math.log((1 - true) / (1 - other))


def _solved(product: float) -> float:
    """The x of exp(x) - x - 1 = product."""
    x = 1.0
    for _ in range(60):
        x = math.log(product + x + 1)
    return x


def delay_s(per_s: float, nats_before: float, nats_after: float) -> float:
    """Mean delay of CUSUM at the benchmark's budget, s, for so many attempts a second that tell so much each, nats."""
    x = _solved(per_s * BUDGET_S * CHANNELS * nats_before)
    return (x - 1 + math.exp(-x)) / max(per_s * nats_after, 1e-12)


class Score(NamedTuple):
    """How alerts compare with the truth. ``repeated``: further alerts for an incident that was found already."""

    incidents: int
    found: int
    alerts: int
    false: int
    repeated: int
    right_segments: int
    ratios: list[float]
    delays: list[tuple[str, float, float]]
    days: float

    def figures(self) -> dict[str, float]:
        """Recall, false alerts a day, precision, median delay over limit and F1 of the segment.

        Repeated alerts count as false; an incident that was not found counts as found infinitely late.
        """
        wrong = self.false + self.repeated
        ratio = float(np.median(self.ratios)) if self.ratios else math.inf
        return {
            "recall": round(self.found / max(self.incidents, 1), 4),
            "false_alerts_per_day": round(wrong / max(self.days, 1e-9), 3),
            "precision": round((self.alerts - wrong) / max(self.alerts, 1), 4),
            "median_delay_over_limit": round(min(ratio, 1e6), 3),
            "segment_f1": round(2 * self.right_segments / max(self.alerts + self.incidents, 1), 4),
        }


def compare(truths: Sequence[Truth], alerts: Sequence[Alert], days: float) -> Score:
    """Match alerts with incidents, each incident with the first alert that overlaps it in time and segment."""
    found: dict[int, Alert] = {}
    false = repeated = 0
    for alert in sorted(alerts, key=lambda one: one.at):
        fits = [
            place
            for place, truth in enumerate(truths)
            if truth.start <= alert.at <= truth.end + LATE_S and overlap(truth.segment, alert.segment)
        ]
        fresh = [place for place in fits if place not in found]
        if fresh:
            best = min(fresh, key=lambda place: (truths[place].segment != alert.segment, -truths[place].start))
            found[best] = alert
        elif fits:
            repeated += 1
        else:
            false += 1
    limits = [truth.limit_s() for truth in truths]
    delays = [found[place].at - truth.start if place in found else math.inf for place, truth in enumerate(truths)]
    ratios = [delay / max(limit, 1e-9) for delay, limit in zip(delays, limits, strict=True)]
    right = sum(found[place].segment == truths[place].segment for place in found)
    told = [(truth.label.kind, delay, limit) for truth, delay, limit in zip(truths, delays, limits, strict=True)]
    return Score(len(truths), len(found), len(alerts), false, repeated, right, ratios, told, days)


def joined(scores: Sequence[Score]) -> Score:
    """Several streams as one."""
    columns = zip(*scores, strict=True)
    return Score(*([*chain(*column)] if isinstance(column[0], list) else sum(column) for column in columns))
