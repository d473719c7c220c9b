"""Compares what a system called unwell with what truly was: delays, misses, false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from simulator.world.plan import Label

GRACE_S: Final = 30.0
"""An alarm this long after the end of an incident still counts as its detection: windows close late."""

SEGMENT_FIELDS: Final = ("gateway", "method", "issuer")


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """What a system called unwell. None stands for all of the traffic."""

    detected_at: datetime
    signal: str
    gateway: str | None = None
    method: str | None = None
    issuer: str | None = None


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """One true incident and its first fitting alarm; None: nobody noticed it."""

    incident: Label
    alarm: Alarm | None
    delay_s: float | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Every anomaly with its detection, and the alarms that no anomaly explains.

    ``tempted`` are those among the false alarms that fell into something that only looks like trouble (a flash sale, an
    announced maintenance).
    """

    detections: list[Detection]
    false_alarms: list[Alarm]
    tempted: list[Alarm]

    @property
    def missed(self) -> int:
        """How many anomalies nobody noticed."""
        return sum(detection.alarm is None for detection in self.detections)


def judge(labels: Sequence[Label], alarms: Sequence[Alarm]) -> Verdict:
    """Match alarms with the truth.

    An alarm fits an incident when it comes while the incident lasts (or at most GRACE_S later) and their segments
    overlap: wherever both name a gateway, method or issuer, they name the same. An issuer's outage shows at a gateway
    as well, so the alarm may name another field than the incident.

    Args:
        labels: everything that happened, harmless things included.
        alarms: what the system said.
    """
    anomalies = [label for label in labels if label.anomaly]
    harmless = [label for label in labels if not label.anomaly]
    ordered = sorted(alarms, key=lambda alarm: alarm.detected_at)
    detections = []
    for label in anomalies:
        first = next((alarm for alarm in ordered if _fits(alarm, label)), None)
        delay = (first.detected_at - label.starts_at).total_seconds() if first else None
        detections.append(Detection(incident=label, alarm=first, delay_s=delay))
    false = [alarm for alarm in ordered if not any(_fits(alarm, label) for label in anomalies)]
    tempted = [alarm for alarm in false if any(_fits(alarm, label) for label in harmless)]
    return Verdict(detections=detections, false_alarms=false, tempted=tempted)


def _fits(alarm: Alarm, label: Label) -> bool:
    if not label.starts_at <= alarm.detected_at <= label.ends_at + timedelta(seconds=GRACE_S):
        return False
    pairs = ((getattr(alarm, field), getattr(label, field)) for field in SEGMENT_FIELDS)
    return all(mine is None or theirs is None or mine == theirs for mine, theirs in pairs)
