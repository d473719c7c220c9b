"""Sequential evidence that a segment is worse than normal: CUSUM of log likelihood ratios, and how much is enough.

After each tick the log likelihood ratio of "worse by this much" against "normal" is added, and the sum is never let
below zero. Several sizes of "worse" run side by side (:data:`ml.anomalies.channels.ROWS`): a large one is quick on
outages, a small one patient with slow losses.

Source: Page (1954), Biometrika 41, 100-115; Lorden (1971), Annals of Mathematical Statistics 42, 1897-1908. The
threshold uses the mean run length of a Brownian CUSUM, exp(h) - h - 1 = time x information, which holds the false
alerts of a tick-wise CUSUM below the budget; checked by simulation in tests/unit/ml/anomalies.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from scipy.signal import lfilter

from ml.anomalies.channels import (
    AMOUNT,
    CHANNELS,
    COUNTED,
    FAILED,
    FAULT_FIRST,
    FAULTS,
    LATENCY,
    REVERSALS,
    ROWS,
    SILENCE,
    TECHNICAL_HITS,
    VOLUME,
)
from ml.anomalies.counting import Evidence
from ml.anomalies.segments import Flags, Floats, Integers

SECONDS_PER_WEEK: Final = 7 * 24 * 3600.0
LAGS_S: Final = ((30.0, 900.0), (60.0, 240.0))
"""Retries follow failures, and reversals successes, within about so many seconds, some sooner and some later."""
LAG_S: Final = (60.0, 120.0)
"""The same as one number, for looking at what led to an alarm."""
EBB_S: Final = (20.0, 2.0)
EBB_RATIO: Final = 1.5
EBB_DEVIATIONS: Final = 4.0
EBB_MIN: Final = 5.0
EBB_MAX: Final = 10.0
"""Traffic ebbs away when what was settled in the last twenty seconds is half as much again as in the last two, or, of
busy traffic, so many standard deviations more."""
NETWORK: Final = FAULT_FIRST + FAULTS.index("network")
SHARE_MAX: Final = 0.97
"""However late the failures are, so much of what is settled is expected to have failed at most."""
VOLUME_MARGIN: Final = 0.2
"""So much of the logarithm of a volume is nobody's incident: shops have slow moments."""
SILENT_PART: Final = 1 / 3
SILENT_PART_UNKNOWN: Final = 1 / 20
THRESHOLD_MIN: Final = 5.0
SPARSE_BELOW: Final = 0.15
"""Share of ticks and segments that heard something up to which they are picked out."""


class Context(NamedTuple):
    """What the evidence of a block of ticks is weighed with.

    ``scale``: how much more than expected is still normal, shape (COUNTED, watched); ``margin``: the same for means of
    latency and amount, shape (2, watched). ``lagged``: retries per failure and reversals per success, with doubt,
    shape (2, watched). ``watched``: which channels each segment has, shape (channels, watched). ``dispersion``: how
    much more than chance each channel varies, shape (channels,). ``orders_per_s``: expected of all payments, None
    when it is not known; ``least_per_s``: that come at least then, None in the first hours; ``recent_per_s``: what came
    lately; ``usual``: of all payments, whatever is explained;
    ``step_s``: how long one step of the counts is.
    ``all_column``: place of "all payments".
    """

    scale: Floats
    margin: Floats
    lagged: Floats
    watched: Flags
    dispersion: Floats
    orders_per_s: float | None
    least_per_s: float | None
    recent_per_s: float | None
    usual: float
    all_column: int
    step_s: float


