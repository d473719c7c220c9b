"""The order of a payment's story."""

from __future__ import annotations

from datetime import timedelta

from storage.read_models.attempts import Report, StoredAttempt, Story
from tests.factories import NOON
from web.pages.payments import timeline


def test_timeline_is_in_the_order_of_events() -> None:
    """Reports come in the order they happened, whatever order they were received in, after the attempt itself."""
    late = Report(event_id="evt_2", status="succeeded", occurred_at=NOON + timedelta(seconds=9))
    early = Report(event_id="evt_1", status="failed", occurred_at=NOON, received_at=NOON + timedelta(seconds=20))
    attempt = StoredAttempt(
        attempt_id="att_1",
        order_id="ord_1",
        gateway="alpha",
        method="upi",
        status="succeeded",
        amount_minor=100,
        currency="INR",
        attempted_at=NOON,
        occurred_at=late.occurred_at,
        history=[late, early],
    )
    story = Story(attempt=attempt, decision=None, failure=None, failure_withdrawn=False, anomalies=[], of_order=[])
    assert [(event.kind, event.about) for event in timeline(story)] == [
        ("attempted", attempt),
        ("reported", early),
        ("reported", late),
    ]
