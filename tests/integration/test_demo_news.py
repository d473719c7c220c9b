"""What the demo says of anomalies while it runs."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient
from rich.console import Console

import cli.demo
from cli.demo import tell_news
from cli.screen import Screen
from cli.services.ports import free_ports
from storage.anomalies import record_anomalies
from storage.database import Database
from tests.conftest import eventually
from tests.factories import anomaly


@asynccontextmanager
async def relay(port: int, url: str) -> AsyncIterator[None]:
    """Lets what connects to a port through to a mongod."""
    place = urlsplit(url.split(",")[0])

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(place.hostname, place.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65_536):
                    sink.write(data)
                    await sink.drain()
            finally:
                sink.close()

        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer), return_exceptions=True)

    server = await asyncio.start_server(through, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


async def test_anomalies_are_told_again_after_the_store_was_away(
    database: Database, mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One hiccup is noted once; what opened and closed meanwhile is told, each once."""
    monkeypatch.setattr(cli.demo, "NEWS_EVERY_S", 0.05)
    (port,) = free_ports(1)
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
        f"mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=100", tz_aware=True
    )
    shown = io.StringIO()
    screen = Screen(console=Console(file=shown, width=200, highlight=False))
    since = datetime.now(UTC).replace(microsecond=0)
    await record_anomalies(database, [anomaly(since + timedelta(seconds=3))], [], now=since)
    telling = asyncio.create_task(tell_news(client[database.name], screen, since))

    def says(text: str) -> int:
        return shown.getvalue().count(text)

    async def noted() -> bool:
        return says("the store answers again") == 1

    async def opened() -> bool:
        return says("critical anomaly") == 1

    async def closed() -> bool:
        return says("is well again") == 1

    await eventually(noted)
    async with relay(port, mongo_url):
        await eventually(opened)
        over = anomaly(since + timedelta(seconds=3), closed_at=since + timedelta(seconds=9))
        await record_anomalies(database, [over], [], now=since)
        await eventually(closed)
    assert not telling.done()
    assert (says("the store answers again"), says("critical anomaly"), says("is well again")) == (1, 1, 1)
    telling.cancel()
    await client.close()
