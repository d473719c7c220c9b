"""What a router hears and reads beside its answers: what the store holds at its start, facts, and what nobody told."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final, Protocol

import structlog

from actors.pulse import Pulse, utc_now
from messaging.channel import Channel
from messaging.codec import Decoder
from messaging.consumer import Consumer
from messaging.ending import end
from messaging.errors import MessageMalformed
from messaging.topology import stage_named
from storage.errors import StoreError, StoreRefused

log = structlog.get_logger(__name__)

STAGE: Final = stage_named("router_advisor")

FACTS_PREFETCH: Final = 100
"""Facts taken from the broker and not yet learned; the others wait there, within the bound of the replica's queue."""

REFRESH_S: Final = 10.0
"""How often it is looked whether the rules changed, a newer model serves, or an order holds that nobody told of."""

START_S_MAX: Final = 10.0
"""How long the first answer waits for what the store knows; that it is away is noticed in two seconds."""

STORE_PAUSE_S: Final = 0.5
FACTS_AT_ONCE: Final = 20


class Learner(Protocol):
    """The router advisor as far as it learns."""

    def handle(self, messages: Any, now: datetime, known: Any = None) -> Any:
        """Learn from facts."""


class Upkeep(Protocol):
    """What keeps the advisor up to the store and to files."""

    async def prepare(self) -> None:
        """Do what must be done before the first answer. Raises: StoreError: the store is needed for it, and away."""

    async def start(self) -> None:
        """Bring the advisor's memory up to what the store holds. Raises: StoreError: it stays as it was."""

    async def refresh(self) -> None:
        """Read anew what may have changed without word of it. Raises: StoreError: some of it the next time."""


class RouterHearing:
    """Brings up to date what a router knows, beside its answers.

    Args:
        learner: the worker.
        upkeep: reads the store and files for it, every ``REFRESH_S`` what may have changed there.
        pulse: where it is told that the store is away.
    """

    def __init__(self, learner: Learner, upkeep: Upkeep, pulse: Pulse) -> None:
        self._learner = learner
        self._upkeep = upkeep
        self._pulse = pulse
        self._facts = Decoder(STAGE.each_replica_hears, from_outside=False)

    async def prepare(self) -> None:
        """Do what must be done before the first answer. Raises: StoreError: the store is needed for it, and away."""
        await self._upkeep.prepare()

    async def wait_for_the_past(self, tried: asyncio.Event, stopping: asyncio.Event) -> None:
        """Let the first answer know what the store holds, if it tells so soon; else that is learned beside answers."""
        either = [asyncio.create_task(event.wait()) for event in (tried, stopping)]
        done, _ = await asyncio.wait(either, timeout=START_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        await end(*either)
        if not done:
            self._say_behind(f"it was not learned within {START_S_MAX:g} s; that goes on")

    def _say_behind(self, reason: str) -> None:
        log.warning("not_up_to_date", stage=STAGE.name, reason=reason)
        self._pulse.note_error(f"payments are routed without what the store knows, pauses and overrides too: {reason}")

    async def learn(self, learned: Consumer, channel: Channel, tried: asyncio.Event, *, is_first: bool) -> None:
        """Learn what the store holds, which other routers heard before, then from facts; from facts alone meanwhile.

        ``tried`` is set when the store was asked once, whatever it said.
        Raises: StoreRefused: at the first start; the store is not as it must be, which somebody has to mend.
        """
        loop, is_behind = asyncio.get_running_loop(), True
        while is_behind:
            try:
                await self._upkeep.start()
                is_behind = False
                log.info("up_to_date", stage=STAGE.name)
            except StoreError as error:
                if is_first and not tried.is_set() and isinstance(error, StoreRefused):
                    raise
                self._say_behind(str(error))
            finally:
                tried.set()
            if is_behind:
                await self._hear(learned, channel, until=loop.time() + STORE_PAUSE_S)
        await self._hear(learned, channel, until=None)

    async def _hear(self, learned: Consumer, channel: Channel, *, until: float | None) -> None:
        """Learn from facts until this moment of the loop's clock; None: for ever."""
        loop = asyncio.get_running_loop()
        while until is None or loop.time() < until:
            try:
                async with asyncio.timeout_at(until):
                    deliveries = await learned.take(FACTS_AT_ONCE, 0)
            except TimeoutError:
                return
            for delivery in deliveries:
                channel.acknowledge(delivery.tag)
                try:
                    message = self._facts.decode(delivery)
                except MessageMalformed as error:
                    log.warning("fact_malformed", stage=STAGE.name, reason=error.problem)
                    continue
                for _ in self._learner.handle([message], utc_now()):
                    pass
                await asyncio.sleep(0)  # requests come first

    async def refresh_all_along(self) -> None:
        """Notice now and then what changed without word of it, for ever."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                async with asyncio.timeout(REFRESH_S):
                    await self._upkeep.refresh()
            except (TimeoutError, StoreError) as error:  # what serves goes on serving
                log.warning("not_refreshed", stage=STAGE.name, reason=str(error) or "MongoDB is too slow")
