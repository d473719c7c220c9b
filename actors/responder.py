"""The loop around the router advisor: answers at once, and stores after. What it learns beside: ``router_hearing``.

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
from typing import Any, Final, NamedTuple, Protocol

import structlog

from actors.answered_requests import decision_id_of
from actors.pulse import Pulse, utc_now
from actors.router_hearing import FACTS_PREFETCH, RouterHearing
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
from storage.errors import StoreError
from storage.rejections import Rejection

log = structlog.get_logger(__name__)

STAGE = stage_named("router_advisor")

RESENT_AFTER: Final = timedelta(milliseconds=50)
"""A request older than this may have been asked, and answered by another replica, before: the store is asked first. Its
decision is stored some milliseconds after the answer, so of one sent again sooner the store would not know either."""

TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""The one header that an answer repeats (W3C Trace Context); anything else in it is not repeated."""

LOOK_UP_PART: Final = 0.5
LOOK_UP_S_MIN: Final = 0.05
"""Part of what is left until the first deadline that the store may take to say which decisions it knows; at least so
long, because less says nothing of the store."""

LOOK_UP_PAUSE_S: Final = 2.0
"""After a look-up that failed the store is not asked for so long: each would hold up re-sent requests as much again."""

REQUESTS_AT_ONCE: Final = 50

Asked = tuple[Delivery, RouteRequested]
"""A request, and the delivery that brought it."""


class Advisor(Protocol):
    """The router advisor as this loop sees it."""

    def advise(self, request: RouteRequested, now: datetime) -> RouteAdvised:
        """Decide; the same request gets the same decision. Raises: MessageMalformed: its id was another request's."""

    def remember(self, request: RouteRequested, advised: RouteAdvised) -> None:
        """Take over a decision that another replica made."""


class Answering(NamedTuple):
    """The requests of one connection: where answers go, what is done, and those that may have been answered before.

    Of all of them together the broker gives no more than the prefetch, so ``resent`` is bounded by that.
    """

    channel: Channel
    settled: Settled
    resent: asyncio.Queue[Asked]

    @classmethod
    def on(cls, channel: Channel) -> Answering:
        """Nothing is done yet."""
        return cls(channel, Settled(lambda tag: channel.acknowledge(tag, multiple=True)), asyncio.Queue())


