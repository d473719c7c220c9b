"""How the web speaks: operators' commands become messages at the head of the line."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from config.settings import BrokerSettings
from messaging.channel import Channel
from messaging.connection import Connection
from messaging.contracts import Message, identity_of
from messaging.errors import ConnectionLost, MessagingError
from messaging.line import Outgoing, declare_line, publish

CONNECT_S_MAX: Final = 3.0
"""A person waits for the answer; a worker would be more patient."""


class HeadOfLine:
    """A connection to the broker that is made when there is something to say, and kept.

    Args:
        settings: where the broker is.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._speaking = asyncio.Lock()

    async def say(self, message: Message) -> None:
        """Publish a message and wait until the broker has it.

        Raises: MessagingError: the broker does not answer or refuses; saying it again is saying it once.
        """
        outgoing = [Outgoing.of(message, identity_of(message))]
        async with self._speaking:
            try:
                await publish(await self._open_channel(), outgoing)
            except ConnectionLost:  # it was lost while nobody spoke
                await self._hang_up()
                await publish(await self._open_channel(), outgoing)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        async with self._speaking:
            await self._hang_up()

    async def _open_channel(self) -> Channel:
        if self._channel is None:
            self._connection = await Connection.open(
                self._settings.url, name="web", heartbeat_s=self._settings.heartbeat_s, wait_s_max=CONNECT_S_MAX
            )
            channel = await self._connection.channel()
            await declare_line(channel)
            self._channel = channel
        return self._channel

    async def _hang_up(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with suppress(MessagingError):
                await connection.close()
