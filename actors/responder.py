"""The loop around the router advisor: answers at once, stores after, and learns from what flows down the line.

A request is answered first and acknowledged only when its decision is stored. If this process dies in between, the
request is delivered again, to nobody's harm: the checkout has its answer, and the decision is made once more under the
same id.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog

from actors.answered_requests import decision_id_of
from actors.pulse import Pulse, utc_now
from actors.unstored_decisions import UNSTORED_MAX, Unstored, UnstoredDecisions
from config.settings import RunnerSettings
from messaging.channel import Channel
from messaging.codec import Decoder, encode, request_id_in
from messaging.connection import Connection
from messaging.consumer import Consumer, Delivery
from messaging.contracts import Message, RouteAdvised, RouteRefused, RouteRequested, type_of
from messaging.ending import end
from messaging.envelope import Envelope
from messaging.errors import CardDataRefused, MessageMalformed
from messaging.line import declare_line, declare_queue
from messaging.settled import Settled
from messaging.topology import replica_queue, stage_named
from storage.database import Database
from storage.decisions import find_decisions
from storage.errors import StoreError, StoreRefused
from storage.rejections import Rejection

log = structlog.get_logger(__name__)

STAGE = stage_named("router_advisor")

RESENT_AFTER: Final = timedelta(milliseconds=100)
"""A request older than this may have been asked, and answered by another replica, before: the store is asked first."""

FACTS_PREFETCH: Final = 100
"""Facts taken from the broker and not yet learned; the others wait there, within the bound of the replica's queue."""

TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""The one header that an answer repeats (W3C Trace Context); anything else in it is not repeated."""

REFRESH_S: Final = 10.0
"""How often it is looked whether the rules changed, a newer model serves, or an order holds that nobody told of."""

START_S_MAX: Final = 10.0
"""How long the first answer waits for what the store knows; that it is away is noticed in two seconds."""

LOOK_UP_S_MAX: Final = 0.05
LOOK_UP_PAUSE_S: Final = 2.0
"""After a look-up that failed the store is not asked for so long: each would hold up routing by as much again."""

STORE_PAUSE_S: Final = 0.5
FACTS_AT_ONCE: Final = 20
REQUESTS_AT_ONCE: Final = 50


class Advisor(Protocol):
    """The router advisor as this loop sees it."""

    def advise(self, request: RouteRequested, now: datetime) -> RouteAdvised:
        """Decide; the same request gets the same decision. Raises: MessageMalformed: its id was another request's."""

    def remember(self, request: RouteRequested, advised: RouteAdvised) -> None:
        """Take over a decision that another replica made."""

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


