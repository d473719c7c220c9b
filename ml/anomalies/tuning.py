"""Chooses the Isolation Forest's contamination rate by what it does to labelled incidents that it was not fitted to.

The rate is the share of ordinary minutes that count as unusual. A high one makes single minutes cheap evidence, so that
weak trouble needs many of them and busy days look odd; a low one lets only the oddest minutes count. Which is better
depends on the traffic, so it is measured: one forest is fitted to the ordinary minutes of the first part of a stream,
and each rate is judged by the alerts that would have followed in the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from ml.anomalies.forest import ROWS_MAX, ROWS_MIN, Forest, fitted, nats_of
from ml.anomalies.segments import Flags, Floats, Integers

RATES: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
"""Below the lowest, the bar would rest on less than one of the minutes that a watcher holds back for setting it."""

DAY_S: Final = 86_400.0


class LabelledMinutes(msgspec.Struct, frozen=True, kw_only=True):
    """What the minutes of one stream looked like, and what was wrong; n rows, one a minute and watched segment.

    Attributes:
        at: end of the minute, seconds, ascending, shape (n,).
        place: number of the segment, shape (n,).
        rows: features, shape (n, FEATURES).
        incident: number of the incident that touches segment and minute, -1: none, shape (n,).
        spoilt: rows shortly after an incident, or under maintenance: neither ordinary nor trouble, shape (n,).
        starts: start of each incident, seconds.
        judge_from: earlier minutes are what a forest is fitted to, seconds.
        needed: nats that an alert takes.
    """

    at: Floats
    place: Integers
    rows: Floats
    incident: Integers
    spoilt: Flags
    starts: Floats
    judge_from: float
    needed: float


class TradeOff(msgspec.Struct, frozen=True, kw_only=True):
    """What one rate comes to. ``delay_s``: median from start to alert of the incidents found; None: none was."""

    contamination: float
    incidents: int
    found: int
    false_alerts: int
    days: float
    delay_s: float | None

    @property
    def recall(self) -> float:
        """Share of incidents found."""
        return self.found / self.incidents if self.incidents else 0.0

    @property
    def false_a_day(self) -> float:
        """False alerts a day."""
        return self.false_alerts / self.days if self.days else 0.0


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen rate, and why: what all rates did on the streams for choosing, and what it did on others."""

    contamination: float
    trade_off: list[TradeOff]
    held_back: list[TradeOff]


def forest_of(minutes: LabelledMinutes, *, seed: int = 0) -> Forest:
    """Fit a forest to the ordinary minutes before anything is judged.

    Raises: ValueError: there are too few.
    """
    ordinary = (minutes.at < minutes.judge_from) & (minutes.incident < 0) & ~minutes.spoilt
    rows = minutes.rows[ordinary]
    if len(rows) < ROWS_MIN:
        raise ValueError(f"{len(rows)} ordinary minutes before the incidents, at least {ROWS_MIN} are needed")
    return fitted(rows[-ROWS_MAX:], contamination=RATES[0], seed=seed)


def trade_offs(streams: Sequence[LabelledMinutes], rates: Sequence[float] = RATES) -> list[TradeOff]:
    """What each rate comes to over some streams, each with a forest of its own."""
    parts = [_judged(minutes, rates) for minutes in streams]
    return [
        TradeOff(
            contamination=rate,
            incidents=sum(len(one[0]) for one in of_rate),
            found=int(sum(np.isfinite(one[0]).sum() for one in of_rate)),
            false_alerts=sum(one[1] for one in of_rate),
            days=sum(one[2] for one in of_rate),
            delay_s=_median([delay for one in of_rate for delay in one[0].tolist() if np.isfinite(delay)]),
        )
        for rate, of_rate in zip(rates, zip(*parts, strict=True), strict=True)
    ]


def choose(tuned: Sequence[TradeOff]) -> TradeOff:
    """The rate with the fewest false alerts; of those the one that finds most, then the quickest, then the lowest."""
    return min(tuned, key=lambda one: (one.false_alerts, -one.found, one.delay_s or 0.0, one.contamination))


def tune(streams: Sequence[LabelledMinutes], held_back: Sequence[LabelledMinutes], *, now_used: float) -> Choice:
    """Choose on some streams, and say what the choice and the rate now in use do on others.

    Args:
        streams: to choose on, at least one.
        held_back: others, of which nothing is used for choosing.
        now_used: the rate now in use.
    """
    tuned = trade_offs(streams)
    chosen = choose(tuned).contamination
    rates = [chosen] if chosen == now_used else [chosen, now_used]
    return Choice(contamination=chosen, trade_off=tuned, held_back=trade_offs(held_back, rates))


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def _judged(minutes: LabelledMinutes, rates: Sequence[float]) -> list[tuple[Floats, int, float]]:
    """For each rate: delay of each incident (infinite: not found), false alerts, days without trouble or with."""
    judged = minutes.at >= minutes.judge_from
    forest = forest_of(minutes)
    ordinary = (minutes.at < minutes.judge_from) & (minutes.incident < 0) & ~minutes.spoilt
    usual, scores = forest.score(minutes.rows[ordinary]), forest.score(minutes.rows[judged])
    moments, moment = np.unique(minutes.at[judged], return_inverse=True)
    places, place = np.unique(minutes.place[judged], return_inverse=True)
    incident = np.full((len(moments), len(places)), -1)
    incident[moment, place] = minutes.incident[judged]
    spoilt = np.zeros(incident.shape, dtype=np.bool_)
    spoilt[moment, place] = minutes.spoilt[judged]
    days = float(moments[-1] - minutes.judge_from) / DAY_S if len(moments) else 0.0
    found = []
    for rate in rates:
        nats = np.zeros(incident.shape)
        nats[moment, place] = nats_of(scores > np.quantile(usual, 1 - rate), rate)
        delays, false = _alerts(nats, incident, spoilt, moments, minutes)
        found.append((delays, false, days))
    return found


def _alerts(
    nats: Floats, incident: Integers, spoilt: Flags, moments: Floats, minutes: LabelledMinutes
) -> tuple[Floats, int]:
    """Add the minutes up as the watcher does. Alerts of one minute that no incident explains are one false alert."""
    delays, false = np.full(len(minutes.starts), np.inf), 0
    total = np.zeros(nats.shape[1])
    for step, at in enumerate(moments.tolist()):
        total = np.maximum(0.0, total + nats[step])
        total[spoilt[step]] = 0.0
        over = total >= minutes.needed
        if not over.any():
            continue
        hit = incident[step][over]
        for number in np.unique(hit[hit >= 0]).tolist():
            delays[number] = min(delays[number], at - minutes.starts[number])
        false += bool((hit < 0).any())
        total[over] = 0.0
    return delays, false
