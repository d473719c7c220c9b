"""What routing earned and missed, told anew now and then; a page shows what is known and waits for nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog
from aiohttp import web

from config.settings import StoreSettings
from storage.read_models.routing_hindsight import RoutingHindsight, read_hindsight
from web.beside import Beside, opened
from web.keys import BESIDE, HINDSIGHT, SETTINGS
from web.time_range import time_range

KEEP_S: Final = 60.0
"""It takes seconds of a processor, and a day of decisions changes little within a minute."""

SHOWN_S_MAX: Final = 600.0
"""What is older is not shown while it is told anew."""

log = structlog.get_logger("web")


class HindsightReads:
    """Keeps one answer per range of time, and computes one at a time.

    Args:
        settings: where the decisions are.
        beside: computes.
    """

    def __init__(self, settings: StoreSettings, beside: Beside) -> None:
        self._settings = settings
        self._beside = beside
        self._answers: dict[str, tuple[float, RoutingHindsight]] = {}
        self._under_way: dict[str, asyncio.Task[RoutingHindsight]] = {}

    async def get(self, name: str) -> RoutingHindsight:
        """The answer for a range, a minute old at most.

        Args:
            name: a key of ``web.time_range.RANGES``.
        Raises: StoreUnavailable: MongoDB does not answer, or the process ended.
        """
        known = self._answers.get(name)
        if known is not None and time.monotonic() - known[0] < KEEP_S:
            return known[1]
        return await asyncio.shield(self._asked(name))

    def at_hand(self, name: str) -> RoutingHindsight | None:
        """What is known now, some minutes old at most; None: nothing yet. A newer answer is on its way if need be."""
        known = self._answers.get(name)
        age = None if known is None else time.monotonic() - known[0]
        if age is None or age >= KEEP_S:
            self._asked(name)
        return None if known is None or age is None or age >= SHOWN_S_MAX else known[1]

    async def close(self) -> None:
        """Wait for nothing more."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _asked(self, name: str) -> asyncio.Task[RoutingHindsight]:
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.create_task(self._told(name))
            self._under_way[name] = task
            task.add_done_callback(lambda done: self._finished(name, done))
        return task

    async def _told(self, name: str) -> RoutingHindsight:
        now = datetime.now(UTC)
        asked = time_range(now, name)
        body = await self._beside.done(self._beside.begin(_read, self._settings, asked.since, asked.until, now))
        found = msgspec.msgpack.decode(body, type=RoutingHindsight)
        self._answers[name] = time.monotonic(), found
        return found

    def _finished(self, name: str, done: asyncio.Task[RoutingHindsight]) -> None:
        del self._under_way[name]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.warning("hindsight of the routing could not be told", error=str(error))


def _read(settings: StoreSettings, since: datetime, until: datetime, now: datetime) -> bytes:
    """Read and judge, in the process for it. Returns: RoutingHindsight as msgpack."""
    return asyncio.run(_judged(settings, since, until, now))


async def _judged(settings: StoreSettings, since: datetime, until: datetime, now: datetime) -> bytes:
    async with opened(settings) as database:
        return msgspec.msgpack.encode(await read_hindsight(database, since, until, now))


async def hindsight_reads(app: web.Application) -> AsyncIterator[None]:
    """Give an application its hindsight; it needs the process beside it."""
    app[HINDSIGHT] = HindsightReads(app[SETTINGS].store, app[BESIDE])
    yield
    await app[HINDSIGHT].close()
