"""Takes deliveries in batches bounded by size and by time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque

import msgspec

from messaging.envelope import Envelope
from messaging.errors import ConnectionLost


class Delivery(msgspec.Struct, frozen=True):
    """One message as the broker handed it over; ``arrived`` is when, by the clock of ``time.monotonic``."""

    tag: int
    redelivered: bool
    envelope: Envelope
    body: bytes
    arrived: float = msgspec.field(default_factory=time.monotonic)

    @property
    def deliveries_before(self) -> int:
        """How often this message was handed over before, as a quorum queue counts."""
        if not self.redelivered:
            return 0  # a first delivery has no count of the broker's; what stands there came from outside
        count = self.envelope.headers.get("x-delivery-count")
        return count if isinstance(count, int) else 1


class Consumer:
    """Messages of one queue, waiting to be taken. Bounded by the channel's prefetch."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.tag = ""
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._failed: str | None = None

    def put(self, delivery: Delivery) -> None:
        """Add what the broker sent."""
        self._waiting.append(delivery)
        self._arrived.set()

    def fail(self, reason: str) -> None:
        """End: who waits, and who comes later, gets ConnectionLost."""
        self._failed = reason
        self._waiting.clear()
        self._arrived.set()

    async def take(self, size_max: int, wait_ms_max: float) -> list[Delivery]:
        """Wait for a message, then for more until the batch is full or the time is over.

        Args:
            size_max: most messages in a batch, >= 1.
            wait_ms_max: how long the first message waits for company, milliseconds, >= 0.
        Returns: 1 to ``size_max`` deliveries, oldest first.
        Raises: ConnectionLost: the channel ended; what was taken will be delivered again.
        """
        while not self._waiting:
            self._check()
            self._arrived.clear()
            await self._arrived.wait()
        if len(self._waiting) < size_max and wait_ms_max > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_ms_max / 1000):
                    while len(self._waiting) < size_max:
                        self._check()
                        self._arrived.clear()
                        await self._arrived.wait()
        self._check()
        return [self._waiting.popleft() for _ in range(min(size_max, len(self._waiting)))]

    def _check(self) -> None:
        if self._failed is not None:
            raise ConnectionLost(self._failed)
