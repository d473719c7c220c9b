from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ml.behaviour.funnel import abandonments, funnel, repeat_failures, retry_times, rhythm, switches
from ml.behaviour.orders import STEPS_MAX, OrderStory, Step, Tried, outcome, rebuilt

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PATIENCE = timedelta(minutes=30)
NOW = NOON + timedelta(days=1)


def step(minute: float, status: str, category: str | None = None, gateway: str = "alpha", method: str = "card") -> Step:
    """A try some minutes after noon."""
    return Step(at=NOON + timedelta(minutes=minute), gateway=gateway, method=method, status=status, category=category)


def order(number: int, *steps: Step, customer: str | None = None) -> OrderStory:
    """Order number ``number`` with these tries."""
    return OrderStory(
        order_id=f"ord_{number}",
        customer=customer,
        amount_minor=1_000,
        currency="INR",
        tries=len(steps),
        steps=steps,
    )


STORIES = [
    order(1, step(0, "succeeded"), customer="cus_a"),
    order(2, step(0, "failed", "do_not_honor"), step(0.5, "succeeded", gateway="bravo"), customer="cus_a"),
    order(
        3, step(0, "failed", "do_not_honor"), step(20, "failed", "insufficient_funds", method="upi"), customer="cus_b"
    ),
    order(4, step(0, "failed", "insufficient_funds"), customer="cus_b"),
    order(5, step(60 * 24 - 10, "failed", "do_not_honor"), customer="cus_c"),
    order(6, step(0, "failed", "do_not_honor"), step(3, "abandoned")),
]


def test_a_funnel_counted_by_hand():
    """Two paid, one of them after a retry; three gave up; the one of ten minutes ago may still come back."""
    found = funnel(STORIES, NOW, patience=PATIENCE)

    assert (found.started, found.paid_first, found.failed_first) == (6, 1, 5)
    assert (found.retried, found.paid_retried, found.given_up, found.open) == (3, 1, 3, 1)
    assert found.paid + found.given_up + found.open == found.started


def test_who_left_after_which_failure():
    """Of three whose first failure was a plain decline, nobody left at once; the order still open counts nowhere."""
    found = {(a.failure, a.category): (a.orders, a.left) for a in abandonments(STORIES, NOW, patience=PATIENCE)}

    assert found == {
        (1, "do_not_honor"): (3, 0),
        (1, "insufficient_funds"): (1, 1),
        (2, "insufficient_funds"): (1, 1),
    }


def test_how_soon_and_how_shoppers_try_again():
    """Half a minute, three and twenty minutes after a plain decline; one changed the gateway, one the method."""
    (time,) = retry_times(STORIES)
    changed = {(s.changed, s.category): (s.tried, s.succeeded) for s in switches(STORIES)}

    assert (time.category, time.retries, time.median_s) == ("do_not_honor", 3, 180.0)
    assert (time.within_1_min, time.within_10_min) == (1, 2)
    assert changed == {("gateway", "do_not_honor"): (1, 1), ("method", "do_not_honor"): (1, 0)}


def test_rhythm_and_repeated_failures():
    """Noon of a Monday holds five orders; one shopper ended unpaid twice, two never for good."""
    hours = {(r.weekday, r.hour): (r.orders, r.paid, r.with_failure) for r in rhythm(STORIES)}

    assert hours == {(1, 12): (5, 2, 4), (2, 11): (1, 0, 1)}
    repeated = repeat_failures(STORIES, NOW, patience=PATIENCE)
    assert {r.orders_failed: r.customers for r in repeated} == {0: 2, 2: 1}


def test_late_data_makes_an_order_paid():
    """An order that was given up becomes paid when the report of its late success comes."""
    given_up = STORIES[3]
    late = order(4, *given_up.steps, step(50, "succeeded"))

    assert outcome(given_up, NOW, patience=PATIENCE) == "given_up"
    assert outcome(late, NOW, patience=PATIENCE) == "paid"
    assert outcome(order(7, step(0, "reversed")), NOW, patience=PATIENCE) == "given_up"


@given(st.lists(st.sampled_from(["failed", "succeeded", "pending", "abandoned"]), max_size=40), st.integers())
def test_the_order_of_arrival_does_not_matter(statuses: list[str], seed: int):
    """Attempts that come in any order make the same story; more steps than the bound are only counted."""
    tried = [
        Tried(
            attempt_id=f"att_{n}",
            step=step(n // 2, status),
            amount_minor=5,
            currency="INR",
            customer="cus_a" if n == 1 else None,
        )
        for n, status in enumerate(statuses)
    ]
    mixed = random.Random(seed).sample(tried, len(tried))

    story = rebuilt("ord_1", mixed)

    assert story == rebuilt("ord_1", tried)
    assert (story is None) == (not tried)
    if story is not None:
        assert story.tries == len(tried)
        assert len(story.steps) == min(len(tried), STEPS_MAX)
        assert list(story.steps) == sorted(story.steps, key=lambda each: each.at)
