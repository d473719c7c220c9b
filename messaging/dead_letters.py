"""Dead letters: what could not be handled, kept by the broker until somebody looks.

A message is only ever moved by the broker, or published back with a confirm *before* it is taken from the dead letters:
a crash in between leaves it twice, never nowhere, and its id makes twice count once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from messaging.card_data import refuse_card_data
from messaging.channel import Channel
from messaging.codec import Decoder
from messaging.connection import Connection
from messaging.consumer import Delivery
from messaging.contracts import MESSAGES
from messaging.envelope import shown
from messaging.errors import BrokerRefused, CardDataRefused, MessageMalformed
from messaging.line import declare_line
from messaging.topology import DEAD_LENGTH_MAX, dead_queue, dead_queue_name, stage_named

LOOK_S_MAX: Final = 2.0
BODY_SHOWN_MAX: Final = 4_000


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One message that could not be handled. ``problem`` is what decoding it says now; None: it decodes."""

    queue: str
    message_id: str
    type: str
    body: bytes
    cause: str
    died_at: datetime | None
    deaths: int
    problem: str | None

    def shown_body(self) -> str:
        """The body for people; hidden when it holds card data."""
        try:
            refuse_card_data(self.body)
        except CardDataRefused as error:
            return f"(hidden: {error.place} looks like a {error.kind})"
        return self.body.decode("utf-8", "replace")[:BODY_SHOWN_MAX]


async def list_dead_letters(url: str, queue: str, *, limit: int = 100) -> list[DeadLetter]:
    """Look at the dead letters of one queue, oldest first, and leave them where they are.

    Args:
        url: AMQP URL.
        queue: the queue they come from, for example ``ingestor``.
        limit: most letters read.
    Raises: BrokerRefused: there is no such queue; BrokerUnavailable: nobody answers.
    """
    return await _walk(url, queue, limit, lambda _: "keep")


async def replay_dead_letters(
    url: str, queue: str, *, limit: int = DEAD_LENGTH_MAX, only: Callable[[DeadLetter], bool] = lambda _: True
) -> list[DeadLetter]:
    """Give dead letters to their queue once more. Returns: those that were replayed."""
    return [letter for letter in await _walk(url, queue, limit, _for_those(only, "replay")) if only(letter)]


async def drop_dead_letters(
    url: str, queue: str, *, limit: int = DEAD_LENGTH_MAX, only: Callable[[DeadLetter], bool] = lambda _: True
) -> list[DeadLetter]:
    """Delete dead letters for good. Returns: those that were deleted."""
    return [letter for letter in await _walk(url, queue, limit, _for_those(only, "drop")) if only(letter)]


def _for_those(only: Callable[[DeadLetter], bool], action: str) -> Callable[[DeadLetter], str]:
    return lambda letter: action if only(letter) else "keep"


async def _walk(url: str, queue: str, limit: int, choose: Callable[[DeadLetter], str]) -> list[DeadLetter]:
    """Take every dead letter once, do with it what ``choose`` says, and give the rest back."""
    try:
        has_dead_letters = dead_queue(stage_named(queue)) is not None
    except KeyError:
        has_dead_letters = False
    if not has_dead_letters:
        raise BrokerRefused(f"no queue {queue!r} has dead letters; see `ipa topology`")
    connection = await Connection.open(url, name="dead-letters", wait_s_max=5)
    try:
        channel = await connection.channel()
        await declare_line(channel)
        waiting = min(limit, await channel.count_ready(dead_queue_name(queue)))
        if not waiting:
            return []
        consumer = await channel.consume(dead_queue_name(queue), prefetch=min(65_535, waiting))
        letters: list[DeadLetter] = []
        while len(letters) < waiting:
            try:
                async with asyncio.timeout(LOOK_S_MAX):
                    taken = await consumer.take(waiting - len(letters), 50)
            except TimeoutError:
                break  # somebody else took the rest meanwhile
            for delivery in taken:
                letters.append(_letter(queue, delivery))
                await _settle(channel, queue, delivery, choose(letters[-1]))
        return letters
    finally:
        await connection.close()  # what was kept goes back to its place


async def _settle(channel: Channel, queue: str, delivery: Delivery, choice: str) -> None:
    if choice == "replay":
        kept = {name: value for name, value in delivery.envelope.headers.items() if not name.startswith("x-")}
        envelope = msgspec.structs.replace(delivery.envelope, headers=kept, persistent=True, expiration_ms=None)
        # Straight to the queue it came from: other queues that hear this type have had it already.
        await channel.publish(delivery.body, envelope, exchange="", routing_key=queue)
    if choice in ("replay", "drop"):
        channel.acknowledge(delivery.tag)


def _letter(queue: str, delivery: Delivery) -> DeadLetter:
    death = (delivery.envelope.headers.get("x-death") or [{}])[0]
    try:
        Decoder(MESSAGES, from_outside=True).decode(delivery)
        problem = None
    except (MessageMalformed, CardDataRefused) as error:
        problem = str(error)
    return DeadLetter(
        queue=queue,
        message_id=shown(delivery.envelope.message_id),
        type=shown(delivery.envelope.type),
        body=delivery.body,
        cause=str(death.get("reason", "unknown")),
        died_at=death.get("time"),
        deaths=int(death.get("count", 0)),
        problem=problem,
    )
