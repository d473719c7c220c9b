"""Single attempts and failures are read one after the other, whoever asks: many viewers do not get round a bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener

from storage.database import Database, Document
from storage.errors import TooManyAttempts
from storage.read_models import single_attempts
from storage.read_models.chosen import Chosen
from storage.read_models.failures import read_failures
from storage.read_models.gateways import read_overview
from storage.read_models.history import HistoryQuery, read_history
from storage.read_models.history_cube import HistoryCube
from storage.read_models.live_traffic import LiveTraffic
from tests.web_documents import fill

INDIA, GERMANY, SMALL = Chosen(country=("IN",)), Chosen(country=("DE",)), Chosen(amount=("0-10", "10-50", "50-200"))


class Heard(CommandListener):
    """Notes in order when a read of single documents begins, by counting them, and when it looks at them."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def started(self, event: Any) -> None:
        """Note what the store is asked."""
        command = event.command
        if command.get("aggregate") in ("attempts", "failures"):
            is_count = {"$group": {"_id": 1, "n": {"$sum": 1}}} in command["pipeline"]
            if is_count:
                self.steps.append("begins")
            elif any("failures" in stage.get("$group", {}) for stage in command["pipeline"]):
                self.steps.append("looks")
        elif command.get("find") == "attempts" and "batchSize" in command:
            self.steps.append("looks")

    def succeeded(self, event: Any) -> None:
        """Nothing to note."""

    def failed(self, event: Any) -> None:
        """Nothing to note."""


@pytest.fixture
def heard() -> Heard:
    """What the store was asked."""
    return Heard()


@pytest.fixture
async def overheard(database: Database, mongo_url: str, heard: Heard) -> AsyncIterator[Database]:
    """The test's database, through a client that is listened to."""
    now = datetime.now(UTC)
    client: AsyncMongoClient[Document] = AsyncMongoClient(mongo_url, tz_aware=True, event_listeners=[heard])
    await fill(database, now, attempts=300)
    yield client[database.name]
    await client.close()


async def test_no_two_read_at_a_time(overheard: Database, heard: Heard) -> None:
    """Overviews, failures, trends and live charts of different choices at once: each begins when the last has ended."""
    now = datetime.now(UTC)
    query = HistoryQuery(since=now - timedelta(minutes=30), until=now, by="all", compare=False, country=("US",))
    live = LiveTraffic(overheard, ("alpha",), now.timestamp(), GERMANY)
    await asyncio.gather(
        *(read_overview(overheard, now, chosen) for chosen in (INDIA, GERMANY, SMALL)),
        *(read_failures(overheard, now, chosen) for chosen in (INDIA, GERMANY, SMALL)),
        read_history(overheard, HistoryCube(overheard), query),
        live.poll(now.timestamp()),
    )
    assert heard.steps == ["begins", "looks"] * 9


async def test_the_turn_is_given_back(overheard: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a read that was refused, one that failed while adding up, and one that nobody waits for any more."""
    now = datetime.now(UTC)
    with monkeypatch.context() as patched:
        patched.setattr(single_attempts, "WORK_MAX", 310)
        with pytest.raises(TooManyAttempts):
            await read_overview(overheard, now, SMALL)
    with monkeypatch.context() as patched:
        patched.setattr(single_attempts, "add_up", None)
        with pytest.raises(TypeError) as kept:  # its traceback holds the read
            await read_overview(overheard, now, INDIA)
        assert kept.value.__traceback__
    for wait_s in (0, 0.002, 0.01):
        given_up = asyncio.create_task(read_overview(overheard, now, INDIA))
        await asyncio.sleep(wait_s)
        given_up.cancel()
    async with asyncio.timeout(20):
        found = await read_overview(overheard, now, INDIA)
        assert (await read_failures(overheard, now, INDIA)).failures > 0
    assert found.traffic.attempts > 0
