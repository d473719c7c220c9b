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
        self._tag = 0
        self._line: list[tuple[Consumer, int]] = []
        self._unacknowledged = 0
        self.held: list[int] = []
        self.bounced = 0

    async def consume(self, queue: str, *, prefetch: int) -> Consumer:
        """Stand in line; the first one gets what there is, up to its prefetch."""
        self.held.append(prefetch)
        self._line.append((Consumer(queue), prefetch))
        self._hand_over()
        return self._line[-1][0]

    async def cancel(self, consumer: Consumer) -> None:
        """Leave the line. What could have been on its way then would come back as delivered once more."""
        (first, prefetch) = self._line.pop(0)
        assert first is consumer
        self.bounced += prefetch - self._unacknowledged
        self._unacknowledged = 0  # they count for the consumer that has left
        self._hand_over()

    def acknowledge(self, count: int) -> None:
        """So many are done; others take their place."""
        self._unacknowledged = max(0, self._unacknowledged - count)
        self._hand_over()

    def _hand_over(self) -> None:
        while self._line and self._queue and self._unacknowledged < self._line[0][1]:
            self._tag += 1
            self._unacknowledged += 1
            self._line[0][0].put(delivery(self._tag, self._queue.popleft()))


def delivery(tag: int, before: int) -> Delivery:
    """A message that was delivered so often before."""
    envelope = Envelope(
        type="t", message_id=f"m{tag}", timestamp=datetime.now(UTC), headers={"x-delivery-count": before}
    )
    return Delivery(tag, before > 0, envelope, b"")


async def taken(broker: Broker, *, single_active: bool = False) -> list[Delivery]:
    """Everything, in the order in which it was taken."""
    settings = BatchSettings(size_max=SIZE, wait_ms_max=1)
    taking = Taking(cast(Channel, broker), "q", settings, asyncio.Event(), single_active=single_active)
    everything: list[Delivery] = []
    moves = 0
    while batch := await taking.batch(0.05):
        assert len(batch) <= SIZE
        everything += batch
        moves += taking.has_moved()
        broker.acknowledge(len(batch))
    await taking.end()
    assert moves == int(single_active), "it stands by once, until it knows that the queue is still its own"
    return everything


FEW = [1] * WARY_MAX


@pytest.mark.parametrize(
    ("before", "held"),
    [
        pytest.param([0] * 3, [1, WHOLE], id="nothing was delivered before"),
        pytest.param([1] * 300, [1, WARY_MAX], id="a few while they were delivered before"),
        pytest.param([CAREFUL_FROM, CAREFUL_FROM, 0, 0], [1, WHOLE], id="suspects alone, then all"),
        pytest.param([1, *FEW, *[0] * WARY_MAX, 0], [1, WARY_MAX, WHOLE], id="few until fresh ones come"),
        pytest.param([1, *FEW, *[0] * 50], [1, WARY_MAX], id="no switch while some may be on their way"),
        pytest.param([0, *[0] * 20, CAREFUL_FROM, *[0] * WHOLE], [1, WHOLE], id="who holds all goes on"),
    ],
)
async def test_how_many_are_held(before: list[int], held: list[int]) -> None:
    """Few while a kill would count against innocents; nothing is left out, taken twice, or sent back."""
    broker = Broker(*before)
    everything = await taken(broker)
    assert [one.tag for one in everything] == list(range(1, len(before) + 1))
    assert broker.held == held
    assert broker.bounced == 0


@pytest.mark.parametrize("before", [[0] * 10, [1] * 500, [CAREFUL_FROM] * 3 + [1] * 500])
async def test_a_single_active_consumer_keeps_its_place(before: list[int]) -> None:
    """It stands in line for more from the start: another replica that comes later stands behind."""
    broker = Broker(*before)
    everything = await taken(broker, single_active=True)
    assert [one.tag for one in everything] == list(range(1, len(before) + 1))
    assert broker.held == [1, WHOLE]
    assert broker.bounced == 0
