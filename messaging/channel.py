"""A channel: declare, publish with confirms, consume, acknowledge."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pika
from pika.channel import Channel as RawChannel
from pika.exceptions import ChannelClosedByBroker, ChannelWrongStateError, ConnectionWrongStateError

from messaging.consumer import Consumer, Delivery
from messaging.envelope import Envelope
from messaging.errors import BrokerRefused, ConnectionLost, PublishRefused, Unroutable
from messaging.topology import Queue
from messaging.wire import Wire


class Channel:
    """One AMQP channel. Everything that waits ends with an error when the channel does."""

    def __init__(self, raw: RawChannel) -> None:
        self._raw = raw
        self._wire: Wire = raw.connection
        self._confirms = False
        self._tag = 0
        self._waiting: OrderedDict[int, tuple[asyncio.Future[None] | None, str]] = OrderedDict()
        self._returned: set[str] = set()
        self._calls: set[asyncio.Future[Any]] = set()
        self._consumers: list[Consumer] = []
        self.failed: str | None = None
        raw.add_on_close_callback(self._on_closed)
        raw.add_on_return_callback(self._on_returned)
        raw.add_on_cancel_callback(lambda _: self.fail("the broker cancelled the consumer: its queue was deleted"))

    # --- declare -----------------------------------------------------------------------------------------------------

    def confirm(self) -> asyncio.Future[Any]:
        """Ask the broker to confirm every message published on this channel."""
        self._confirms = True
        return self._call(lambda done: self._raw.confirm_delivery(self._on_confirmed, callback=done))

    async def declare_exchange(self, name: str, kind: str) -> None:
        """Declare a durable exchange.

        Raises: BrokerRefused: it exists with other properties.
        """
        await self._call(lambda done: self._raw.exchange_declare(name, exchange_type=kind, durable=True, callback=done))

    async def declare_queue(self, queue: Queue) -> None:
        """Declare a queue.

        Raises: BrokerRefused: it exists with other properties.
        """
        await self._call(
            lambda done: self._raw.queue_declare(
                queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=queue.arguments,
                callback=done,
            )
        )

    async def declare_reply_queue(self) -> str:
        """Declare a private queue with a name of the broker's choice, gone when this connection is."""
        frame = await self._call(
            lambda done: self._raw.queue_declare("", exclusive=True, auto_delete=True, callback=done)
        )
        return str(frame.method.queue)

    async def count_ready(self, queue: str) -> int:
        """Count the messages that wait in a queue.

        Raises: BrokerRefused: there is no such queue.
        """
        frame = await self._call(lambda done: self._raw.queue_declare(queue, passive=True, callback=done))
        return int(frame.method.message_count)

    async def bind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Let a queue hear a routing key."""
        await self._call(lambda done: self._raw.queue_bind(queue, exchange, routing_key=routing_key, callback=done))

    # --- publish -----------------------------------------------------------------------------------------------------

    def send(self, body: bytes, envelope: Envelope, *, exchange: str, routing_key: str) -> None:
        """Publish without waiting: for answers, which are worth nothing once they are late.

        Raises: ConnectionLost: the channel is closed.
        """
        self._publish(body, envelope, exchange, routing_key, mandatory=False, confirmed=None)

    @property
    def unconfirmed(self) -> int:
        """How many published messages the broker has not confirmed yet; always 0 without confirms."""
        return len(self._waiting)

    def publish(
        self, body: bytes, envelope: Envelope, *, exchange: str, routing_key: str, mandatory: bool = True
    ) -> asyncio.Future[None]:
        """Publish; the future is done when the broker has taken the message (on disk, for a persistent one).

        Raises (through the future):
            Unroutable: mandatory, and no queue hears it.
            PublishRefused: a queue that hears it is full.
            ConnectionLost: unknown whether it arrived; publish it again with the same id.
        """
        assert self._confirms, "a channel without confirms cannot tell when a message was taken"
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._publish(body, envelope, exchange, routing_key, mandatory=mandatory, confirmed=confirmed)
        except ConnectionLost as error:
            confirmed.set_exception(error)
        return confirmed

    def _publish(
        self,
        body: bytes,
        envelope: Envelope,
        exchange: str,
        routing_key: str,
        *,
        mandatory: bool,
        confirmed: asyncio.Future[None] | None,
    ) -> None:
        if self.failed is not None or not self._raw.is_open:
            raise ConnectionLost(self.failed or "the channel is closing")
        try:
            self._wire.publish(
                body,
                envelope,
                channel=self._raw.channel_number,
                exchange=exchange,
                routing_key=routing_key,
                mandatory=mandatory,
            )
        except ConnectionWrongStateError as error:
            raise ConnectionLost(str(error)) from None
        if self._confirms:  # else nobody would ever take it out again
            self._tag += 1
            self._waiting[self._tag] = (confirmed, envelope.message_id)

    def _on_confirmed(self, frame: pika.frame.Method) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        taken = isinstance(frame.method, pika.spec.Basic.Ack)
        if not multiple:
            self._settle(tag, taken)
            return
        while self._waiting and next(iter(self._waiting)) <= tag:
            self._settle(next(iter(self._waiting)), taken)

    def _settle(self, tag: int, taken: bool) -> None:
        confirmed, message_id = self._waiting.pop(tag, (None, ""))
        unheard = message_id in self._returned
        self._returned.discard(message_id)
        if confirmed is None or confirmed.done():
            return
        if unheard:
            confirmed.set_exception(Unroutable("no queue hears this message; is the line declared?"))
        elif taken:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(PublishRefused("the broker refused the message: its queue is full"))

    def _on_returned(self, _: object, method: object, properties: pika.BasicProperties, body: bytes) -> None:
        # The broker returns an unheard message before it confirms it.
        self._returned.add(Envelope.of(properties).message_id)

    # --- consume -----------------------------------------------------------------------------------------------------

    async def consume(self, queue: str, *, prefetch: int, no_ack: bool = False) -> Consumer:
        """Start to take messages from a queue.

        Args:
            queue: its name.
            prefetch: the most messages taken and not yet acknowledged.
            no_ack: let the broker forget a message once it is sent.
        Raises: BrokerRefused: there is no such queue, or somebody else owns it.
        """
        if not no_ack:
            await self._call(lambda done: self._raw.basic_qos(prefetch_count=prefetch, callback=done))
        consumer = Consumer(queue)

        def on_message(
            _: object, method: pika.spec.Basic.Deliver, properties: pika.BasicProperties, body: bytes
        ) -> None:
            consumer.put(Delivery(method.delivery_tag, method.redelivered, Envelope.of(properties), body))

        started = await self._call(
            lambda done: self._raw.basic_consume(queue, on_message, auto_ack=no_ack, callback=done)
        )
        consumer.tag = started.method.consumer_tag
        self._consumers.append(consumer)
        if self.failed is not None:
            consumer.fail(self.failed)
        else:
            self._wire.hand_to(consumer, self._raw.channel_number)
        return consumer

    async def cancel(self, consumer: Consumer) -> None:
        """Take no more messages for a consumer; those it has must still be acknowledged."""
        self._wire.hand_no_more(consumer, self._raw.channel_number)
        await self._call(lambda done: self._raw.basic_cancel(consumer.tag, callback=done))
        self._consumers.remove(consumer)

    def acknowledge(self, tag: int, *, multiple: bool = False) -> None:
        """Tell the broker that a message (with ``multiple``: and all before it) is done."""
        self._quietly(lambda: self._raw.basic_ack(tag, multiple=multiple))

    def reject(self, tag: int, *, requeue: bool) -> None:
        """Give a message back to its queue, or to the dead letters."""
        self._quietly(lambda: self._raw.basic_reject(tag, requeue=requeue))

    def _quietly(self, act: Callable[[], object]) -> None:
        """An acknowledgement on a dead channel is void: the broker has redelivered the message already."""
        try:
            act()
        except (ChannelWrongStateError, ConnectionWrongStateError):
            return

    # --- end ---------------------------------------------------------------------------------------------------------

    def fail(self, reason: str) -> None:
        """End everything that waits on this channel."""
        if self.failed is not None:
            return
        self.failed = reason
        waiting = [confirmed for confirmed, _ in self._waiting.values() if confirmed is not None]
        self._waiting.clear()
        for future in (*waiting, *self._calls):
            if not future.done():
                future.set_exception(ConnectionLost(reason))
        for consumer in self._consumers:
            self._wire.hand_no_more(consumer, self._raw.channel_number)
            consumer.fail(reason)

    def _on_closed(self, _: object, reason: BaseException) -> None:
        if isinstance(reason, ChannelClosedByBroker):
            error = BrokerRefused(f"RabbitMQ refused: {reason.reply_text}")
            for future in self._calls:
                if not future.done():
                    future.set_exception(error)
        self.fail(f"channel ended: {reason}")

    def _call(self, start: Callable[[Callable[[Any], None]], object]) -> asyncio.Future[Any]:
        """Start a method of pika that calls back, and wait for the answer."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.add(answer)
        answer.add_done_callback(self._calls.discard)
        try:
            start(lambda frame: None if answer.done() else answer.set_result(frame))
        except (ChannelWrongStateError, ConnectionWrongStateError) as error:
            answer.set_exception(ConnectionLost(str(error)))
        return answer
