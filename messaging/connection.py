"""One awaitable connection to RabbitMQ, over pika's asyncio adapter."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final
from urllib.parse import urlsplit

import pika
from pika.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from messaging.channel import Channel
from messaging.errors import BrokerRefused, BrokerUnavailable, ConnectionLost
from messaging.wire import Wire

HANDSHAKE_S_MAX: Final = 10
"""A broker that takes longer to shake hands is treated as absent; the retry around it goes on."""

CLOSE_S_MAX: Final = 5
CHANNELS_MAX: Final = 16

REFUSALS = (AuthenticationError, ProbableAuthenticationError, ProbableAccessDeniedError)


class Connection:
    """An open connection. Made by ``Connection.open``; ended by ``close`` or by the network.

    ``blocked`` says why the broker takes no messages on it at the moment (low on disk or memory); None: it does.
    """

    def __init__(self, raw: Wire, shown: str) -> None:
        self._raw = raw
        self._shown = shown
        self._channels: list[Channel] = []
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.blocked: str | None = None
        raw.add_on_close_callback(self._on_closed)
        raw.add_on_connection_blocked_callback(self._on_blocked)
        raw.add_on_connection_unblocked_callback(self._on_unblocked)

    @classmethod
    async def open(cls, url: str, *, name: str, heartbeat_s: int = 10, wait_s_max: float = 60) -> Connection:
        """Connect, trying again with growing pauses.

        Args:
            url: AMQP 0-9-1 URL.
            name: shown in RabbitMQ's list of connections.
            heartbeat_s: a dead peer is noticed after about two of these.
            wait_s_max: how long to go on trying, seconds.
        Raises:
            BrokerUnavailable: nobody answered in time.
            BrokerRefused: wrong user, password, virtual host, or no AMQP URL.
        """
        shown = _shown(url)
        try:
            parameters = pika.URLParameters(url)
        except Exception as error:  # noqa: BLE001 - pika raises whatever its parser met
            raise BrokerRefused(f"{shown} is no AMQP URL: {error}; mend IPA_AMQP_URL") from None
        parameters.heartbeat = heartbeat_s
        parameters.socket_timeout = parameters.stack_timeout = HANDSHAKE_S_MAX
        parameters.client_properties = {"connection_name": name}
        began = time.monotonic()
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(BrokerUnavailable),
                stop=stop_after_delay(wait_s_max),
                wait=wait_random_exponential(multiplier=0.1, max=5),
                reraise=True,
            ):
                with attempt:
                    return cls(await _handshake(parameters, shown), shown)
        except BrokerUnavailable as error:
            raise BrokerUnavailable(
                f"no RabbitMQ answers at {shown} after {time.monotonic() - began:.0f} s ({error}); "
                "start it, or set IPA_AMQP_URL (`ipa doctor` says what is there)"
            ) from None
        raise AssertionError("retrying ends with a connection or an error")

    async def channel(self, *, confirms: bool = True) -> Channel:
        """Open a channel.

        Args:
            confirms: wait for the broker to confirm what is published on it.
        Raises: ConnectionLost: the connection ended.
        """
        assert len(self._channels) < CHANNELS_MAX, "channels are few and long-lived"
        if self.closed.done():
            raise ConnectionLost(self.closed.result())
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        raw = self._raw.channel(on_open_callback=lambda raw: _settle(opened, raw))
        raw.add_on_close_callback(lambda _, reason: _fail(opened, ConnectionLost(str(reason))))
        await self._first(opened)
        channel = Channel(raw)
        self._channels.append(channel)
        if confirms:
            await self._first(channel.confirm())
        return channel

    async def close(self) -> None:
        """Close cleanly; what is unacknowledged goes back to its queue. Closing twice is fine."""
        if not self.closed.done() and self._raw.is_open:
            self._raw.close()
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await asyncio.shield(self.closed)
        except TimeoutError:
            self._on_closed(self._raw, "did not close in time")

    async def _first(self, awaited: asyncio.Future[Any]) -> Any:
        """Wait for something, or for the end of the connection."""
        await asyncio.wait([awaited, self.closed], return_when=asyncio.FIRST_COMPLETED)
        if not awaited.done():
            awaited.cancel()
            raise ConnectionLost(self.closed.result())
        return awaited.result()

    def _on_blocked(self, _: object, frame: pika.frame.Method) -> None:
        self.blocked = str(frame.method.reason)

    def _on_unblocked(self, _: object, frame: pika.frame.Method) -> None:
        self.blocked = None

    def _on_closed(self, _: object, reason: object) -> None:
        text = f"connection to {self._shown} ended: {reason}"
        for channel in self._channels:
            channel.fail(text)
        self._channels.clear()
        if not self.closed.done():
            self.closed.set_result(text)


def _shown(url: str) -> str:
    """Host and port of a URL, for messages: never its user or password."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port or 5672}"
    except ValueError:
        return "the given address"


async def _handshake(parameters: pika.URLParameters, shown: str) -> Wire:
    opened: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()

    def on_error(_: object, reason: BaseException | str) -> None:
        _fail(opened, _translated(reason, shown))

    raw = Wire(
        parameters,
        on_open_callback=lambda connection: _settle(opened, connection),
        on_open_error_callback=on_error,
        on_close_callback=on_error,
    )
    try:
        async with asyncio.timeout(HANDSHAKE_S_MAX + 2):
            return await opened
    except TimeoutError:
        if raw.is_open:
            raw.close()
        raise BrokerUnavailable("no handshake in time") from None


def _translated(reason: BaseException | str, shown: str) -> BrokerUnavailable | BrokerRefused:
    """Tell a refusal from an absence; pika wraps the real reason in layers."""
    seen: list[object] = [reason]
    for item in seen:
        if isinstance(item, REFUSALS) and "StreamLostError" not in str(item):  # a broker that goes down refuses nobody
            return BrokerRefused(f"RabbitMQ at {shown} refuses this user, password or virtual host; mend IPA_AMQP_URL")
        seen.extend(getattr(item, "exceptions", ()))
        seen.extend(arg for arg in getattr(item, "args", ()) if isinstance(arg, BaseException))
        if cause := getattr(item, "exception", None):
            seen.append(cause)
    last = next((str(item) for item in reversed(seen) if isinstance(item, OSError)), None)
    known = isinstance(reason, AMQPConnectionError)
    return BrokerUnavailable(last or (type(reason).__name__ if known else str(reason)))


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
