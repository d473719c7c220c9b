"""How many messages a worker holds, by how often what comes was delivered before."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime
from typing import cast

import pytest

from actors.taking import BATCHES_HELD_MAX, CAREFUL_FROM, WARY_MAX, Taking
from config.settings import BatchSettings
from messaging.channel import Channel
from messaging.consumer import Consumer, Delivery
from messaging.envelope import Envelope

SIZE = 200
WHOLE = BATCHES_HELD_MAX * SIZE

pytestmark = pytest.mark.enable_socket  # an event loop wakes itself through a socket pair


class Broker:
    """A queue whose messages were delivered so often before; hands over as many as a consumer may hold."""

    def __init__(self, *before: int) -> None:
        self._queue = deque(before)
        self._tag = self._prefetch = 0
        self.held: list[int] = []

    async def consume(self, queue: str, *, prefetch: int) -> Consumer:
        """Begin to hand over, up to the prefetch."""
        self.held.append(prefetch)
        self._consumer, self._prefetch = Consumer(queue), prefetch
        self.hand_over(prefetch)
        return self._consumer

    def hand_over(self, count: int) -> None:
        """Hand over what takes the place of so many that were acknowledged."""
        for _ in range(min(count, self._prefetch, len(self._queue))):
            self._tag += 1
            self._consumer.put(delivery(self._tag, self._queue.popleft()))

    async def cancel(self, _: Consumer) -> None:
        """Hand over no more."""
        self._prefetch = 0


def delivery(tag: int, before: int) -> Delivery:
    """A message that was delivered so often before."""
    envelope = Envelope(
        type="t", message_id=f"m{tag}", timestamp=datetime.now(UTC), headers={"x-delivery-count": before}
    )
    return Delivery(tag, before > 0, envelope, b"")


async def taken(broker: Broker) -> list[Delivery]:
    """Everything, in the order in which it was taken."""
    settings = BatchSettings(size_max=SIZE, wait_ms_max=0)
    taking = Taking(cast(Channel, broker), "q", settings, asyncio.Event())
    everything: list[Delivery] = []
    while batch := await taking.batch(0.05):
        assert len(batch) <= SIZE
        everything += batch
        broker.hand_over(len(batch))
    await taking.end()
    return everything


@pytest.mark.parametrize(
    ("before", "held"),
    [
        pytest.param([0] * 3, [1, WHOLE], id="nothing was delivered before"),
        pytest.param([1] * 300, [1, WARY_MAX], id="a few while they were delivered before"),
        pytest.param([CAREFUL_FROM, CAREFUL_FROM, 0, 0], [1, WHOLE], id="suspects alone, then all"),
        pytest.param([1, *[1] * WARY_MAX, *[0] * 5], [1, WARY_MAX, WHOLE], id="few until fresh ones come"),
        pytest.param([0, *[0] * 20, 1, *[0] * 20], [1, WHOLE], id="who holds all goes on past one that came before"),
        pytest.param([0, *[0] * 20, CAREFUL_FROM, *[0] * WHOLE], [1, WHOLE, 1, WHOLE], id="until a suspect comes"),
    ],
)
async def test_how_many_are_held(before: list[int], held: list[int]) -> None:
    """Few while a kill would count against innocents; and nothing is left out or taken twice."""
    broker = Broker(*before)
    everything = await taken(broker)
    assert [one.tag for one in everything] == list(range(1, len(before) + 1))
    assert broker.held == held