class Lags:
    """What retries and reversals follow from: failures and successes of the last minutes, fading."""

    def __init__(self, watched: int) -> None:
        self._rate: Floats = np.zeros((4, watched))

    def run(self, evidence: Evidence, step_s: float) -> Floats:
        """What hits may follow from, sooner and later, without remembering it yet. Shape (4, steps, watched)."""
        base = []
        for place, lag in enumerate(lag for lags in LAGS_S for lag in lags):
            column = (evidence.failed, evidence.succeeded)[place // 2]
            keep = float(np.exp(-step_s / lag))
            zi = keep * step_s * self._rate[None, place]
            base.append(lfilter([1 - keep], [1, -keep], column, axis=0, zi=zi)[0])
        return np.stack(base)

    def commit(self, base: Floats, steps: int, step_s: float) -> None:
        """Remember a run up to a number of its steps."""
        self._rate = base[:, steps - 1] / step_s

    def moved(self, old: Integers) -> None:
        """Follow a new set of watched segments; ``old``: their former places, -1 for new ones."""
        self._rate = _moved(self._rate, old, 0)


class Ebb:
    """How much of what is reported now began when there was more traffic, of all payments and of each gateway.

    At the end of a sale, or where a router leads payments away from a gateway, the slow answers, which are time-outs,
    outnumber the quick ones for some seconds.
    """

    def __init__(self, columns: int) -> None:
        self._rate: Floats = np.zeros((len(EBB_S), columns))

    def run(self, settled: Floats, step_s: float) -> Floats:
        """Settled attempts per step, smoothed over long and short. Shape (steps, columns) in, (2, ...) out."""
        smooth = []
        for lag, rate in zip(EBB_S, self._rate, strict=True):
            keep = float(np.exp(-step_s / lag))
            smooth.append(lfilter([1 - keep], [1, -keep], settled, axis=0, zi=keep * step_s * rate[None])[0])
        return np.stack(smooth)

    def commit(self, smooth: Floats, steps: int, step_s: float) -> None:
        """Remember a run up to a number of its steps."""
        self._rate = smooth[:, steps - 1] / step_s

    def moved(self, old: Integers) -> None:
        """Follow new columns; ``old``: their former places, -1 for new ones."""
        self._rate = _moved(self._rate, old, 0)


def ebbing(smooth: Floats, step_s: float) -> Floats:
    """The former rate of traffic over the present one where it ebbs away, else 1; ``smooth`` from :meth:`Ebb.run`."""
    long, short = smooth
    ratio = long / np.maximum(short, 1e-9)
    sure = np.minimum(1 + EBB_DEVIATIONS / np.sqrt(np.maximum(EBB_S[1] / step_s * short, 1e-9)), EBB_RATIO)
    more: Floats = np.where((ratio >= sure) & (long >= EBB_MIN), np.minimum(ratio, EBB_MAX), 1.0)
    return more


def eased(evidence: Evidence, more: Floats, gateway_of: Integers) -> Evidence:
    """The same counts with more failures expected while traffic ebbs away.

    When traffic falls from one rate to another, slow failures still come at the former rate while all else comes at the
    new one; so of what is settled, the expected share of failures is larger by the former rate over the present one.
    Where all traffic ebbs, that is said of all failures. Where one gateway's does, only of those that are slow by their
    nature, those of the network: a gateway that payments are led away from because it fails must not be excused.

    Args:
        evidence: counts per step and watched segment.
        more: from :func:`ebbing`, of all payments first, then of each gateway. Shape (steps, 1 + gateways).
        gateway_of: of each watched segment the place of its gateway in ``more``; 0 for those that name none. Shape
            (watched,).
    """
    if (more == 1.0).all():
        return evidence
    whole = more[:, :1]
    raised = whole.astype(np.float32)
    expected, losses = evidence.expected * raised, evidence.losses * raised
    columns = np.flatnonzero(gateway_of)
    beside = np.maximum(more[:, gateway_of[columns]] / whole - 1.0, 0.0)
    if beside.any():
        settled = (evidence.failed + evidence.succeeded)[:, columns]
        slow = expected[NETWORK][:, columns]
        late = np.minimum(slow * beside, np.maximum(SHARE_MAX * settled - slow, 0.0)).astype(np.float32)
        for channel in (FAILED, NETWORK, TECHNICAL_HITS):
            expected[channel][:, columns] += late
        divisor = np.maximum(settled, 1e-9)
        for place, size in enumerate(CHANNELS[FAILED].sizes):
            odds = np.expm1(losses[place][:, columns] / divisor) + (size - 1) * late / divisor
            losses[place][:, columns] = settled * np.log1p(odds)
    return evidence._replace(expected=expected, losses=losses)


def most_of(base: Floats) -> Floats:
    """The larger of what hits may follow from sooner or later. Shape (4, ticks, watched) in, (2, ...) out."""
    larger: Floats = np.maximum(base[0::2], base[1::2])
    return larger


def expected_orders(evidence: Evidence, context: Context) -> Floats:
    """Orders that are expected at least, per tick and watched segment. Shape (ticks, watched).

    Of all payments by the clock, or what comes at least where it does not know the time; of a part the smaller of its
    share of what else came and of what the clock expects.
    """
    total, whole = evidence.orders[:, context.all_column], max(float(evidence.usual[context.all_column]), 1e-12)
    usual = np.minimum(evidence.usual, whole)
    among_others = (total[:, None] - evidence.orders) * usual / np.maximum(whole - usual, 0.02 * whole)
    per_s = context.orders_per_s if context.orders_per_s is not None else (context.recent_per_s or 0.0)
    by_clock = usual / max(context.usual, 1e-12) * per_s * context.step_s
    expected = np.minimum(among_others, by_clock)
    whole_per_s = context.orders_per_s if context.orders_per_s is not None else (context.least_per_s or 0.0)
    expected[:, context.all_column] = whole / max(context.usual, 1e-12) * whole_per_s * context.step_s
    reduced: Floats = expected * np.exp(-VOLUME_MARGIN)
    return reduced


def log_ratios(evidence: Evidence, bases: Floats, context: Context) -> Floats:
    """Log likelihood ratios of every row. Shape (ticks, rows, watched), nats; 0 where a segment has no such channel."""
    ticks, watched = evidence.orders.shape
    ratios = np.zeros((ticks, len(ROWS), watched), dtype=np.float32)
    orders = expected_orders(evidence, context)
    heard = _Heard(evidence)
    for row, (channel, size) in enumerate(ROWS):
        weight = context.watched[channel] / context.dispersion[channel]
        log, kind = float(np.log(size)), CHANNELS[channel].kind
        if kind in ("odds", "rate"):
            ratios[heard.tick, row, heard.segment] = heard.log_ratios(channel, size, weight, context.scale[channel])
            continue
        if kind == "lagged":
            place = int(channel == REVERSALS)
            hits = (evidence.retried, evidence.reversed)[place]
            pair = (hits, log, bases[place], (size - 1) * context.lagged[place])
        elif kind == "shift":
            place = channel - COUNTED
            sums = (evidence.latency, evidence.amount)[place]
            information = (evidence.latency_weight, evidence.amount_weight)[place]
            pair = (sums, log, information, abs(log) * context.margin[place] + log**2 / 2)
        elif channel == VOLUME:
            pair = (evidence.orders, log, orders, np.full(watched, size - 1))
        elif channel == SILENCE:
            pair = (evidence.orders, log, _silence(evidence, context), np.full(watched, -1.0))
        else:
            continue
        seen, gain, expected, cost = pair
        np.multiply(seen, np.float32(gain) * weight.astype(np.float32), out=ratios[:, row])
        ratios[:, row] -= expected * (cost * weight).astype(np.float32)
    return ratios


class _Heard:
    """The ticks and segments in which attempts ended; in all others the channels that count them say nothing.

    Of slow traffic most segments hear nothing in most ticks, so looking at all of them would cost several times as
    much; where many hear something, all of them are looked at, which is cheaper than picking them out.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        settled = evidence.failed + evidence.succeeded
        heard = (settled != 0.0) | (evidence.hits != 0.0).any(axis=0)
        self.tick: Integers | slice = slice(None)
        self.segment: Integers | slice = slice(None)
        if np.count_nonzero(heard) < SPARSE_BELOW * heard.size:
            self.tick, self.segment = np.nonzero(heard)
        self._settled = settled[self.tick, self.segment]
        self._divisor = np.maximum(self._settled, 1e-9)

    def log_ratios(self, channel: int, size: float, weight: Floats, scale: Floats) -> Floats:
        """Of a row that counts hits, for these ticks and segments; ``weight``, ``scale``: of each, shape (watched,)."""
        evidence, at = self._evidence, (self.tick, self.segment)
        if CHANNELS[channel].kind == "odds":
            odds = evidence.losses[CHANNELS[channel].sizes.index(size)][at]
            share = np.expm1(odds / self._divisor) / np.float32(size - 1)
        else:
            share = evidence.expected[channel][at] / self._divisor
        losses = _losses(share, self._settled, size, scale.astype(np.float32)[self.segment])
        weights = weight.astype(np.float32)[self.segment]
        gain = np.float32(np.log(size)) * weights
        ratios: Floats = evidence.hits[channel][at] * gain - losses * weights
        return ratios


def _losses(share: Floats, settled: Floats, size: float, scale: Floats) -> Floats:
    """What attempts say against a change of the odds by ``size`` where the odds are ``scale`` times what is normal.

    Per attempt at most ln(size), so however little is known of a segment, one where every attempt is a hit is seen.
    """
    share = np.minimum(share, np.float32(0.999))
    scaled = scale * share
    scaled /= 1 - share + scaled
    scaled *= np.float32(size - 1)
    losses: Floats = settled * np.log1p(scaled)
    return losses


def _silence(evidence: Evidence, context: Context) -> Floats:
    """A part of the orders that came lately, of all payments that no open anomaly explains.

    A third when the clock knows the time, a twentieth when this may be the first quiet night.
    """
    part = SILENT_PART if context.orders_per_s is not None else SILENT_PART_UNKNOWN
    recent = (context.recent_per_s or 0.0) * context.step_s * part
    return np.full(evidence.orders.shape, recent * evidence.usual[context.all_column] / max(context.usual, 1e-12))


def information(evidence: Evidence, bases: Floats, context: Context) -> float:
    """Information per tick, nats, summed over all tests: what shares the budget.

    A test counts at most 1 per tick, since it cannot raise more than one alert in it, and thin segments count little,
    since they can hardly raise any.
    """
    ticks = len(evidence.orders)
    orders = expected_orders(evidence, context).mean(axis=0)
    total = 0.0
    for channel, size in ROWS:
        kind, log = CHANNELS[channel].kind, float(np.log(size))
        if kind == "odds":
            loss = evidence.losses[CHANNELS[channel].sizes.index(size)].sum(axis=0)
            each = (loss - log * evidence.expected[channel].sum(axis=0)) / ticks
        elif kind == "rate":
            each = evidence.expected[channel].mean(axis=0) * (size - 1 - log)
        elif kind == "lagged":
            place = int(channel == REVERSALS)
            each = (context.lagged[place] * bases[place]).mean(axis=0) * (size - 1 - log)
        elif kind == "shift":
            weight = (evidence.latency_weight, evidence.amount_weight)[channel - COUNTED]
            each = weight.mean(axis=0) * log**2 / 2
        elif kind == "clock":
            each = orders * (size - 1 - log)
        else:
            continue
        total += float((np.minimum(np.maximum(each, 0.0), 1.0) * context.watched[channel]).sum())
    return total


def evidence_needed(*, false_alerts_per_week: float, information_per_tick: float, tick_s: float) -> float:
    """The evidence that an alert needs so that chance raises no more than the budget.

    Args:
        false_alerts_per_week: the budget for all segments and channels together, > 0.
        information_per_tick: from :func:`information`, nats, >= 0.
        tick_s: seconds, > 0.
    Returns: nats, > 0: the h that solves exp(h) - h - 1 = information over a week / budget.

    >>> round(evidence_needed(false_alerts_per_week=1, information_per_tick=100, tick_s=2), 1)
    17.2
    """
    nats = information_per_tick * SECONDS_PER_WEEK / tick_s / false_alerts_per_week
    needed = 1.0
    for _ in range(50):
        needed = float(np.log(nats + needed + 1.0))
    return max(needed, THRESHOLD_MIN)


class Cusum:
    """Evidence per row and watched segment, and for how many ticks it has added up."""

    def __init__(self, watched: int) -> None:
        self.total = np.zeros((len(ROWS), watched), dtype=np.float32)
        self.age = np.zeros((len(ROWS), watched), dtype=np.int32)

    def run(self, ratios: Floats, needed: float, *, stride: int = 1) -> int:
        """Add steps up, until there is enough evidence somewhere.

        Args:
            ratios: from :func:`log_ratios`.
            needed: nats.
            stride: ticks in a step.
        Returns: how many steps were added; fewer than all when the last of them brought enough evidence.
        """
        total, age = self.total[:-1], self.age[:-1]  # the last row counts minutes, not ticks
        ratios = ratios[:, :-1]
        for step in range(len(ratios)):
            total += ratios[step]
            np.maximum(total, 0.0, out=total)
            age += stride
            age *= total > 0.0
            if total.max(initial=0.0) >= needed:
                return step + 1
        return len(ratios)

    def forget(self, rows: Flags, columns: Flags) -> None:
        """Start the evidence of these rows and segments anew."""
        self.total[rows[:, None] & columns[None, :]] = 0.0

    def moved(self, old: Integers) -> None:
        """Follow a new set of watched segments; ``old``: their former places, -1 for new ones."""
        self.total, self.age = _moved(self.total, old, 0), _moved(self.age, old, 0)


def _moved(values: np.ndarray, old: Integers, fill: int) -> np.ndarray:
    """Columns in their new places; ``fill`` for new ones."""
    moved = np.full((*values.shape[:-1], len(old)), fill, dtype=values.dtype)
    known = old >= 0
    moved[..., known] = values[..., old[known]]
    return moved


assert (FAILED, LATENCY, AMOUNT) == (0, COUNTED, COUNTED + 1)
assert CHANNELS[ROWS[-1][0]].kind == "windows"
