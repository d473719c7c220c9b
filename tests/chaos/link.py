"""A link between the system and a server that can be cut, stalled and slowed: a small TCP proxy."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Final

CHUNK: Final = 65_536


class Link:
    """Forwards loopback connections to a server until it is told to misbehave.

    Args:
        port: the server's port on loopback; connections to it fail while the server is down.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._ways: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.delay_s = 0.0
        self.port = 0

    async def __aenter__(self) -> Link:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._open.set()
        self.cut()
        await asyncio.gather(*self._ways, return_exceptions=True)

    def cut(self) -> None:
        """Drop every connection, with what is under way in it."""
        for way in self._ways:
            way.cancel()

    async def stall(self, seconds: float) -> None:
        """Let nothing through for a while; nothing is dropped."""
        self._open.clear()
        await asyncio.sleep(seconds)
        self._open.set()

    async def slow(self, delay_s: float, seconds: float) -> None:
        """Hold every piece back for a while."""
        self.delay_s = delay_s
        await asyncio.sleep(seconds)
        self.delay_s = 0.0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._ways.add(task)
        there: asyncio.StreamWriter | None = None
        try:
            back, there = await asyncio.open_connection("127.0.0.1", self._target)
            both = [asyncio.create_task(self._copy(reader, there)), asyncio.create_task(self._copy(back, writer))]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in both:
                    one.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._ways.discard(task)
            for end in (writer, there):
                if end is not None:
                    end.transport.abort()
                    with contextlib.suppress(OSError):
                        await end.wait_closed()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
