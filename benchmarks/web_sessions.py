"""Viewers without a browser, for `make bench-web`: they open live views over the proxy, and note what comes when."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from datetime import datetime
from typing import Final

import aiohttp
import msgspec

TOKEN: Final = re.compile(r'"token":"([^"]+)"')
FIGURES_AT: Final = re.compile(r'datetime=\\"([^\\"]+)\\"')
"""When the figures were read from the store, as the status line of every view tells."""

OPEN_S_MAX: Final = 60.0


class Viewer:
    """One open live view.

    Args:
        http: client with a login.
        base: address of the web process.
        view: a live view with its query.
    """

    def __init__(self, http: aiohttp.ClientSession, base: str, view: str) -> None:
        self._http, self._base, self._view = http, base, view
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reading: asyncio.Task[None] | None = None
        self.ages_s: list[float] = []
        self.bytes = 0

    async def open(self) -> None:
        """Load the view's page, open its connection, and take the document over, as the browser does."""
        async with self._http.get(f"{self._base}/live/{self._view}") as answer:
            answer.raise_for_status()
            found = TOKEN.search(await answer.text())
        assert found, "the page of a live view holds its token"
        self._socket = await self._http.ws_connect(
            f"{self._base.replace('http', 'ws')}/live/{self._view.partition('?')[0]}/ws",
            protocols=["bokeh", found[1]],
            origin=self._base,
            max_msg_size=0,
        )
        await self._message()  # the server's greeting
        for part in ('{"msgid":"1","msgtype":"PULL-DOC-REQ"}', "{}", "{}"):
            await self._socket.send_str(part)
        while "PULL-DOC-REPLY" not in await self._message():
            pass
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Leave, as a closed tab does."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        if self._socket is not None:
            await self._socket.close()

    async def _read(self) -> None:
        assert self._socket is not None
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self.bytes += len(message.data)
                if found := FIGURES_AT.search(message.data):
                    self.ages_s.append(time.time() - datetime.fromisoformat(found[1]).timestamp())
            elif message.type is aiohttp.WSMsgType.BINARY:
                self.bytes += len(message.data)

    async def _message(self) -> str:
        """Read one message: three texts, and binary buffers that its header announces; returns the header."""
        assert self._socket is not None
        async with asyncio.timeout(OPEN_S_MAX):
            header: str = await self._socket.receive_str()
            await self._socket.receive_str()
            await self._socket.receive_str()
            for _ in range(msgspec.json.decode(header).get("num_buffers", 0)):
                await self._socket.receive_str()
                await self._socket.receive_bytes()
            return header


OPENINGS_MAX: Final = 5
"""A browser whose connection is closed while it opens loads the view again."""


async def open_all(viewers: list[Viewer], *, at_once: int) -> None:
    """Open viewers, a few at a time, as people come."""
    gate = asyncio.Semaphore(at_once)

    async def one(viewer: Viewer) -> None:
        async with gate:
            for left in range(OPENINGS_MAX, 0, -1):
                try:
                    await viewer.open()
                    break
                except (aiohttp.ClientError, TypeError):
                    if left == 1:
                        raise

    await asyncio.gather(*map(one, viewers))


async def log_in(base: str, name: str, password: str) -> aiohttp.ClientSession:
    """A client with a login."""
    http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.CookieJar(unsafe=True))
    async with http.get(f"{base}/login") as answer:
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', await answer.text())
    assert found, "the login has a form token"
    fields = {"csrf": found[1], "name": name, "password": password}
    async with http.post(f"{base}/login", data=fields, allow_redirects=False) as answer:
        assert answer.status == 303, "the login is accepted"
    return http