class Responder:
    """Runs the router advisor until it is told to stop.

    Args:
        advisor: the worker.
        upkeep: of what the worker knows; refreshed every ``REFRESH_S``.
        database: the store.
        settings: heartbeat and batch sizes.
        pulse: the worker's heartbeat.
    """

    def __init__(
        self,
        advisor: Advisor,
        upkeep: Upkeep,
        database: Database,
        settings: RunnerSettings,
        pulse: Pulse,
    ) -> None:
        self._advisor = advisor
        self._upkeep = upkeep
        self._database = database
        self._settings = settings
        self._pulse = pulse
        self._requests = Decoder([RouteRequested], from_outside=True)
        self._facts = Decoder(STAGE.each_replica_hears, from_outside=False)
        self._unstored = UnstoredDecisions(database, settings.batches.of(STAGE.name), pulse)
        self._look_up_from = 0.0
        self._started = False

    async def run(self, connection: Connection, stopping: asyncio.Event) -> None:
        """Answer until ``stopping`` is set; what was answered is stored before the end.

        Raises: ConnectionLost: the broker is gone; run again on a new connection.
        """
        answers = await connection.channel(confirms=False)
        facts = await connection.channel(confirms=False)
        counting = await connection.channel(confirms=False)
        await declare_line(facts)
        own = replica_queue(STAGE, uuid.uuid4().hex[:12])
        await declare_queue(facts, own)
        if not self._started:
            await self._upkeep.prepare()
        learned = await facts.consume(own.name, prefetch=FACTS_PREFETCH)
        tried = asyncio.Event()
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._learn(learned, facts, tried, is_first=not self._started))
        ]
        try:
            if not self._started:
                await self._wait_for_the_past(tried)
            self._started = True
            asked = await answers.consume(STAGE.name, prefetch=2 * UNSTORED_MAX)
            log.info("started", stage=STAGE.name)
            tasks += [
                asyncio.create_task(self._answer(asked, answers)),
                asyncio.create_task(self._unstored.store_all_along()),  # those of the last connection too
                asyncio.create_task(self._refresh_now_and_then()),
                asyncio.create_task(
                    self._pulse.go_on(
                        self._settings.heartbeat_s, lambda: self._pulse.look_at(connection, counting, STAGE.name)
                    )
                ),
                asyncio.create_task(stopping.wait()),
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(*tasks)
            if stopping.is_set():  # only now: two stores at once would take the same decisions out
                await self._unstored.store_the_rest()

    async def _wait_for_the_past(self, tried: asyncio.Event) -> None:
        """Let the first answer know what the store holds, if it tells so soon; else that is learned beside answers."""
        try:
            async with asyncio.timeout(START_S_MAX):
                await tried.wait()
        except TimeoutError:
            self._say_behind(f"it was not learned within {START_S_MAX:g} s; that goes on")

    def _say_behind(self, reason: str) -> None:
        log.warning("not_up_to_date", stage=STAGE.name, reason=reason)
        self._pulse.note_error(f"payments are routed without what the store knows: {reason}")

    # --- answer ------------------------------------------------------------------------------------------------------

    async def _answer(self, asked: Consumer, channel: Channel) -> None:
        settled = Settled(lambda tag: channel.acknowledge(tag, multiple=True))
        while True:
            resent: list[tuple[Delivery, RouteRequested]] = []
            expired: list[int] = []
            for delivery in await asked.take(REQUESTS_AT_ONCE, 0):
                try:
                    request = self._requests.decode(delivery)
                except (MessageMalformed, CardDataRefused) as error:
                    self._refuse(delivery, error, channel, settled)
                    continue
                assert isinstance(request, RouteRequested)
                if time.monotonic() - delivery.arrived > request.deadline_ms / 1000:
                    expired.append(delivery.tag)
                    continue
                now = utc_now()
                if delivery.redelivered or now - request.requested_at > RESENT_AFTER:
                    resent.append((delivery, request))
                else:
                    self._decide(delivery, request, channel, settled, now)
            if expired:
                self._shed(expired, settled)
            if resent:
                await self._recall([decision_id_of(request.request_id) for _, request in resent])
                for delivery, request in resent:
                    self._decide(delivery, request, channel, settled, utc_now())
            await asyncio.sleep(0)

    def _shed(self, expired: list[int], settled: Settled) -> None:
        """Let requests go that waited here past their deadline, by this process's clock: the checkout has gone on with
        its own list. Answered oldest first, a backlog would make every later answer come too late as well."""
        settled.add(expired)
        log.warning("requests_expired", requests=len(expired))
        self._pulse.note_error(f"{len(expired)} requests were past their deadline before they could be answered")

    async def _recall(self, decision_ids: list[str]) -> None:
        """Look for decisions that were made before; a store that is slow or away must not hold up routing."""
        if time.monotonic() < self._look_up_from:
            return
        try:
            async with asyncio.timeout(LOOK_UP_S_MAX):
                found = await find_decisions(self._database, decision_ids)
        except (TimeoutError, StoreError):
            self._look_up_from = time.monotonic() + LOOK_UP_PAUSE_S
            return
        for request, advised in found:
            self._advisor.remember(request, advised)

    def _decide(
        self, delivery: Delivery, request: RouteRequested, channel: Channel, settled: Settled, now: datetime
    ) -> None:
        try:
            advised = self._advisor.advise(request, now)
        except MessageMalformed as error:
            self._refuse(delivery, error, channel, settled)
            return
        self._reply(delivery, advised, channel, advised.decision_id)
        self._unstored.add(Unstored(settled, delivery.tag, request, advised))

    def _reply(self, delivery: Delivery, message: Message, channel: Channel, message_id: str) -> None:
        if not delivery.envelope.reply_to:
            return  # nobody waits; the decision is a stored fact all the same
        trace = delivery.envelope.headers.get("traceparent")
        traced = isinstance(trace, str) and TRACEPARENT.fullmatch(trace)
        envelope = Envelope(
            type=type_of(message),
            message_id=message_id,
            correlation_id=delivery.envelope.correlation_id,
            persistent=False,
            headers={"traceparent": trace} if traced else {},
        )
        channel.send(encode(message), envelope, exchange="", routing_key=delivery.envelope.reply_to)

    def _refuse(
        self, delivery: Delivery, error: MessageMalformed | CardDataRefused, channel: Channel, settled: Settled
    ) -> None:
        """Tell the caller what is wrong; a request is worth nothing later, so it becomes no dead letter."""
        is_card_data = isinstance(error, CardDataRefused)  # of which nothing is repeated
        request_id = None if is_card_data else request_id_in(delivery.body)
        refused = RouteRefused(reason=str(error)[:500], request_id=request_id)
        self._reply(delivery, refused, channel, f"ref_{uuid.uuid4().hex}")
        settled.add((delivery.tag,))
        kind = "card_data" if is_card_data else "malformed"
        log.warning("rejected", stage=STAGE.name, kind=kind, reason=str(error))
        rejection = Rejection(queue=STAGE.name, kind=kind, type=type_of(RouteRequested), reason=str(error))  # type: ignore[arg-type]
        self._unstored.refused(rejection)

    async def _refresh_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                async with asyncio.timeout(REFRESH_S):
                    await self._upkeep.refresh()
            except (TimeoutError, StoreError) as error:  # what serves goes on serving
                log.warning("not_refreshed", stage=STAGE.name, reason=str(error) or "MongoDB is too slow")

    # --- learn -------------------------------------------------------------------------------------------------------

    async def _learn(self, learned: Consumer, channel: Channel, tried: asyncio.Event, *, is_first: bool) -> None:
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
                for _ in self._advisor.handle([message], utc_now()):
                    pass
                await asyncio.sleep(0)  # requests come first
