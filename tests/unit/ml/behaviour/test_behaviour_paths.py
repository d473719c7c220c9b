from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ml.behaviour.funnel import funnel
from ml.behaviour.orders import OrderStory, Step
from ml.behaviour.paths import order_paths

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PATIENCE = timedelta(minutes=30)
TRY = st.tuples(
    st.integers(0, 90),
    st.sampled_from(["succeeded", "failed", "pending", "abandoned", "reversed"]),
    st.sampled_from(["alpha", "bravo"]),
    st.sampled_from(["card", "upi"]),
)
TRIES = st.lists(TRY, min_size=1, max_size=5)


def order(number: int, *tries: tuple[int, str, str, str]) -> OrderStory:
    """Order number ``number`` with tries so many minutes after noon."""
    steps = tuple(
        Step(at=NOON + timedelta(minutes=minute), gateway=gateway, method=method, status=status)
        for minute, status, gateway, method in sorted(tries)
    )
    return OrderStory(
        order_id=f"ord_{number}", customer=None, amount_minor=1_000, currency="INR", tries=len(steps), steps=steps
    )


def test_ways_counted_by_hand() -> None:
    """Only the second try says what was changed, however many follow; the end is that of the whole order."""
    now = NOON + timedelta(hours=2)
    stories = [
        order(1, (0, "succeeded", "alpha", "card")),
        order(2, (0, "failed", "alpha", "card"), (1, "failed", "alpha", "upi"), (2, "succeeded", "bravo", "upi")),
        order(3, (0, "failed", "alpha", "card"), (1, "succeeded", "alpha", "upi")),
        order(4, (0, "failed", "alpha", "card"), (1, "failed", "alpha", "card")),
        order(5, (100, "pending", "alpha", "card")),
        order(6, (0, "failed", "alpha", "card"), (1, "reversed", "bravo", "upi")),
        order(7, (0, "failed", "alpha", "card"), (1, "succeeded", "bravo", "card")),
    ]

    ways = {(way.first, way.changed, way.outcome): way.orders for way in order_paths(stories, now, patience=PATIENCE)}

    assert ways == {
        ("paid", "no other try", "paid"): 1,
        ("failed", "method", "paid"): 2,
        ("failed", "nothing", "given_up"): 1,
        ("no_result", "no other try", "open"): 1,
        ("failed", "method and gateway", "given_up"): 1,
        ("failed", "gateway", "paid"): 1,
    }


@given(st.lists(TRIES, max_size=30))
def test_the_ways_add_up_to_the_funnel(tried: list[list[tuple[int, str, str, str]]]) -> None:
    """Every order goes one way, and each part of the funnel is a sum of ways."""
    now = NOON + timedelta(minutes=100)
    stories = [order(number, *tries) for number, tries in enumerate(tried)]

    ways = order_paths(stories, now, patience=PATIENCE)

    def orders(**parts: str) -> int:
        return sum(way.orders for way in ways if all(getattr(way, name) == value for name, value in parts.items()))

    whole = funnel(stories, now, patience=PATIENCE)
    assert orders() == whole.started == len(stories)
    assert orders(first="failed") == whole.failed_first
    assert orders() - orders(changed="no other try") == whole.retried
    assert orders(changed="no other try", outcome="paid") == whole.paid_first
    assert orders(outcome="paid") == whole.paid
    assert (orders(outcome="given_up"), orders(outcome="open")) == (whole.given_up, whole.open)
