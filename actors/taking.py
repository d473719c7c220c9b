"""Takes batches from a queue for a worker: one message, then a few, then as many as a batch may hold."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from config.settings import BatchSettings
from messaging.channel import Channel
from messaging.consumer import Consumer, Delivery
from messaging.ending import end

CAREFUL_FROM: Final = 3
"""A message that was delivered this often before may be what kills the worker: it is handled alone.

Everything that a killed worker held counts as delivered once more, also what it had not begun, and the broker puts
aside what was delivered too often. So after a start one message is held at a time while they are suspects; then a few
(``WARY_MAX``) while they were delivered before, so that a kill counts against few; and only when none was, as many as
may be held. Of a culprit and its neighbours, only the culprit is then delivered again and again until it is a dead
letter.
"""

WARY_MAX: Final = 100
"""Messages held at most while what comes was delivered before."""

BATCHES_HELD_MAX: Final = 2
"""Batches that a worker holds unacknowledged at most: those under way, and the next ones, so that it need not wait."""


class Taking:
    """Takes batches one after the other, and can be left waiting: a batch that comes meanwhile is there the next time.

    The wait is never cancelled to look at the clock: a cancelled wait may have taken messages that nobody then handles.

    Args:
        channel: where to consume.
        queue: its name.
        batch: how many at once, and how long to wait for them.
        stopping: ends every wait.
        single_active: the broker gives the queue to one consumer at a time, in the order in which they came. Who holds
            more then has to stand in line from the start, or the queue would go to another replica meanwhile.
    """

    def __init__(
        self,
        channel: Channel,
        queue: str,
        batch: BatchSettings,
        stopping: asyncio.Event,
        *,
        single_active: bool = False,
    ) -> None:
        self._channel = channel
        self._queue = queue
        self._batch = batch
        self._single_active = single_active
        self._stop = asyncio.ensure_future(stopping.wait())
        self._coming: asyncio.Future[list[Delivery]] | None = None
        self._whole = min(65_535, BATCHES_HELD_MAX * batch.size_max)
        self._held_max = 1
        self._consumer: Consumer | None = None
        self._in_line: Consumer | None = None
        self._has_moved = False

    async def batch(self, wait_s: float, *, or_until: asyncio.Future[Any] | None = None) -> list[Delivery]:
        """The next batch; empty when none came in time or before something else was done, or when told to stop.

        Raises: ConnectionLost: the channel ended; what was taken will be delivered again.
        """
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._next())
        coming = self._coming
        waits: set[asyncio.Future[Any]] = {coming, self._stop}
        if or_until is not None:
            waits.add(or_until)
        await asyncio.wait(waits, timeout=max(0.0, wait_s), return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            return []
        self._coming = None
        return coming.result()

    def has_moved(self) -> bool:
        """Whether a single active consumer went to its next place in line since this was asked last.

        Replicas that start at once may stand between its two places; then the queue is theirs now.
        """
        moved, self._has_moved = self._has_moved, False
        return moved

    async def end(self) -> None:
        """Stop waiting; what was taken and not acknowledged goes back when the connection is closed."""
        waits: list[asyncio.Future[Any]] = [self._stop]
        if self._coming is not None:
            waits.append(self._coming)
        await end(*waits)

    async def _next(self) -> list[Delivery]:
        if self._consumer is None:
            self._consumer = await self._channel.consume(self._queue, prefetch=self._held_max)
            if self._single_active:
                self._in_line = await self._channel.consume(self._queue, prefetch=self._whole)
        wait_ms = self._batch.wait_ms_max if self._held_max > 1 else 0
        taken = await self._consumer.take(min(self._held_max, self._batch.size_max), wait_ms)
        held_max = self._held_max_after(taken)
        if held_max != self._held_max:
            # All that may be held is here and unacknowledged, so nothing is on its way that would bounce back.
            former, self._consumer, self._in_line = self._consumer, self._in_line, None
            await self._channel.cancel(former)
            self._held_max, self._has_moved = held_max, self._single_active
        return taken

    def _held_max_after(self, taken: list[Delivery]) -> int:
        """How many to hold once these were taken: more only, and only when as many as may be held were taken."""
        if len(taken) < self._held_max or self._held_max == self._whole:
            return self._held_max
        before = max(delivery.deliveries_before for delivery in taken)
        if before == 0 or (self._single_active and before < CAREFUL_FROM):
            return self._whole
        return self._held_max if before >= CAREFUL_FROM else min(WARY_MAX, self._batch.size_max)
