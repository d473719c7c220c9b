"""Runs workers of the line inside a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from actors.__main__ import run
from config.settings import Settings
from messaging.channel import Channel
from messaging.connection import Connection
from messaging.contracts import Message, identity_of
from messaging.line import Outgoing, declare_line, publish
from storage.database import Database, close, connect, declare


@asynccontextmanager
async def running(settings: Settings, *stages: str) -> AsyncIterator[None]:
    """Run these workers until the block ends; a worker that fails fails the test."""
    stopping = asyncio.Event()
    tasks = [asyncio.create_task(run(stage, settings, stopping), name=stage) for stage in stages]
    try:
        yield
        for task in tasks:
            assert not task.done(), f"{task.get_name()} ended early: {task.exception()!r}"
    finally:
        stopping.set()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """A handle on a declared store, closed whatever happens: what stays open fails the next test."""
    database = await connect(settings.store)
    try:
        await declare(database, settings.store)
        yield database
    finally:
        await close(database)


@asynccontextmanager
async def head_of_line(settings: Settings) -> AsyncIterator[Channel]:
    """A channel to say things at the head of the line."""
    connection = await Connection.open(settings.broker.url, name="head", wait_s_max=10)
    try:
        channel = await connection.channel()
        await declare_line(channel)
        yield channel
    finally:
        await connection.close()


async def say(channel: Channel, messages: Sequence[Message]) -> None:
    """Publish messages with confirms."""
    await publish(channel, [Outgoing.of(message, identity_of(message).replace(":", ".")) for message in messages])


async def say_raw(channel: Channel, kind: str, body: bytes, **headers: str) -> None:
    """Publish a body of any kind as a message of this type."""
    from messaging.envelope import Envelope
    from messaging.topology import EXCHANGE

    await channel.publish(body, Envelope(type=kind, headers=dict(headers)), exchange=EXCHANGE, routing_key=kind)
