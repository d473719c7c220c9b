"""The line at the broker: declares it, and publishes messages on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from messaging.channel import Channel
from messaging.codec import encode
from messaging.contracts import Message, type_of
from messaging.envelope import Envelope
from messaging.errors import BrokerRefused
from messaging.topology import EXCHANGE, EXCHANGE_DEAD, Queue, durable_queues, must_route


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message ready for the wire, with the id by which it is counted once."""

    type: str
    message_id: str
    body: bytes
    mandatory: bool = True

    @classmethod
    def of(cls, message: Message, message_id: str) -> Outgoing:
        """Encode a message."""
        return cls(
            type=type_of(message), message_id=message_id, body=encode(message), mandatory=must_route(type(message))
        )


async def declare_line(channel: Channel) -> None:
    """Declare every exchange, durable queue and binding; a second time changes nothing.

    Raises: BrokerRefused: something of this name exists with other properties.
    """
    await channel.declare_exchange(EXCHANGE, "topic")
    await channel.declare_exchange(EXCHANGE_DEAD, "direct")
    for queue in durable_queues():
        await declare_queue(channel, queue)


async def declare_queue(channel: Channel, queue: Queue) -> None:
    """Declare one queue and let it hear what it hears.

    Raises: BrokerRefused: it exists with other properties; says how to mend it.
    """
    try:
        await channel.declare_queue(queue)
    except BrokerRefused as refused:
        raise BrokerRefused(
            f"{refused}. If another version of the assistant made this queue: let it run empty, stop the workers, and"
            f" delete it with `rabbitmqctl delete_queue {queue.name} --if-empty`; the next start makes it anew"
            " (a demo: start it with `--fresh`)"
        ) from refused
    if queue.name.endswith(".dead"):
        await channel.bind(queue.name, EXCHANGE_DEAD, queue.name.removesuffix(".dead"))
    for message in queue.hears:
        await channel.bind(queue.name, EXCHANGE, type_of(message))


async def publish(channel: Channel, messages: Sequence[Outgoing]) -> None:
    """Publish messages and wait until the broker has confirmed each.

    Raises: Unroutable, PublishRefused, ConnectionLost: of the first that failed; publish all again with the same ids.
    """
    now = datetime.now(UTC)
    confirmed = [
        channel.publish(
            message.body,
            Envelope(type=message.type, message_id=message.message_id, timestamp=now),
            exchange=EXCHANGE,
            routing_key=message.type,
            mandatory=message.mandatory,
        )
        for message in messages
    ]
    results = await asyncio.gather(*confirmed, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
