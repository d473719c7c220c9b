"""Fits the Isolation Forest to stored history, and judges it on later minutes than it was fitted to.

A forest is good if of ordinary minutes it takes as many for unusual as it was told to: more are false alerts, fewer are
blindness. What minutes are ordinary, the anomalies say that were told and that nobody marked as false: an alert that an
operator called false makes its minutes ordinary, so the next forest does not find them unusual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from ml.anomalies.forest import ROWS_MAX, ROWS_MIN, Forest, fitted
from ml.anomalies.segments import Flags, Floats, SegmentKey, overlap
from ml.lack import TooFewData

LATER: Final = 0.25
"""Of the ordinary minutes the last so many judge."""

BEFORE_S: Final = 120.0
AFTER_S: Final = 900.0
"""Around an anomaly, minutes are neither ordinary nor trouble: its start is an estimate, its end is learnt from."""

MARGIN_NATS: Final = 1.92
"""By so much the forest in force must fit later minutes better to stay: half of the 95 % point of chi-squared, one
degree of freedom. Within it the two are alike, and the newer one knows the newer traffic."""


MISFIT_MAX: Final = 10.0
"""A forest whose share of unusual later minutes is as unlikely as this serves nobody, nats: one fitted to the night and
judged on the morning, say. Until there is a better one, watchers fit their own."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """A segment that was unwell, from one moment to another, seconds."""

    segment: SegmentKey
    since: float
    until: float


class SeenMinutes:
    """Minutes of segments as they were looked at, at most so many; the oldest make room.

    Args:
        rows_max: so many are kept.
    """

    def __init__(self, rows_max: int = 8 * ROWS_MAX) -> None:
        self._rows_max = rows_max
        self._parts: list[tuple[float, list[SegmentKey], Floats]] = []
        self._kept = 0

    def add(self, at: float, segments: Sequence[SegmentKey], rows: Floats) -> None:
        """Take in a minute: its end, and the features of its segments, shape (segments, FEATURES)."""
        if not len(segments):
            return
        self._parts.append((at, list(segments), rows.copy()))
        self._kept += len(segments)
        while self._kept - len(self._parts[0][1]) >= self._rows_max:
            self._kept -= len(self._parts.pop(0)[1])

    def __len__(self) -> int:
        return self._kept

    def labelled(self, troubles: Sequence[Trouble]) -> tuple[Floats, Flags, Flags]:
        """Every row, oldest first; whether it is ordinary; whether it lies in trouble. Around trouble it is neither.

        Returns: shapes (n, FEATURES), (n,), (n,).
        """
        ordinary, ill = [], []
        for at, segments, _ in self._parts:
            near = [one for one in troubles if one.since - BEFORE_S <= at <= one.until + AFTER_S]
            inside = [one for one in near if one.since < at <= one.until]
            for segment in segments:
                ordinary.append(not any(overlap(one.segment, segment) for one in near))
                ill.append(any(one.segment == segment for one in inside))
        rows = np.concatenate([rows for _, _, rows in self._parts])
        return rows, np.array(ordinary, dtype=np.bool_), np.array(ill, dtype=np.bool_)


class JudgedForest(msgspec.Struct, frozen=True, kw_only=True):
    """A forest, how it does on later minutes, and whether it is to serve."""

    forest: Forest
    metrics: dict[str, float]
    better: bool
    note: str


def trained(
    seen: SeenMinutes,
    troubles: Sequence[Trouble],
    *,
    contamination: float,
    in_force: Forest | None = None,
    seed: int = 0,
) -> JudgedForest | TooFewData:
    """Fit a forest to ordinary minutes and judge it, and the one in force, on later ones.

    Args:
        seen: minutes of the past.
        troubles: what was unwell then.
        contamination: share of ordinary minutes that is taken for unusual, 0 to 0.5.
        in_force: the forest that serves now.
        seed: of the forest.
    """
    needed = math.ceil(ROWS_MIN / (1 - LATER))
    if len(seen) < needed:
        return TooFewData(seen=len(seen), needed=needed)
    rows, ordinary, ill = seen.labelled(troubles)
    usual = rows[ordinary]
    if len(usual) < needed:
        return TooFewData(seen=len(usual), needed=needed)
    begin = len(usual) - int(LATER * len(usual))
    forest = fitted(usual[:begin][-ROWS_MAX:], contamination=contamination, seed=seed)
    later, trouble = usual[begin:], rows[ill]
    misfit = _misfit(forest, later)
    metrics = {
        "ordinary_minutes": float(len(usual)),
        "later_minutes": float(len(later)),
        "unusual_share": float(forest.unusual(later).mean()),
        "contamination": contamination,
        "misfit_nats": misfit,
    }
    if len(trouble):
        metrics |= {"trouble_minutes": float(len(trouble)), "trouble_unusual": float(forest.unusual(trouble).mean())}
    if in_force is None:
        better, why = misfit <= MISFIT_MAX, "none that can be used was in force"
    elif in_force.contamination != contamination:
        better, why = misfit <= MISFIT_MAX, f"the one in force was fitted for {in_force.contamination:g}"
    else:
        metrics["misfit_nats_in_force"] = _misfit(in_force, later)
        better = misfit <= metrics["misfit_nats_in_force"] + MARGIN_NATS
        why = f"the one in force {in_force.unusual(later).mean():.2%}"
    share = metrics["unusual_share"]
    note = f"of {len(later)} later ordinary minutes {share:.2%} look unusual, {contamination:.2%} should; {why}"
    return JudgedForest(forest=forest, metrics=metrics, better=better, note=note)


def _misfit(forest: Forest, ordinary: Floats) -> float:
    """How unlikely it is that so many ordinary minutes look unusual, nats of the Poisson deviance, halved."""
    seen, expected = float(forest.unusual(ordinary).sum()), forest.contamination * len(ordinary)
    return (seen * math.log(seen / expected) if seen else 0.0) - (seen - expected)
