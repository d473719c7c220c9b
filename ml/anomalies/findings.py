"""What the watcher says about a segment: how bad, since when, at what cost, in words."""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal

import msgspec
import numpy as np

from ml.anomalies.channels import SignalName
from ml.anomalies.segments import ATTRIBUTES, SegmentKey, text_of

Severity = Literal["minor", "major", "critical"]
Fault = Literal["customer", "issuer", "gateway", "network", "merchant", "fraud_rules", "unknown"]

SEVERITIES: Final[tuple[Severity, Severity, Severity]] = ("minor", "major", "critical")

CRITICAL_POINTS: Final = 0.5
MAJOR_POINTS: Final = 0.15
CRITICAL_SHARE: Final = 0.05
MAJOR_LOST: Final = 0.01
CRITICAL_LOST: Final = 0.08
MAJOR_RATIO: Final = 3.0
WORSE_POINTS: Final = 0.1
WORSE_RATIO: Final = 1.4
INTERVAL: Final = 1.96
"""Normal quantile of the 95 % ranges that are shown."""
ID_LENGTH_MAX: Final = 80


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One anomaly as it now stands. Times are seconds since 1970, rates shares of settled attempts, latency is in ms.

    ``score`` is the evidence in nats (natural log of how much likelier the data are under trouble than under normal).
    """

    anomaly_id: str
    segment: SegmentKey
    signal: SignalName
    severity: Severity
    started_at: float
    detected_at: float
    updated_at: float
    observed: float
    expected: float
    expected_low: float
    expected_high: float
    attempts_seen: int
    score: float
    currency: str | None = None
    loss_minor_per_minute: float | None = None
    loss_low: float | None = None
    loss_high: float | None = None
    fault: Fault = "unknown"
    reason: str = ""
    closed_at: float | None = None
    closed_because: str = ""


class Change(msgspec.Struct, frozen=True):
    """A finding was opened, updated or closed."""

    kind: Literal["opened", "updated", "closed"]
    finding: Finding


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment did over some windows, against what was expected of it."""

    observed: float
    expected: float
    expected_low: float
    expected_high: float
    attempts: int
    reason: str
    severity: Severity
    fault: Fault = "unknown"
    currency: str | None = None
    loss_minor_per_minute: float | None = None
    loss_low: float | None = None
    loss_high: float | None = None


def identifier(segment: SegmentKey, signal: SignalName, started_at: float) -> str:
    """Name an anomaly by its signal, segment and start; the same three give the same name.

    >>> identifier(("bravo", None, None, None, None), "success_rate", 1700000000.0)
    'anm_success_rate_gateway.bravo_1700000000'
    """
    named = [f"{name}.{value}" for name, value in zip(ATTRIBUTES, segment, strict=True) if value is not None]
    plain = "-".join(named) or "all"
    safe = re.sub(r"[^A-Za-z0-9_.:\-]", "_", plain)
    text = f"anm_{signal}_{safe}_{int(started_at)}"
    if safe == plain and len(text) <= ID_LENGTH_MAX:
        return text
    digest = hashlib.sha256(plain.encode()).hexdigest()[:12]
    tail = f"-{digest}_{int(started_at)}"
    return f"anm_{signal}_{safe}"[: ID_LENGTH_MAX - len(tail)] + tail


def success_severity(*, expected: float, observed: float, traffic_share: float) -> Severity:
    """How bad a loss of success is.

    Critical: success fell by 50 points or more in a segment with 5 % of the usual traffic, or 8 % of all payments are
    lost. Major: it fell by 15 points, or 1 % of all payments are lost. Minor: anything less.

    >>> success_severity(expected=0.9, observed=0.05, traffic_share=0.2)
    'critical'
    """
    points = max(expected - observed, 0.0)
    lost = points * traffic_share
    if (points >= CRITICAL_POINTS and traffic_share >= CRITICAL_SHARE) or lost >= CRITICAL_LOST:
        return "critical"
    return "major" if points >= MAJOR_POINTS or lost >= MAJOR_LOST else "minor"


def ratio_severity(ratio: float) -> Severity:
    """Major from three times (or a third of) what was expected, else minor; what loses no payment is never critical."""
    return "major" if max(ratio, 1.0 / max(ratio, 1e-9)) >= MAJOR_RATIO else "minor"


