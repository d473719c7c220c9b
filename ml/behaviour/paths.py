"""The ways of orders: how the first try ended, what the second one changed, and how the order stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from ml.behaviour.orders import OrderStory, Outcome, Step, outcome

First = Literal["paid", "failed", "no_result"]
Changed = Literal["nothing", "gateway", "method", "method and gateway", "no other try"]

FIRSTS: Final[tuple[First, ...]] = ("paid", "failed", "no_result")
CHANGES: Final[tuple[Changed, ...]] = ("nothing", "gateway", "method", "method and gateway", "no other try")
OUTCOMES: Final[tuple[Outcome, ...]] = ("paid", "given_up", "open")


class OrderPath(msgspec.Struct, frozen=True, kw_only=True):
    """How many orders took one way.

    Attributes:
        first: how the first try stands now; ``no_result``: it is pending, was abandoned, or was taken back.
        changed: what the second try had that the first had not; later tries count only by the outcome.
        outcome: how the order stands.
        orders: >= 1.
    """

    first: First
    changed: Changed
    outcome: Outcome
    orders: int


def order_paths(stories: Iterable[OrderStory], now: datetime, *, patience: timedelta) -> list[OrderPath]:
    """Count the ways that orders took; each order counts once, so the counts add up to the number of orders.

    Args:
        stories: the orders.
        now: the present.
        patience: how long after the last try a shopper may still come back.
    Returns: only ways that somebody took, in the order of ``FIRSTS``, ``CHANGES`` and ``OUTCOMES``.
    """
    taken = Counter((_first(story), _changed_first(story), outcome(story, now, patience=patience)) for story in stories)
    return [
        OrderPath(first=first, changed=changed, outcome=ended, orders=taken[first, changed, ended])
        for first in FIRSTS
        for changed in CHANGES
        for ended in OUTCOMES
        if taken[first, changed, ended]
    ]


def changed_between(before: Step, after: Step) -> Changed:
    """Say what one try has that the one before had not.

    >>> at = datetime(2026, 3, 2)
    >>> first = Step(at=at, gateway="alpha", method="card", status="failed")
    >>> changed_between(first, Step(at=at, gateway="bravo", method="card", status="failed"))
    'gateway'
    """
    if before.method != after.method:
        return "method" if before.gateway == after.gateway else "method and gateway"
    return "nothing" if before.gateway == after.gateway else "gateway"


def _first(story: OrderStory) -> First:
    status = story.steps[0].status
    return "paid" if status == "succeeded" else "failed" if status == "failed" else "no_result"


def _changed_first(story: OrderStory) -> Changed:
    return "no other try" if len(story.steps) == 1 else changed_between(*story.steps[:2])
