"""Anomalies as messages and as the detector knows them: one place that turns the one into the other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, get_args

from messaging.contracts import Anomaly, FailureClassified, RecordedAttempt, Segment
from ml.anomalies.attempts import Observation, Reason
from ml.anomalies.findings import Fault, Finding
from ml.anomalies.segments import SegmentKey

FAULTS: Final = frozenset(get_args(Fault))


def observation_of(attempt: RecordedAttempt, reported_at: float) -> Observation:
    """What the detector counts of a recorded attempt."""
    return Observation(
        reported_at=reported_at,
        gateway=attempt.gateway,
        method=attempt.method,
        issuer=attempt.issuer,
        status=attempt.status,
        was=attempt.status_previous,
        latency_ms=attempt.latency_ms,
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        network=attempt.network,
        country=attempt.country,
        number=attempt.attempt_number,
    )


def reason_of(failure: FailureClassified, attempt: Observation, reported_at: float, *, sign: int = 1) -> Reason:
    """Whose fault a failure was, in the cell of its attempt."""
    return Reason(
        reported_at=reported_at,
        gateway=attempt.gateway,
        method=attempt.method,
        issuer=attempt.issuer,
        fault=failure.fault,
        network=attempt.network,
        country=attempt.country,
        number=attempt.number,
        sign=sign,
    )


def anomaly_of(finding: Finding) -> Anomaly:
    """A finding as it travels."""
    return Anomaly(
        anomaly_id=finding.anomaly_id,
        segment=Segment(
            **{
                name: value or "none" if value is not None else None
                for name, value in zip(Segment.__struct_fields__, finding.segment, strict=True)
            }
        ),
        signal=finding.signal,
        severity=finding.severity,
        started_at=_instant(finding.started_at),
        detected_at=_instant(finding.detected_at),
        updated_at=_instant(finding.updated_at),
        observed=round(finding.observed, 6),
        expected=round(finding.expected, 6),
        expected_low=round(finding.expected_low, 6),
        expected_high=round(finding.expected_high, 6),
        attempts_seen=finding.attempts_seen,
        score=finding.score,
        currency=finding.currency,
        loss_minor_per_minute=finding.loss_minor_per_minute,
        loss_low=finding.loss_low,
        loss_high=finding.loss_high,
        fault=finding.fault,
        reason=finding.reason,
        closed_at=None if finding.closed_at is None else _instant(finding.closed_at),
        closed_because=finding.closed_because,
    )


def finding_of(anomaly: Anomaly) -> Finding:
    """A stored anomaly as the detector takes it up."""
    return Finding(
        anomaly_id=anomaly.anomaly_id,
        segment=segment_key(anomaly.segment),
        signal=anomaly.signal,
        severity=anomaly.severity,
        started_at=anomaly.started_at.timestamp(),
        detected_at=anomaly.detected_at.timestamp(),
        updated_at=anomaly.updated_at.timestamp(),
        observed=anomaly.observed,
        expected=anomaly.expected,
        expected_low=anomaly.expected_low,
        expected_high=anomaly.expected_high,
        attempts_seen=anomaly.attempts_seen,
        score=anomaly.score,
        currency=anomaly.currency,
        loss_minor_per_minute=anomaly.loss_minor_per_minute,
        loss_low=anomaly.loss_low,
        loss_high=anomaly.loss_high,
        fault=anomaly.fault if anomaly.fault in FAULTS else "unknown",  # type: ignore[arg-type]
        reason=anomaly.reason,
        closed_at=None if anomaly.closed_at is None else anomaly.closed_at.timestamp(),
        closed_because=anomaly.closed_because,
    )


def segment_key(segment: Segment) -> SegmentKey:
    """A segment as the detector names it: "none" stands for a value that attempts do not have."""
    network, country = ("" if value == "none" else value for value in (segment.network, segment.country))
    return segment.gateway, segment.method, segment.issuer, network, country


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
