"""Streams with known incidents, watched minute by minute: what the Isolation Forest's rate is chosen on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from cli.tuning.heard import Cells, Stream
from ml.anomalies.detector import AnomalyDetector
from ml.anomalies.segments import Floats, Integers, SegmentKey, overlap
from ml.anomalies.tuning import LabelledMinutes
from simulator.drawn import schedule
from simulator.world.plan import Label

LATE_S: Final = 60.0
"""An alert so long after the end of an incident still counts as having found it."""

AFTER_S: Final = 900.0
"""For so long after an incident, minutes are neither ordinary nor trouble: what is usual is being learnt again."""

MINUTE_S: Final = 60.0
NEVER: Final = 10**9
"""Attempts that an anomaly takes here: an open one would hide its minutes from the forest."""


def labelled_minutes(
    *,
    seed: int,
    rate: float,
    hours: float,
    warm_hours: float,
    incidents: int,
    advanced: Callable[[float], None] = lambda share: None,
) -> LabelledMinutes:
    """Simulate a stream, let a watcher with the usual settings watch it, and note every minute with its label.

    Args:
        seed: of world and incidents.
        rate: orders a second.
        hours: how long.
        warm_hours: nothing is wrong so long.
        incidents: how many.
        advanced: told how far it is, 0 to 1.
    """
    seconds = hours * 3600.0
    scenario = schedule(
        seed, rate=rate, seconds=seconds, warm_s=warm_hours * 3600.0, incidents=incidents, rhythm="flat"
    )
    stream = Stream(scenario, seed=seed + 1000, rate=rate, seconds=seconds)
    seen = _Seen()
    detector = AnomalyDetector(attempts_min=NEVER, minute_ended=seen.add)
    cells = Cells(detector.ledger.table)
    for piece in stream.pieces():
        detector.observe_columns(cells.numbered(piece.attempts))
        detector.tick(piece.until)
        seen.name(detector.ledger.table.segments)
        advanced(min(1.0, (piece.until - stream.began_at) / seconds))
    return seen.labelled(stream.labels(), stream.began_at + warm_hours * 3600.0, detector.unnamed_nats_needed)


class _Seen:
    """The minutes so far."""

    def __init__(self) -> None:
        self._ats: list[Floats] = []
        self._places: list[Integers] = []
        self._rows: list[Floats] = []
        self._names: dict[int, SegmentKey] = {}

    def add(self, at: float, segments: Integers, rows: Floats) -> None:
        """Take in a minute: its end, the segments that are busy enough, and their features."""
        self._ats.append(np.full(len(segments), at))
        self._places.append(segments.copy())
        self._rows.append(rows)

    def name(self, segments: list[SegmentKey]) -> None:
        """Remember what the numbers stand for."""
        for number in range(len(self._names), len(segments)):
            self._names[number] = segments[number]

    def labelled(self, labels: list[Label], judge_from: float, needed: float) -> LabelledMinutes:
        """All minutes, each with the incident that touches it."""
        at, place = np.concatenate(self._ats), np.concatenate(self._places)
        incident, spoilt = np.full(len(at), -1), np.zeros(len(at), dtype=np.bool_)
        trouble = [label for label in labels if label.anomaly]
        for label in labels:
            starts, ends = label.starts_at.timestamp(), label.ends_at.timestamp()
            method = "card" if label.kind == "card_testing" else label.method
            touched = (label.gateway, method, label.issuer, label.network, None)
            inside = np.array([overlap(touched, self._names[number]) for number in range(len(self._names))])[place]
            if label.anomaly:
                during = inside & (at > starts) & (at <= ends + LATE_S + MINUTE_S)
                incident[during] = trouble.index(label)
                spoilt |= inside & (at > ends + LATE_S + MINUTE_S) & (at <= ends + AFTER_S)
            elif label.kind == "maintenance":
                spoilt |= inside & (at > starts) & (at <= ends + AFTER_S)
        return LabelledMinutes(
            at=at,
            place=place,
            rows=np.concatenate(self._rows),
            incident=incident,
            spoilt=spoilt & (incident < 0),
            starts=np.array([label.starts_at.timestamp() for label in trouble]),
            judge_from=judge_from,
            needed=needed,
        )