def rate_range(expected: float, doubt: float, attempts: float) -> tuple[float, float]:
    """Where the success of so many attempts lies in 95 of 100 normal cases: doubt about the normal and chance together.

    >>> [round(edge, 2) for edge in rate_range(0.9, 0.05, 122)]
    [0.85, 0.95]
    """
    spread = expected * (1 - expected)
    deviation = float(np.sqrt((spread * doubt) ** 2 + spread / max(attempts, 1.0)))
    return max(expected - INTERVAL * deviation, 0.0), min(expected + INTERVAL * deviation, 1.0)


WORDS: Final[dict[SignalName, str]] = {
    "success_rate": "success {observed:.1%} of {count} attempts, expected {low:.0%}-{high:.0%}",
    "card_testing": "cards are being tried out: {observed:.1%} of {count} attempts are small and declined, expected "
    "{low:.1%}-{high:.1%}",
    "failure_mix": "payments fail for other reasons: {observed:.1%} of {count} attempts for this one, expected "
    "{low:.1%}-{high:.1%}",
    "latency": "typical latency {observed:.0f} ms over {count} succeeded attempts, expected {low:.0f}-{high:.0f} ms",
    "amount_mix": "typical amount {observed:.0f} minor units over {count} orders, expected {low:.0f}-{high:.0f}",
    "retries": "{observed:.2f} retries per failure over {count} failures, expected {low:.2f}-{high:.2f}",
    "reversals": "{observed:.1%} of {count} successes taken back, expected {low:.1%}-{high:.1%}",
    "volume": "{observed:.1f} orders a minute, expected {low:.1f}-{high:.1f}",
    "unnamed": "several signals together are unusual in {observed:.0%} of the last minutes over {count} attempts, "
    "expected {low:.0%}-{high:.0%}",
}


def reason_of(signal: SignalName, segment: SegmentKey, measured: tuple[float, float, float, int]) -> str:
    """Say it in words. ``measured``: observed, low and high end of what was expected, how many were counted."""
    observed, low, high, count = measured
    words = WORDS[signal].format(observed=observed, low=low, high=high, count=count)
    return f"{text_of(segment)}: {words}"[:500]


def opened(segment: SegmentKey, signal: SignalName, measured: Measurement, *, started_at: float, now: float) -> Finding:
    """A new finding. Times in seconds."""
    return Finding(
        anomaly_id=identifier(segment, signal, started_at),
        segment=segment,
        signal=signal,
        severity=measured.severity,
        started_at=started_at,
        detected_at=now,
        updated_at=now,
        observed=measured.observed,
        expected=measured.expected,
        expected_low=measured.expected_low,
        expected_high=measured.expected_high,
        attempts_seen=measured.attempts,
        score=0.0,
        currency=measured.currency,
        loss_minor_per_minute=measured.loss_minor_per_minute,
        loss_low=measured.loss_low,
        loss_high=measured.loss_high,
        fault=measured.fault,
        reason=measured.reason,
    )


def is_worse(finding: Finding, measured: Measurement) -> bool:
    """Whether this is clearly worse than what was told: 10 points, 1.4 times as far away, or a higher severity."""
    if SEVERITIES.index(measured.severity) > SEVERITIES.index(finding.severity):
        return True
    if finding.signal == "success_rate":
        return measured.observed <= finding.observed - WORSE_POINTS
    ratio = (measured.observed + 1e-9) / (finding.observed + 1e-9)
    return (ratio if finding.observed >= finding.expected else 1 / ratio) >= WORSE_RATIO


def remeasured(finding: Finding, measured: Measurement, now: float, *, segment: SegmentKey) -> Finding:
    """The finding with new numbers; it never becomes less severe than it was."""
    worst = max(SEVERITIES.index(finding.severity), SEVERITIES.index(measured.severity))
    return msgspec.structs.replace(
        finding,
        segment=segment,
        severity=SEVERITIES[worst],
        updated_at=now,
        observed=measured.observed,
        expected=measured.expected,
        expected_low=measured.expected_low,
        expected_high=measured.expected_high,
        attempts_seen=measured.attempts,
        currency=measured.currency,
        loss_minor_per_minute=measured.loss_minor_per_minute,
        loss_low=measured.loss_low,
        loss_high=measured.loss_high,
        fault=measured.fault,
        reason=measured.reason,
    )
