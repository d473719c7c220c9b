"""What a Python checkout uses: ask for a route, report what happened. Has its own list for when nobody answers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from messaging.channel import Channel
from messaging.codec import Decoder, encode
from messaging.connection import Connection
from messaging.consumer import Consumer
from messaging.contracts import AttemptReported, RouteAdvised, RouteRefused, RouteRequested, type_of
from messaging.ending import end
from messaging.envelope import Envelope
from messaging.errors import (
    BrokerRefused,
    ConnectionLost,
    MessageMalformed,
    MessagingError,
    PublishRefused,
    Unroutable,
)
from messaging.line import Outgoing, declare_line, publish
from messaging.topology import EXCHANGE

REPLIES_PREFETCH: Final = 1_000
DEADLINE_MS_MAX: Final = 2_000
"""No request lives longer than that, in the broker neither."""

RESEND_PAUSE_S: Final = 0.25
RECONNECT_PAUSE_S: Final = 5
"""After a refusal: somebody has to mend something first."""

RECONNECT_WAIT_S_MAX: Final = 3_600
"""How long the client goes on looking for a lost broker; meanwhile every route is a fallback."""

log = structlog.get_logger(__name__)


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The gateways in the order to try them, and where that order comes from.

    None where the router says that no gateway may take the payment, because of what they take, of a rule or of an
    operator; ``decision.excluded`` says which and why.
    """

    gateways: list[str]
    decision: RouteAdvised | None
    elapsed_ms: float

    @property
    def answered(self) -> bool:
        """True when the router answered in time; False for the checkout's own list."""
        return self.decision is not None

    @property
    def refused(self) -> bool:
        """True when no gateway may take the payment: it must not be made, also not at the checkout's own list."""
        return self.decision is not None and not self.decision.ranking