class Responder:
    """Runs the router advisor until it is told to stop.

    Args:
        advisor: the worker.
        hearing: brings up to date what the worker knows.
        database: the store.
        settings: heartbeat and batch sizes.
        pulse: the worker's heartbeat.
    """

    def __init__(
        self,
        advisor: Advisor,
        hearing: RouterHearing,
        database: Database,
        settings: RunnerSettings,
        pulse: Pulse,
    ) -> None:
        self._advisor = advisor
        self._hearing = hearing
        self._database = database
        self._settings = settings
        self._pulse = pulse
        self._requests = Decoder([RouteRequested], from_outside=True)
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
            await self._hearing.prepare()
        learned = await facts.consume(own.name, prefetch=FACTS_PREFETCH)
        tried = asyncio.Event()
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._hearing.learn(learned, facts, tried, is_first=not self._started))
        ]
        try:
            if not self._started:
                await self._hearing.wait_for_the_past(tried, stopping)
            self._started = True
            asked = await answers.consume(STAGE.name, prefetch=2 * UNSTORED_MAX)
            log.info("started", stage=STAGE.name)
            answering = Answering.on(answers)
            tasks += [
                asyncio.create_task(self._answer(asked, answering)),
                asyncio.create_task(self._answer_resent(answering)),
                asyncio.create_task(self._unstored.store_all_along()),  # those of the last connection too
                asyncio.create_task(self._hearing.refresh_all_along()),
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

    # --- answer ------------------------------------------------------------------------------------------------------

    async def _answer(self, asked: Consumer, answering: Answering) -> None:
        while True:
            expired: set[int] = set()
            for delivery in await asked.take(REQUESTS_AT_ONCE, 0):
                try:
                    request = self._requests.decode(delivery)
                except (MessageMalformed, CardDataRefused) as error:
                    self._refuse(delivery, error, answering)
                    continue
                assert isinstance(request, RouteRequested)
                if _seconds_left(delivery, request) < 0:
                    expired.add(delivery.tag)
                elif delivery.redelivered or utc_now() - request.requested_at > RESENT_AFTER:
                    answering.resent.put_nowait((delivery, request))
                else:
                    self._decide(delivery, request, answering)
            self._shed(expired, answering.settled)
            await asyncio.sleep(0)

    async def _answer_resent(self, answering: Answering) -> None:
        """Answer what may have been answered before; nothing else waits for what the store says of it."""
        while True:
            resent = [await answering.resent.get()]
            while len(resent) < REQUESTS_AT_ONCE and not answering.resent.empty():
                resent.append(answering.resent.get_nowait())
            if awaited := self._awaited(resent, answering.settled):
                await self._recall(awaited)
            for delivery, request in self._awaited(awaited, answering.settled):
                self._decide(delivery, request, answering)
            await asyncio.sleep(0)

    def _awaited(self, asked: list[Asked], settled: Settled) -> list[Asked]:
        """Those that somebody still waits for; the others are let go."""
        expired = {delivery.tag for delivery, request in asked if _seconds_left(delivery, request) < 0}
        self._shed(expired, settled)
        return [(delivery, request) for delivery, request in asked if delivery.tag not in expired]

    def _shed(self, expired: set[int], settled: Settled) -> None:
        """Let requests go that waited here past their deadline, by this process's clock: the checkout has gone on with
        its own list. Answered oldest first, a backlog would make every later answer come too late as well."""
        if not expired:
            return
        settled.add(expired)
        log.warning("requests_expired", requests=len(expired))
        self._pulse.note_error(f"{len(expired)} requests were past their deadline before they could be answered")

    async def _recall(self, resent: list[Asked]) -> None:
        """Look for decisions that were made before, in a part of the time that is left; then it is decided anew."""
        if time.monotonic() < self._look_up_from:
            return
        left = min(_seconds_left(delivery, request) for delivery, request in resent)
        try:
            async with asyncio.timeout(max(LOOK_UP_S_MIN, LOOK_UP_PART * left)):
                found = await find_decisions(
                    self._database, [decision_id_of(request.request_id) for _, request in resent]
                )
        except (TimeoutError, StoreError):
            self._look_up_from = time.monotonic() + LOOK_UP_PAUSE_S
            return
        for request, advised in found:
            self._advisor.remember(request, advised)

    def _decide(self, delivery: Delivery, request: RouteRequested, answering: Answering) -> None:
        try:
            advised = self._advisor.advise(request, utc_now())
        except MessageMalformed as error:
            self._refuse(delivery, error, answering)
            return
        self._reply(delivery, advised, answering.channel, advised.decision_id)
        self._unstored.add(Unstored(answering.settled, delivery.tag, request, advised))

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

    def _refuse(self, delivery: Delivery, error: MessageMalformed | CardDataRefused, answering: Answering) -> None:
        """Tell the caller what is wrong; a request is worth nothing later, so it becomes no dead letter."""
        is_card_data = isinstance(error, CardDataRefused)  # of which nothing is repeated
        request_id = None if is_card_data else request_id_in(delivery.body)
        refused = RouteRefused(reason=str(error)[:500], request_id=request_id)
        self._reply(delivery, refused, answering.channel, f"ref_{uuid.uuid4().hex}")
        answering.settled.add((delivery.tag,))
        kind = "card_data" if is_card_data else "malformed"
        log.warning("rejected", stage=STAGE.name, kind=kind, reason=str(error))
        rejection = Rejection(queue=STAGE.name, kind=kind, type=type_of(RouteRequested), reason=str(error))  # type: ignore[arg-type]
        self._unstored.refused(rejection)


def _seconds_left(delivery: Delivery, request: RouteRequested) -> float:
    """How long somebody still waits for the answer; below 0: nobody does any more."""
    return request.deadline_ms / 1000 - (time.monotonic() - delivery.arrived)
