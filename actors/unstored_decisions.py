"""Decisions that were answered and are not stored yet; their requests are acknowledged when they are."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from itertools import groupby
from typing import Final, NamedTuple

import structlog

from actors.pulse import Pulse, utc_now
from config.settings import BatchSettings
from messaging.contracts import RouteAdvised, RouteRequested
from messaging.settled import Settled
from storage.database import Database
from storage.decisions import write_decisions
from storage.errors import StoreError, StoreRefused, StoreUnavailable
from storage.rejections import Rejection, count_rejections

log = structlog.get_logger(__name__)

UNSTORED_MAX: Final = 10_000
"""Decisions that wait for a store that does not answer. Beyond it the oldest are given up, loudly: routing goes on."""

REFUSED_MAX: Final = 1_000
"""Refusals that wait to be counted; beyond it the oldest are forgotten."""

STORE_S_MAX: Final = 3.0
"""How long a store may take to write decisions; a machine that stands still says nothing, and the next one may not."""

STORE_PAUSE_S: Final = 0.5


class Unstored(NamedTuple):
    """A decision that is not stored yet; its message, by delivery tag, is done when it is."""

    settled: Settled
    tag: int
    request: RouteRequested
    advised: RouteAdvised


class UnstoredDecisions:
    """Stores decisions, and counts refusals, in the order in which they came. They outlive a connection to the broker.

    Args:
        database: the store.
        batch: how many are stored at once, and how long one waits for others.
        pulse: where it is told that the store is away.
    """

    def __init__(self, database: Database, batch: BatchSettings, pulse: Pulse) -> None:
        self._database = database
        self._batch = batch
        self._pulse = pulse
        self._waiting: deque[Unstored] = deque()
        self._refused: deque[Rejection] = deque(maxlen=REFUSED_MAX)
        self._came = asyncio.Event()

    def waiting(self) -> list[Unstored]:
        """Those that are not stored, oldest first."""
        return list(self._waiting)

    def add(self, decision: Unstored) -> None:
        """Let a decision wait to be stored."""
        self._waiting.append(decision)
        self._came.set()

    def refused(self, rejection: Rejection) -> None:
        """Let a refusal wait to be counted."""
        self._refused.append(rejection)
        self._came.set()

    async def store_all_along(self) -> None:
        """Store what waits and what comes, for ever; while the store does not answer, it waits."""
        while True:
            while self._waiting or self._refused:
                if len(self._waiting) < self._batch.size_max:  # many at once cost the store, and this process, less
                    await asyncio.sleep(self._batch.wait_ms_max / 1000)
                try:
                    await self.store_batch(self._batch.size_max)
                    await self._count_refused()
                except StoreError as error:
                    log.warning("decisions_wait", waiting=len(self._waiting), reason=str(error))
                    self._pulse.note_error(f"{len(self._waiting)} decisions wait to be stored: {error}")
                    self._give_up_oldest()
                    await asyncio.sleep(STORE_PAUSE_S)
            self._came.clear()
            await self._came.wait()

    async def store_the_rest(self) -> None:
        """Store what waits, as the last thing; a request whose decision is not stored is delivered to somebody else."""
        with contextlib.suppress(StoreError):
            await self.store_batch(len(self._waiting))

    async def store_batch(self, size_max: int) -> None:
        """Store the oldest ones, so many at most, and acknowledge their requests.

        Raises: StoreError: they are not stored, or not known to be, and go on waiting.
        """
        batch = [self._waiting[index] for index in range(min(size_max, len(self._waiting)))]
        conflicts = 0
        try:
            async with asyncio.timeout(STORE_S_MAX):
                conflicts = await write_decisions(self._database, [(each.request, each.advised) for each in batch])
        except TimeoutError:  # what was written after all is found there the next time
            raise StoreUnavailable(f"MongoDB did not answer within {STORE_S_MAX:.0f} s") from None
        except StoreRefused as error:
            if len(batch) > 1:
                for _ in batch:
                    await self.store_batch(1)
                return
            log.error("decision_not_stored", reason=str(error))
            self._pulse.note_error(f"a decision was not stored: {error}")
        if conflicts:
            log.warning("decided_twice", decisions=conflicts)
        for _ in batch:
            self._waiting.popleft()
        _settle(batch)
        if batch:
            self._pulse.count_batch(len(batch))

    async def _count_refused(self) -> None:
        refused = list(self._refused)
        await count_rejections(self._database, refused, utc_now())
        for _ in refused:
            self._refused.popleft()

    def _give_up_oldest(self) -> None:
        lost = [self._waiting.popleft() for _ in range(len(self._waiting) - UNSTORED_MAX)]
        _settle(lost)
        if lost:
            log.error("decisions_not_stored", decisions=len(lost))


def _settle(done: Sequence[Unstored]) -> None:
    """Tell the broker that requests are done; those of a connection that is gone it has given to somebody else."""
    for settled, their in groupby(done, key=lambda each: each.settled):
        settled.add(each.tag for each in their)
