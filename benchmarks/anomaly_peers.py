"""What others do with the same traffic: windows of a minute per gateway, method, issuer and pairs with a gateway.

Each peer says how unusual every window is; a segment whose score passes its bar opens an alert, unless an alert of a
segment that shares traffic with it is open, and closes after five windows below the bar. That is generous: none of them
comes with a way to choose a segment or to close.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import IsolationForest

from benchmarks.anomaly_truth import Alert
from cli.tuning.heard import key_of
from ml.anomalies.attempts import Attempts
from ml.anomalies.segments import SegmentKey, overlap
from simulator.world import facts

WINDOW_S = 60.0
QUIET = 5
ATTEMPTS_MIN = 5
STATS = 5
"""Columns: attempts, failures, number and sum of ln(latency), orders."""
TREES = 50


class Windows:
    """Sums per minute and segment."""

    def __init__(self, began_at: float, seconds: float) -> None:
        gateways, methods, issuers = facts.GATEWAYS, facts.METHODS, facts.ISSUER_NAMES
        self.segments: list[SegmentKey] = [(g, None, None, None, None) for g in gateways]
        self.segments += [(None, m, None, None, None) for m in methods]
        self.segments += [(None, None, i, None, None) for i in issuers]
        self.segments += [(g, m, None, None, None) for g in gateways for m in methods]
        self.segments += [(g, None, i, None, None) for g in gateways for i in issuers]
        self._number = {segment: number for number, segment in enumerate(self.segments)}
        self._began = began_at
        self._members: dict[int, np.ndarray] = {}
        self.sums = np.zeros((int(seconds / WINDOW_S) + 2, len(self.segments), STATS), dtype=np.float32)

    def add(self, rows: Attempts) -> None:
        """Count what was reported."""
        values = np.stack(
            (rows.settled, rows.failed, ~np.isnan(rows.latency), np.nan_to_num(rows.latency), rows.order), axis=1
        )
        codes, place = np.unique(rows.cell, return_inverse=True)
        members = np.stack([self._segments_of(int(code)) for code in codes])[place] if len(codes) else np.zeros((0, 5))
        minute = ((rows.at - self._began) / WINDOW_S).astype(np.int64).clip(0, len(self.sums) - 1)
        if not len(minute):
            return
        first, size = int(minute.min()), int(minute.max() - minute.min()) + 1
        flat = self.sums[first : first + size].reshape(-1, STATS)
        for column in range(members.shape[1]):
            spot = (minute - first) * len(self.segments) + members[:, column]
            for statistic in range(STATS):
                flat[:, statistic] += np.bincount(spot, values[:, statistic], len(flat)).astype(np.float32)

    def _segments_of(self, code: int) -> np.ndarray:
        if code not in self._members:
            gateway, method, issuer, *_ = key_of(code)
            keys: list[SegmentKey] = [
                (gateway, None, None, None, None), (None, method, None, None, None), (None, None, issuer, None, None),
                (gateway, method, None, None, None), (gateway, None, issuer, None, None),
            ]  # fmt: skip
            self._members[code] = np.array([self._number[key] for key in keys])
        return self._members[code]


class Features(NamedTuple):
    """Every window: failure rate, mean ln(latency) and ln(1 + orders), each of shape (minutes, segments); ``known``
    where there were enough attempts."""

    rate: np.ndarray
    latency: np.ndarray
    volume: np.ndarray
    known: np.ndarray
    attempts: np.ndarray

    def scaled(self, warm: int) -> np.ndarray:
        """Standard deviations from the segment's own mean of the warm-up. Shape (minutes, segments, 3)."""
        columns = []
        for values in (self.rate, self.latency, self.volume):
            masked = np.where(self.known, values, np.nan)
            with np.errstate(all="ignore"):
                mean = np.nan_to_num(np.nanmean(masked[:warm], axis=0))
                spread = np.nan_to_num(np.nanstd(masked[:warm], axis=0), nan=1.0) + 0.02
            columns.append(np.nan_to_num((masked - mean) / spread))
        return np.stack(columns, axis=2)


def features_of(windows: Windows) -> Features:
    """Turn sums into what peers look at."""
    attempts, failed, timed, latency, orders = np.moveaxis(windows.sums, 2, 0)
    known = attempts >= ATTEMPTS_MIN
    rate = failed / np.maximum(attempts, 1)
    return Features(rate, latency / np.maximum(timed, 1), np.log1p(orders), known & (timed > 0), attempts)


Peer = Callable[[Features, int], np.ndarray]
"""From features and the number of warm-up minutes to how far each window lies above the peer's bar, > 0 flagged. Shape
(minutes, segments)."""


def forest_naive(features: Features, warm: int) -> np.ndarray:
    """The Isolation Forest of the tutorials: raw columns of all segments in one heap, contamination ``auto``."""
    rows = np.stack((features.attempts, features.rate, features.latency), axis=2)
    return _forest(rows, features.known, warm, bar=None)


def forest_tuned(features: Features, warm: int) -> np.ndarray:
    """Columns scaled per segment, the bar at the highest 1 in 5,000 scores of the warm-up, two windows in a row."""
    above = _forest(features.scaled(warm), features.known, warm, bar=1 / 5000)
    twice = np.minimum(above[1:], above[:-1])
    return np.concatenate((np.full((1, above.shape[1]), -1.0), twice))


