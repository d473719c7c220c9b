"""Messages for tests, with everything that does not matter filled in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from messaging.contracts import Anomaly, AttemptReported, AttemptsRecorded, RecordedAttempt, RouteRequested, Segment

NOON = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)


def report(number: int = 1, **changed: Any) -> AttemptReported:
    """Report number ``number``: an attempt of its own that succeeded, unless said otherwise."""
    fields: dict[str, Any] = {
        "event_id": f"evt_{number}",
        "attempt_id": f"att_{number}",
        "order_id": f"ord_{number}",
        "gateway": "alpha",
        "method": "upi",
        "issuer": "harbour_bank",
        "status": "succeeded",
        "amount_minor": 1_000,
        "currency": "INR",
        "attempted_at": NOON,
        "occurred_at": NOON + timedelta(seconds=1),
        "latency_ms": 800.0,
    }
    return AttemptReported(**fields | changed)


def recorded(number: int = 1, **changed: Any) -> RecordedAttempt:
    """Recorded attempt number ``number``."""
    fields: dict[str, Any] = {
        "attempt_id": f"att_{number}",
        "order_id": f"ord_{number}",
        "gateway": "alpha",
        "method": "upi",
        "issuer": "harbour_bank",
        "status": "succeeded",
        "amount_minor": 1_000,
        "currency": "INR",
        "attempted_at": NOON,
        "occurred_at": NOON + timedelta(seconds=1),
        "latency_ms": 800.0,
    }
    return RecordedAttempt(**fields | changed)


def batch(batch_id: str, *attempts: RecordedAttempt) -> AttemptsRecorded:
    """A batch of recorded attempts."""
    return AttemptsRecorded(batch_id=batch_id, recorded_at=NOON, attempts=list(attempts))


def request(number: int = 1, **changed: Any) -> RouteRequested:
    """Route request number ``number``."""
    fields: dict[str, Any] = {
        "request_id": f"req_{number}",
        "order_id": f"ord_{number}",
        "method": "upi",
        "issuer": "harbour_bank",
        "amount_minor": 1_000,
        "currency": "INR",
        "country": "IN",
        "requested_at": NOON,
    }
    return RouteRequested(**fields | changed)


def anomaly(detected_at: datetime, **changed: Any) -> Anomaly:
    """An anomaly of gateway bravo that was detected then, and is open."""
    fields: dict[str, Any] = {
        "anomaly_id": "anm_1",
        "segment": Segment(gateway="bravo"),
        "signal": "success_rate",
        "severity": "critical",
        "started_at": detected_at,
        "detected_at": detected_at,
        "updated_at": detected_at,
        "observed": 0.1,
        "expected": 0.9,
        "expected_low": 0.8,
        "expected_high": 0.95,
        "attempts_seen": 50,
        "score": 1.0,
    }
    return Anomaly(**fields | changed)
