"""The loop around every worker, the only place that does its I/O, always in this order.

*take → decode → load → handle → store → publish → acknowledge.* A crash anywhere repeats the batch; whatever it said
before carries the same ids, so nothing is lost and nothing counts twice. (Longer than other modules, because that order
and what breaks it are read in one place.)
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from actors.ingestor import Refusal
from actors.pulse import Pulse, utc_now
from actors.shelves import Shelf
from actors.taking import CAREFUL_FROM, Taking
from config.settings import BatchSettings, RunnerSettings
from messaging.channel import Channel
from messaging.codec import Decoder
from messaging.connection import Connection
from messaging.consumer import Delivery
from messaging.contracts import Message, identity_of
from messaging.ending import end
from messaging.envelope import shown
from messaging.errors import CardDataRefused, ConnectionLost, MessageMalformed, PublishRefused, Unroutable
from messaging.line import Outgoing, declare_line, publish
from messaging.topology import LINE, Stage
from storage.database import Database
from storage.errors import StoreConflict, StoreError, StoreUnavailable
from storage.heartbeats import speaks_for
from storage.outbox import left_behind, mark_published
from storage.rejections import Rejection, body_digest, count_rejections

log = structlog.get_logger(__name__)

CONFLICTS_S_MAX: Final = 120.0
"""A killed worker's transaction holds its documents until MongoDB ends it, after 60 s unless its parameter
transactionLifetimeLimitSeconds says otherwise; what conflicts waits so long."""

CONFLICT_PAUSE_S_MAX: Final = 1.0
STORE_PAUSE_S: Final = 0.5
PUBLISH_PAUSE_S: Final = 0.5
STOOD_BY_S: Final = 2.0
"""Of the replicas of some stages one works and hears everything (single active consumer). One that heard nothing for so
long after its start stood by, or had nothing to hear, which costs it one more start."""

BEATS_MISSED: Final = 3
"""Heartbeats that another replica may miss before it is thought to be gone."""

SWEEP_EVERY_S: Final = 5.0


class _Stopped(Exception):
    """Told to stop while the store or a queue did not take what has to be kept: the batch is left for the next."""


class Wiring(msgspec.Struct, frozen=True, kw_only=True):
    """A stage with its worker and its shelves.

    ``handle`` is the worker's: (messages, now, known, batch id) to facts. ``tick`` says what follows from time having
    passed. ``start`` brings the worker's memory up to what the store holds. ``source`` is asked at every tick for
    messages from outside the broker (a file), or for the problem it has, in words. There are as many batches under way
    at once as there are shelves: a worker with a memory has one, a worker without may have more, each with sums of its
    own, so that the processor does not wait for the store.
    """

    stage: Stage
    shelves: tuple[Shelf, ...]
    handle: Callable[[Sequence[Any], datetime, Any, str], Iterator[Any]]
    tick: Callable[[datetime], Iterator[Any]]
    start: Callable[[], Awaitable[None]]
    source: Callable[[datetime], Iterator[Message | str]] | None = None


class _Batch(NamedTuple):
    """A batch under way; ``rejected`` is what will have to be put aside."""

    deliveries: list[Delivery]
    rejected: asyncio.Task[list[tuple[Delivery, Rejection]]]
    began: float


class Runner:
    """Runs one worker until it is told to stop.

    Args:
        wiring: the worker and what belongs to it.
        database: the store.
        settings: heartbeat, tick and batch sizes.
        pulse: the worker's heartbeat.
    """

    def __init__(self, wiring: Wiring, database: Database, settings: RunnerSettings, pulse: Pulse) -> None:
        self._wiring = wiring
        self._stage = wiring.stage
        self._database = database
        self._settings = settings
        self._batch: BatchSettings = settings.batches.of(wiring.stage.name)
        self._pulse = pulse
        outside = all(_said_outside(kind) for kind in self._stage.hears)
        self._decoder = Decoder(self._stage.hears, from_outside=outside)
        self._next_tick = self._next_sweep = 0.0
        self._stopping = asyncio.Event()
        self._channel: Channel | None = None
        self._under_way: deque[_Batch] = deque()
        self._begun = 0
        self._stands_by_since: datetime | None = None

    async def run(self, connection: Connection, stopping: asyncio.Event) -> None:
        """Work until ``stopping`` is set; the batch under way is finished, unless store or broker do not take it.

        Raises: ConnectionLost: the broker is gone; run again on a new connection.
        """
        self._stopping = stopping
        channel = self._channel = await connection.channel()
        counting = await connection.channel(confirms=False)
        await declare_line(channel)
        self._stands_by_since = utc_now() if self._stage.single_active else None
        await self._wiring.start()
        beating = asyncio.create_task(
            self._pulse.go_on(
                self._settings.heartbeat_s, lambda: self._pulse.look_at(connection, counting, self._stage.name)
            )
        )
        taking = Taking(channel, self._stage.name, self._batch, stopping, single_active=self._stage.single_active)
        log.info("started", stage=self._stage.name, batch_size_max=self._batch.size_max)
        try:
            while not stopping.is_set():
                await self._turn(taking, channel)
            await self._settle_down_to(0, channel)
        except _Stopped as stopped:
            log.warning("batch_left", stage=self._stage.name, reason=str(stopped))
        finally:
            await taking.end()
            await end(beating, *(batch.rejected for batch in self._under_way))
            self._under_way.clear()

    async def _turn(self, taking: Taking, channel: Channel) -> None:
        """Take a batch and begin with it, settle those that are done, and tick when it is time."""
        shelves = self._wiring.shelves
        oldest = self._under_way[0].rejected if self._under_way else None
        deliveries = await taking.batch(self._next_tick - time.monotonic(), or_until=oldest)
        if deliveries and self._stands_by_since is not None:
            await self._take_over((utc_now() - self._stands_by_since).total_seconds())
        if taking.has_moved():
            self._stands_by_since = utc_now()  # until the next message shows that the queue is still its own
        if any(delivery.deliveries_before >= CAREFUL_FROM for delivery in deliveries):
            await self._settle_down_to(0, channel)
            for delivery in deliveries:  # one may kill this process: what was done before it must not die with it
                self._begin([delivery], shelves[0], channel)
                await self._settle_down_to(0, channel)
        elif deliveries:
            self._begin(deliveries, shelves[self._begun % len(shelves)], channel)
        await self._settle_down_to(len(shelves) - 1, channel)
        if time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + self._settings.tick_s
            await self._tick(channel)
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + SWEEP_EVERY_S
            await self._sweep(channel)

    async def _take_over(self, stood_by_s: float) -> None:
        """Begin to work: what another replica did while this one stood by, its memory does not know."""
        if stood_by_s > STOOD_BY_S:
            log.info("takes_over", stage=self._stage.name, stood_by_s=round(stood_by_s, 1))
            await self._patiently(self._wiring.start)
        self._stands_by_since = None

    # --- one batch ---------------------------------------------------------------------------------------------------

    def _begin(self, deliveries: list[Delivery], shelf: Shelf, channel: Channel) -> None:
        self._begun += 1
        work = asyncio.create_task(self._handled(deliveries, shelf, channel))
        self._under_way.append(_Batch(deliveries, work, time.perf_counter()))

    async def _settle_down_to(self, left: int, channel: Channel) -> None:
        """Settle batches in the order they were taken: those that are done, and as many more as are too many."""
        while self._under_way and (len(self._under_way) > left or self._under_way[0].rejected.done()):
            batch = self._under_way[0]
            await asyncio.wait({batch.rejected})
            await self._settle(batch, batch.rejected.result(), channel)
            self._under_way.popleft()

    async def _settle(self, batch: _Batch, rejected: list[tuple[Delivery, Rejection]], channel: Channel) -> None:
        await self._put_aside(rejected, channel)
        aside = {delivery.tag for delivery, _ in rejected}
        done = [delivery.tag for delivery in batch.deliveries if delivery.tag not in aside]
        if done:  # never a tag that was rejected: the broker would close the channel
            channel.acknowledge(done[-1], multiple=True)
        self._pulse.count_batch(len(batch.deliveries))
        log.info(
            "batch",
            stage=self._stage.name,
            messages=len(batch.deliveries),
            rejected=len(rejected),
            ms=round((time.perf_counter() - batch.began) * 1000, 1),
        )

    async def _handled(
        self, deliveries: list[Delivery], shelf: Shelf, channel: Channel
    ) -> list[tuple[Delivery, Rejection]]:
        """Decode, handle, store and publish one batch. Returns: what has to be put aside."""
        good, messages, rejected = self._decode(deliveries)
        try:
            refusals = await self._work(messages, shelf, channel) if messages else {}
        except (ConnectionLost, StoreError, _Stopped):
            raise
        except Exception as error:
            await self._wiring.start()  # the worker may remember a part of what nobody stored
            if len(good) > 1:
                log.warning("batch_handled_singly", stage=self._stage.name, reason=type(error).__name__)
                for delivery in good:
                    rejected += await self._handled([delivery], shelf, channel)
                return rejected
            log.exception("poison", stage=self._stage.name)
            refusals = {0: f"the worker failed on it: {type(error).__name__}"}
            self._pulse.note_error(refusals[0])
        for index, reason in refusals.items():
            rejected.append((good[index], self._rejection(good[index], "refused", reason)))
        return rejected

    def _decode(
        self, deliveries: list[Delivery]
    ) -> tuple[list[Delivery], list[Message], list[tuple[Delivery, Rejection]]]:
        good: list[Delivery] = []
        messages: list[Message] = []
        rejected: list[tuple[Delivery, Rejection]] = []
        for delivery in deliveries:
            try:
                messages.append(self._decoder.decode(delivery))
                good.append(delivery)
            except CardDataRefused as error:
                rejection = Rejection(queue=self._stage.name, kind="card_data", type="", reason=str(error))
                rejected.append((delivery, rejection))
            except MessageMalformed as error:
                rejected.append((delivery, self._rejection(delivery, "malformed", error.problem)))
        return good, messages, rejected

    async def _put_aside(self, rejected: Sequence[tuple[Delivery, Rejection]], channel: Channel) -> None:
        """Keep the reasons, then let the broker move the messages to the dead letters.

        One with card data is dropped instead: a dead letter would keep the card number.
        """
        await self._count_rejected([rejection for _, rejection in rejected])
        for delivery, rejection in rejected:
            log.warning("rejected", stage=self._stage.name, kind=rejection.kind, reason=rejection.reason)
            if rejection.kind == "card_data":
                channel.acknowledge(delivery.tag)
            else:
                channel.reject(delivery.tag, requeue=False)

    async def _work(self, messages: list[Message], shelf: Shelf, channel: Channel) -> dict[int, str]:
        """Load, handle, store and publish one batch. Returns: the refused messages by index, with reasons."""
        batch_id = f"bat_{uuid.uuid4().hex}"
        pause_s, give_up = 0.01, time.monotonic() + CONFLICTS_S_MAX
        while time.monotonic() < give_up:
            now = utc_now()
            fresh = await self._patiently(lambda: shelf.fresh(messages))
            places = [index for index, is_fresh in enumerate(fresh) if is_fresh]
            kept = [messages[index] for index in places]
            if len(kept) < len(messages):
                await self._wiring.start()  # another process stored these: this one's memory may be behind the store
            if not kept:
                return {}
            known = await self._patiently(lambda kept=kept: shelf.load(kept))  # type: ignore[misc]
            facts = list(self._wiring.handle(kept, now, known, batch_id))
            try:
                await self._keep(kept, facts, known, now, batch_id, shelf, channel)
            except StoreConflict as conflict:
                log.info("conflict", stage=self._stage.name, reason=str(conflict))
                self._may_wait(str(conflict))
                await asyncio.sleep(random.uniform(0, pause_s))
                pause_s = min(2 * pause_s, CONFLICT_PAUSE_S_MAX)
                await self._wiring.start()  # what the worker remembers may be behind the store
                continue
            return {places[fact.index]: fact.reason for fact in facts if isinstance(fact, Refusal)}
        raise StoreUnavailable(f"nothing but conflicts on one batch for {CONFLICTS_S_MAX:.0f} s")

    async def _keep(
        self,
        messages: list[Message],
        facts: list[Any],
        known: Any,
        now: datetime,
        batch_id: str,
        shelf: Shelf,
        channel: Channel,
    ) -> None:
        """Store facts, then publish those that others hear."""
        outgoing = self._outgoing(facts, batch_id)
        in_outbox = await self._patiently(lambda: shelf.store(messages, facts, outgoing, known, now))
        if outgoing:
            await self._publish(channel, outgoing)
            if in_outbox:
                await self._patiently(lambda: mark_published(self._database, outgoing[0].message_id, now))

    def _outgoing(self, facts: list[Any], batch_id: str) -> list[Outgoing]:
        said = [fact for fact in facts if isinstance(fact, self._stage.says)]
        return [
            Outgoing.of(message, getattr(message, "batch_id", f"{batch_id}.{index}"))
            for index, message in enumerate(said)
        ]

    # --- time --------------------------------------------------------------------------------------------------------

    async def _tick(self, channel: Channel) -> None:
        now = utc_now()
        if self._stands_by_since is not None and not await self._speaks(self._stands_by_since, now):
            return  # it hears nothing because another one does: silence is no news
        if self._wiring.source is not None:
            for item in self._wiring.source(now):
                if isinstance(item, str):
                    log.error("source_refused", stage=self._stage.name, reason=item)
                    self._pulse.note_file(item)
                else:
                    self._pulse.note_file(None)
                    await self._publish(channel, [Outgoing.of(item, identity_of(item))])
        facts = list(self._wiring.tick(now))
        if facts:
            try:
                await self._keep([], facts, None, now, f"tck_{uuid.uuid4().hex}", self._wiring.shelves[0], channel)
            except StoreConflict as conflict:
                log.info("conflict", stage=self._stage.name, reason=str(conflict))
                await self._wiring.start()

    async def _speaks(self, since: datetime, now: datetime) -> bool:
        age_max = timedelta(seconds=BEATS_MISSED * self._settings.heartbeat_s)
        try:
            return await speaks_for(self._database, self._pulse.beat, since, now, age_max=age_max)
        except StoreError:
            return False

    async def _sweep(self, channel: Channel) -> None:
        """Publish what a replica of this stage stored and did not live to publish."""
        now = utc_now()
        for entry_id, outgoing in await self._patiently(lambda: left_behind(self._database, self._stage.name, now)):
            log.warning("outbox_swept", stage=self._stage.name, entry=entry_id)
            await self._publish(channel, outgoing)
            await self._patiently(lambda entry_id=entry_id: mark_published(self._database, entry_id, now))  # type: ignore[misc]

    # --- patience ----------------------------------------------------------------------------------------------------

    async def _patiently(self, act: Callable[[], Awaitable[Any]]) -> Any:
        """Do something at the store; while it does not answer, wait. Nothing is acknowledged meanwhile."""
        said = False
        while True:
            try:
                return await act()
            except StoreUnavailable as error:
                if not said:
                    log.warning("store_unavailable", stage=self._stage.name, reason=str(error))
                    self._pulse.note_error(str(error))
                    said = True
                self._may_wait(str(error))
                await asyncio.sleep(STORE_PAUSE_S)

    def _may_wait(self, reason: str) -> None:
        """Let a wait go on only while its batch is still ours, and nobody wants this process to end."""
        if self._channel is not None and self._channel.failed is not None:
            raise ConnectionLost(self._channel.failed)
        if self._stopping.is_set():
            raise _Stopped(reason)

    async def _publish(self, channel: Channel, outgoing: Sequence[Outgoing]) -> None:
        """Publish; while a queue down the line is full, wait: that is the back-pressure."""
        while True:
            try:
                await publish(channel, outgoing)
                return
            except (PublishRefused, Unroutable) as error:
                log.warning("publish_waits", stage=self._stage.name, reason=str(error))
                self._pulse.note_error(str(error))
                if isinstance(error, Unroutable):
                    await declare_line(channel)
                self._may_wait(str(error))
                await asyncio.sleep(PUBLISH_PAUSE_S)

    def _rejection(self, delivery: Delivery, kind: Any, reason: str) -> Rejection:
        return Rejection(
            queue=self._stage.name,
            kind=kind,
            type=shown(delivery.envelope.type),
            reason=reason,
            body_digest=body_digest(delivery.body),
        )

    async def _count_rejected(self, rejections: Sequence[Rejection]) -> None:
        """Keep the reasons; without them the dead letters still show what is wrong when they are decoded again."""
        try:
            await count_rejections(self._database, rejections, utc_now())
        except StoreError as error:
            log.warning("reasons_not_kept", stage=self._stage.name, reason=str(error))


def _said_outside(kind: type[Message]) -> bool:
    """Tell whether a message comes from the outside world rather than from an earlier stage."""
    return not any(kind in stage.says for stage in LINE)
