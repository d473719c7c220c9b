"""One order as the shopper lived it: every try in the order of time, rebuilt from its attempts, however late."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

STEPS_MAX: Final = 30
"""Tries kept of one order, the first ones; more than that is a machine, not a shopper."""

SETTLED: Final = frozenset({"succeeded", "failed", "reversed"})

Outcome = Literal["paid", "given_up", "open"]


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try. ``category`` says why it failed, where it did."""

    at: datetime
    gateway: str
    method: str
    status: str
    category: str | None = None


class OrderStory(msgspec.Struct, frozen=True, kw_only=True):
    """An order. ``customer`` is a keyed hash, never the id itself; ``tries`` counts all steps, also those not kept."""

    order_id: str
    customer: str | None
    amount_minor: int
    currency: str
    tries: int
    steps: tuple[Step, ...]

    @property
    def first_at(self) -> datetime:
        """When the shopper first tried."""
        return self.steps[0].at

    @property
    def last_at(self) -> datetime:
        """When the shopper last tried, as far as it is kept."""
        return self.steps[-1].at

    @property
    def failures(self) -> tuple[Step, ...]:
        """The tries that failed."""
        return tuple(step for step in self.steps if step.status == "failed")

    @property
    def paid(self) -> bool:
        """Whether a try succeeded and was not taken back."""
        return any(step.status == "succeeded" for step in self.steps)


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt as the store has it."""

    attempt_id: str
    step: Step
    amount_minor: int
    currency: str
    customer: str | None


def rebuilt(order_id: str, attempts: Iterable[Tried]) -> OrderStory | None:
    """Put an order together from its attempts, in whatever order they come; None: there are none.

    The same attempts always give the same story, so doing it again after a crash changes nothing.
    """
    tried = sorted(attempts, key=lambda each: (each.step.at, each.attempt_id))
    if not tried:
        return None
    return OrderStory(
        order_id=order_id,
        customer=next((each.customer for each in tried if each.customer), None),
        amount_minor=tried[0].amount_minor,
        currency=tried[0].currency,
        tries=len(tried),
        steps=tuple(each.step for each in tried[:STEPS_MAX]),
    )


def outcome(story: OrderStory, now: datetime, *, patience: timedelta) -> Outcome:
    """Say how an order ended; one that was not paid is open until the shopper has been silent for so long.

    Args:
        story: the order.
        now: the present.
        patience: how long after the last try a shopper may still come back.
    """
    if story.paid:
        return "paid"
    return "given_up" if now - story.last_at >= patience else "open"