def ewma(features: Features, warm: int) -> np.ndarray:
    """Six standard deviations from an exponentially weighted mean with a memory of an hour, per segment and column."""
    rows = np.stack((features.rate, features.latency, features.volume), axis=2)
    mean, square = rows[0].copy(), np.ones_like(rows[0])
    above = np.full(features.rate.shape, -1.0)
    for minute in range(1, len(rows)):
        known = features.known[minute][:, None]
        away = np.where(known, rows[minute] - mean, 0.0)
        score = np.abs(away) / np.sqrt(square + 1e-4)
        score[:, 0] = away[:, 0] / np.sqrt(square[:, 0] + 1e-4)
        above[minute] = score.max(axis=1) - 6.0
        fed = np.where(known, 1 / 60, 0.0)
        mean += fed * away
        square += fed * (np.minimum(away**2, 36 * square) - square)
    return np.where(features.known, above, -1.0)


def cusum(features: Features, warm: int) -> np.ndarray:
    """Bernoulli CUSUM of success alone, odds x 2, per segment; normal is the warm-up's, the bar shares the budget."""
    attempts, failed = features.attempts, features.rate * features.attempts
    before = (failed[:warm].sum(axis=0) + 1) / (attempts[:warm].sum(axis=0) + 10)
    nats = attempts[:warm].mean(axis=0) * (np.log1p(before) - before * np.log(2))
    bar = float(np.log(nats.sum() * 7 * 1440 + 1))
    total, above = np.zeros(len(before)), np.full(attempts.shape, -1.0)
    for minute in range(len(attempts)):
        total = np.maximum(total + failed[minute] * np.log(2) - attempts[minute] * np.log1p(before), 0.0)
        above[minute] = total - bar
        total = np.minimum(total, 2 * bar)
    return above


def half_space_trees(features: Features, warm: int) -> np.ndarray:
    """Half-space trees: random halvings of the scaled columns, the mass of the last 250 windows of a segment's peers.

    Source: Tan, Ting, Liu (2011), Fast Anomaly Detection for Streaming Data, IJCAI; 25 trees of depth 8; the bar at the
    highest 1 in 5,000 scores of the warm-up, two windows in a row.
    """
    rows = (features.scaled(warm).clip(-8, 8) + 8) / 16
    luck = np.random.default_rng(5)
    depth, score = 8, np.zeros(features.rate.shape)
    for _ in range(25):
        low, high = np.zeros((2**depth, 3)), np.ones((2**depth, 3))
        column = luck.integers(0, 3, 2**depth)
        node = np.ones(features.rate.shape, dtype=np.int64)
        split = np.zeros(2**depth)
        for number in range(1, 2**depth):
            split[number] = (low[number, column[number]] + high[number, column[number]]) / 2
            for child, side in ((2 * number, high), (2 * number + 1, low)):
                if child < 2**depth:
                    low[child], high[child] = low[number], high[number]
                    (high if side is high else low)[child, column[number]] = split[number]
        for _ in range(depth - 1):
            value = np.take_along_axis(rows, column[node][:, :, None], axis=2)[:, :, 0]
            node = 2 * node + (value >= split[node])
        mass = np.bincount(node[:warm][features.known[:warm]], minlength=2**depth).astype(float)
        score -= np.log2(mass[node] + 1) / 25
    bar = float(np.quantile(score[:warm][features.known[:warm]], 1 - 1 / 5000))
    above = np.where(features.known, score - bar, -1.0)
    return np.concatenate((np.full((1, above.shape[1]), -1.0), np.minimum(above[1:], above[:-1])))


PEERS: dict[str, Peer] = {
    "isolation_forest_naive": forest_naive,
    "isolation_forest_tuned": forest_tuned,
    "ewma_6_sigma": ewma,
    "half_space_trees": half_space_trees,
    "cusum_success_only": cusum,
}


def alerts_of(above: np.ndarray, windows: Windows, began_at: float, warm: int) -> list[Alert]:
    """Alerts of what lies above the bar, after the warm-up."""
    found: list[Alert] = []
    opened: dict[int, int] = {}
    for minute in np.flatnonzero((above > 0).any(axis=1)).tolist():
        if minute < warm:
            continue
        opened = {number: last for number, last in opened.items() if minute - last <= QUIET}
        flagged = np.flatnonzero(above[minute] > 0)
        for number in flagged[np.argsort(-above[minute, flagged])].tolist():
            key = windows.segments[number]
            near = next((one for one in opened if overlap(windows.segments[one], key)), None)
            if near is None:
                opened[number] = minute
                found.append(Alert(began_at + (minute + 1) * WINDOW_S, key))
            else:
                opened[near] = minute
    return found


def _forest(rows: np.ndarray, known: np.ndarray, warm: int, *, bar: float | None) -> np.ndarray:
    luck = np.random.default_rng(3)
    train = rows[:warm][known[:warm]]
    train = train[luck.choice(len(train), min(len(train), 20_000), replace=False)]
    forest = IsolationForest(n_estimators=TREES, random_state=1).fit(train)
    score = np.full(known.shape, -1.0)
    score[known] = -forest.score_samples(rows[known])
    level = 0.5 if bar is None else float(np.quantile(score[:warm][known[:warm]], 1 - bar))
    return np.where(known, score - level, -1.0)
