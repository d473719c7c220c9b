"""Sums per minute."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from storage.rollups import (
    LATENCY_BUCKETS,
    LATENCY_FIRST_MS,
    LATENCY_GROWTH,
    SLOTS,
    Sums,
    latency_bucket,
    slot_of,
)
from tests.factories import NOON, recorded
from tests.recount import attempt_adds, flat


@given(st.floats(0, 1e9))
def test_a_latency_lies_in_its_bucket(latency_ms: float) -> None:
    """Bucket i covers 10 * 1.25**i to 10 * 1.25**(i+1); what is outside goes to the ends."""
    bucket = latency_bucket(latency_ms)
    assert 0 <= bucket < LATENCY_BUCKETS
    if LATENCY_FIRST_MS < latency_ms < LATENCY_FIRST_MS * LATENCY_GROWTH ** (LATENCY_BUCKETS - 1):
        low = LATENCY_FIRST_MS * LATENCY_GROWTH**bucket
        assert low * (1 - 1e-6) <= latency_ms <= low * LATENCY_GROWTH * (1 + 1e-6)


def test_bucket_borders_belong_to_the_upper_bucket() -> None:
    """Borders do not fall into the wrong bucket by rounding."""
    for bucket in range(1, LATENCY_BUCKETS - 1):
        assert latency_bucket(LATENCY_FIRST_MS * LATENCY_GROWTH**bucket) == bucket
    assert latency_bucket(1e300) == LATENCY_BUCKETS - 1


def test_an_attempt_adds_to_the_minute_it_was_made_in() -> None:
    """A late report still counts where the attempt belongs."""
    sums = Sums()
    sums.add_attempt(recorded(attempted_at=NOON + timedelta(seconds=59), status="failed", latency_ms=None))
    key = (NOON, "alpha", "upi", "harbour_bank", "INR")
    assert sums.by_key() == {key: {"attempts": 1, "failed": 1, "amount_minor": 1_000, "first_attempts": 1}}


def test_only_a_success_adds_to_what_was_taken() -> None:
    """Money counts when the attempt stands as succeeded."""
    amounts = {}
    for status in ("succeeded", "reversed", "pending"):
        sums = Sums()
        sums.add_attempt(recorded(status=status))
        ((_, fields),) = sums.by_key().items()
        amounts[status] = fields.get("amount_succeeded_minor", 0)
    assert amounts == {"succeeded": 1_000, "reversed": 0, "pending": 0}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pending", "succeeded", "failed", "abandoned", "reversed"]),
            st.sampled_from(["alpha", "bravo"]),
            st.integers(1, 2),
            st.integers(0, 10_000),
            st.none() | st.floats(0, 100_000),
            st.integers(0, 150),
        ),
        max_size=20,
    ),
    st.data(),
)
def test_sums_are_what_each_attempt_adds_and_can_be_taken_back(rows: list[Any], data: st.DataObject) -> None:
    """Adding some and taking some of them back leaves what the others add, recounted one by one."""
    attempts = [
        recorded(
            place,
            status=status,
            gateway=gateway,
            attempt_number=number,
            amount_minor=amount,
            latency_ms=latency_ms,
            attempted_at=NOON + timedelta(seconds=second),
        )
        for place, (status, gateway, number, amount, latency_ms, second) in enumerate(rows)
    ]
    taken_back = [data.draw(st.booleans()) for _ in attempts]
    sums, expected = Sums(), Counter[Any]()
    for attempt in attempts:
        sums.add_attempt(attempt)
    for attempt, back in zip(attempts, taken_back, strict=True):
        if back:
            sums.add_attempt(attempt, -1)
        else:
            expected.update(attempt_adds(attempt))
    assert flat(sums) == expected


def test_slots_are_few() -> None:
    """However many replicas come and go, the sums of a minute lie in a bounded number of documents."""
    assert {slot_of(f"ingestor-host-{number}") for number in range(1_000)} == set(range(SLOTS))