class RoutingClient:
    """A connection of one checkout service. Made by ``connect``; safe to use from many tasks of one event loop.

    A lost connection is made anew in the background. Meanwhile ``route`` answers at once with the fallback, and
    ``report`` waits, so that no report is lost while the process lives.
    """

    def __init__(self, url: str, fallback: Sequence[str], name: str) -> None:
        self._url = url
        self._fallback = list(fallback)
        self._name = name
        self._waiting: dict[str, list[asyncio.Future[RouteAdvised]]] = {}
        self._decoder = Decoder([RouteAdvised, RouteRefused], from_outside=False)
        self._connected = asyncio.Event()
        self._connection: Connection | None = None
        self._requests: Channel | None = None
        self._reports: Channel | None = None
        self._reply_to = ""
        self._keeper: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls, url: str, *, fallback: Sequence[str], name: str = "checkout", wait_s_max: float = 10
    ) -> RoutingClient:
        """Connect to RabbitMQ.

        Args:
            url: AMQP URL.
            fallback: the gateways to try when the router does not answer in time, best first; at least one.
            name: shown in RabbitMQ's list of connections.
            wait_s_max: how long to try, seconds.
        Raises:
            BrokerUnavailable: nobody answered in time.
            BrokerRefused: wrong user, password or virtual host.
        """
        if not fallback:
            raise ValueError("a checkout needs at least one gateway to fall back to")
        client = cls(url, fallback, name)
        replies = await client._open(wait_s_max)
        client._keeper = asyncio.create_task(client._keep(replies), name="routing-client")
        return client

    async def route(self, request: RouteRequested, *, timeout_ms: float | None = None) -> Route:
        """Ask which gateway to use. Never fails because a router is slow, down or overloaded.

        Args:
            request: the payment; use the same ``request_id`` when asking again.
            timeout_ms: how long to wait, milliseconds; the router is told, as the request's deadline. None: its own.
        Returns: the router's ranking, or the fallback list when none came in time: those that may be tried, the ones
            that failed for the order already last.
        Raises: MessageMalformed: the router cannot read the request; says what and where.
        """
        began = time.perf_counter()
        if timeout_ms is not None:  # a router lets go what waits there past its deadline
            request = msgspec.structs.replace(request, deadline_ms=min(DEADLINE_MS_MAX, max(1, math.ceil(timeout_ms))))
        timeout_s = (request.deadline_ms if timeout_ms is None else timeout_ms) / 1000
        channel = self._requests
        answer: asyncio.Future[RouteAdvised] = asyncio.get_running_loop().create_future()
        decision: RouteAdvised | None = None
        if channel is not None and self._connected.is_set():
            waiting = self._waiting.setdefault(request.request_id, [])
            waiting.append(answer)
            envelope = Envelope(
                type=type_of(request),
                message_id=request.request_id,
                correlation_id=request.request_id,
                reply_to=self._reply_to,
                expiration_ms=max(1, int(timeout_s * 1000)),
                persistent=False,
            )
            taken = channel.publish(
                encode(request), envelope, exchange=EXCHANGE, routing_key=envelope.type, mandatory=True
            )
            taken.add_done_callback(lambda done: _give_up(done, answer))
            try:
                async with asyncio.timeout(timeout_s):
                    decision = await answer
            except (TimeoutError, ConnectionLost, PublishRefused, Unroutable):
                decision = None
            finally:
                waiting.remove(answer)
                if not waiting and self._waiting.get(request.request_id) is waiting:
                    del self._waiting[request.request_id]
        gateways = self._own(request) if decision is None else [ranked.gateway for ranked in decision.ranking]
        return Route(gateways=gateways, decision=decision, elapsed_ms=(time.perf_counter() - began) * 1000)

    def _own(self, request: RouteRequested) -> list[str]:
        """The checkout's own list for a payment."""
        failed = {failure.gateway for failure in request.previous_failures}
        allowed = [name for name in self._fallback if not request.candidates or name in request.candidates]
        return sorted(allowed or request.candidates, key=failed.__contains__)

    async def report(self, attempt: AttemptReported) -> None:
        """Report an attempt; returns when the broker has it on disk. Sent again, with the same id, until it has.

        Cancel it (``asyncio.timeout``) to stop trying; sending the same report again later is safe.
        """
        message = Outgoing.of(attempt, attempt.event_id)
        while True:
            await self._connected.wait()
            channel = self._reports
            try:
                if channel is not None:
                    await publish(channel, [message])
                    return
            except (ConnectionLost, PublishRefused) as error:
                log.warning("report_sent_again", event_id=attempt.event_id, reason=str(error))
            await asyncio.sleep(RESEND_PAUSE_S)

    async def close(self) -> None:
        """Close the connection. Reports that are under way must be awaited before."""
        if self._keeper is not None:
            await end(self._keeper)
        self._connected.clear()
        if self._connection is not None:
            await self._connection.close()

    async def _open(self, wait_s_max: float) -> Consumer:
        if self._connection is not None:
            await self._connection.close()  # one that opened and was refused later
        connection = await Connection.open(self._url, name=self._name, wait_s_max=wait_s_max)
        self._connection = connection
        self._reports = await connection.channel()
        await declare_line(self._reports)
        self._requests = await connection.channel()
        self._reply_to = await self._requests.declare_reply_queue()
        replies = await self._requests.consume(self._reply_to, prefetch=REPLIES_PREFETCH, no_ack=True)
        self._connected.set()
        return replies

    async def _keep(self, replies: Consumer) -> None:
        """Take the answers; when the connection ends, make a new one."""
        while True:
            try:
                await self._take_answers(replies)
            except ConnectionLost as error:
                self._connected.clear()
                log.warning("connection_lost", reason=str(error))
            for answer in [each for waiting in self._waiting.values() for each in waiting]:
                if not answer.done():
                    answer.set_exception(ConnectionLost("the connection ended before the answer came"))
            while not self._connected.is_set():
                try:
                    replies = await self._open(RECONNECT_WAIT_S_MAX)
                except MessagingError as error:  # also a refusal: the broker may be starting, or its users change
                    log.warning("reconnecting", reason=str(error))
                    await asyncio.sleep(RECONNECT_PAUSE_S if isinstance(error, BrokerRefused) else RESEND_PAUSE_S)

    async def _take_answers(self, replies: Consumer) -> None:
        while True:
            for delivery in await replies.take(REPLIES_PREFETCH, 0):
                waiting = self._waiting.get(delivery.envelope.correlation_id or "", ())
                answers = [answer for answer in waiting if not answer.done()]
                if not answers:
                    continue  # too late: the checkout has gone on with its own list
                try:
                    decision = self._decoder.decode_body(delivery.body)
                except MessageMalformed as error:
                    log.warning("answer_malformed", reason=error.problem)
                    continue
                for answer in answers:  # one request may have been sent, and be waited for, several times
                    if isinstance(decision, RouteAdvised):
                        answer.set_result(decision)
                    elif isinstance(decision, RouteRefused):
                        answer.set_exception(MessageMalformed(decision.reason))


def _give_up(taken: asyncio.Future[None], answer: asyncio.Future[RouteAdvised]) -> None:
    """End the wait at once when the broker did not take the request."""
    if taken.cancelled():
        return
    error = taken.exception()
    if error is not None and not answer.done():
        answer.set_exception(error)
