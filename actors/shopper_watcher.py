"""Shopper watcher: puts every order together again when one of its attempts, or what is known of one, has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from messaging.contracts import AttemptsRecorded, FailuresClassified
from ml.behaviour.orders import OrderStory, Tried, rebuilt


def orders_of(messages: Sequence[AttemptsRecorded | FailuresClassified]) -> list[str]:
    """The orders that these messages say something new about, each once."""
    found: dict[str, None] = {}
    for message in messages:
        parts = message.attempts if isinstance(message, AttemptsRecorded) else [*message.failures, *message.withdrawn]
        found.update(dict.fromkeys(part.order_id for part in parts))
    return list(found)


class ShopperWatcher:
    """Adds nothing up: an order is always made anew from all its attempts, so nothing counts twice."""

    def handle(
        self,
        messages: Sequence[AttemptsRecorded | FailuresClassified],
        now: datetime,
        known: Mapping[str, Sequence[Tried]],
    ) -> Iterator[OrderStory]:
        """Answer with the orders that changed.

        Args:
            messages: what was recorded and classified.
            now: not looked at.
            known: every attempt of these orders, by order.
        """
        for order_id in orders_of(messages):
            story = rebuilt(order_id, known.get(order_id, ()))
            if story is not None:
                yield story
