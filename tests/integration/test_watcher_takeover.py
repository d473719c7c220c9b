"""Two anomaly watchers: the one that stands by says nothing, and goes on within seconds when the other is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from config.settings import Settings
from messaging.channel import Channel
from messaging.contracts import AttemptsRecorded, AttemptStatus
from storage.database import Database
from storage.heartbeats import Heartbeat, speaks_for, write_heartbeat
from storage.rollups import minute_of
from tests.conftest import eventually
from tests.factories import recorded
from tests.integration.line import head_of_line, opened, say
from tests.integration.test_worker_process import addresses, ended, started

GATEWAYS = ("alpha", "bravo", "charlie")
STEP_S = 0.5
EACH = 10
"""Attempts of each gateway in a step."""

TAKEOVER_S_MAX = 10.0


class Traffic:
    """Batches of attempts as the ingestor tells of them; ``down`` names a gateway that fails."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._luck = random.Random(1)
        self._numbers = count(1)
        self.down: str | None = None

    async def flow(self) -> None:
        """Go on until it is cancelled."""
        for number in count(1):
            began = time.monotonic()
            now = datetime.now(UTC)
            attempts = [
                recorded(next(self._numbers), gateway=gateway, status=self._status(gateway), attempted_at=now,
                         occurred_at=now, order_id=f"ord_{number}_{gateway}_{each}")
                for gateway in GATEWAYS for each in range(EACH)
            ]  # fmt: skip
            await say(self._channel, [AttemptsRecorded(batch_id=f"b_{number}", recorded_at=now, attempts=attempts)])
            await asyncio.sleep(max(0.0, STEP_S - (time.monotonic() - began)))

    def _status(self, gateway: str) -> AttemptStatus:
        return "succeeded" if self._luck.random() < (0.02 if gateway == self.down else 0.9) else "failed"


@asynccontextmanager
async def flowing(settings: Settings) -> AsyncIterator[Traffic]:
    """Traffic at the head of the line until the block ends."""
    async with head_of_line(settings) as channel:
        traffic = Traffic(channel)
        task = asyncio.create_task(traffic.flow())
        try:
            yield traffic
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def usual(minutes_ago: int, gateway: str) -> dict[str, Any]:
    """A minute of the past with the traffic of now: who hears nothing would take that for an outage."""
    sums = {"attempts": 1_200, "first_attempts": 1_200, "succeeded": 1_080, "failed": 120, "latency": {"19": 1_200},
            "amount_minor": 1_200_000, "amount_succeeded_minor": 1_080_000}  # fmt: skip
    key = {"gateway": gateway, "method": "upi", "issuer": "harbour_bank", "currency": "INR", "slot": 0}
    named = {"minute": minute_of(datetime.now(UTC)) - timedelta(minutes=minutes_ago)} | key
    return {"_id": named, **named, **sums}


async def told(database: Database) -> list[dict[str, Any]]:
    """The anomalies in the store, oldest first."""
    return await database["anomalies"].find().sort("detected_at", 1).to_list()


async def test_a_watcher_that_is_killed_is_followed_by_the_one_that_stood_by(settings: Settings) -> None:
    """The open anomaly stays one: the other watcher takes it up within ten seconds, and closes it when it is over."""
    async with opened(settings) as database, flowing(settings) as traffic:
        await database["attempt_rollups"].insert_many(
            [usual(minute, gateway) for minute in range(1, 121) for gateway in GATEWAYS]
        )
        first = await started("anomaly_watcher", **addresses(settings))

        async def beating() -> int:
            return await database["heartbeats"].count_documents({"stage": "anomaly_watcher"})

        async def one_beats() -> bool:
            return await beating() == 1

        async def two_beat() -> bool:
            return await beating() == 2

        await eventually(one_beats, within_s=30)
        second = await started("anomaly_watcher", **addresses(settings))
        await eventually(two_beat, within_s=30)
        await asyncio.sleep(20)
        assert await told(database) == []  # neither the one that works nor the one that hears nothing
        traffic.down = "bravo"

        async def opened_one() -> bool:
            return len(await told(database)) == 1

        await eventually(opened_one, within_s=30)
        (anomaly,) = await told(database)
        assert anomaly["segment"]["gateway"] == "bravo"
        first.send_signal(signal.SIGKILL)
        killed_at = datetime.now(UTC)
        traffic.down = None

        async def closed() -> bool:
            (known,) = await told(database)  # it stays one
            return known["closed_at"] is not None

        await eventually(closed, within_s=60)
        second.send_signal(signal.SIGTERM)
        code, said = await ended(second)
        assert code == 0, said
        (took_over,) = (event for event in map(json.loads, said.splitlines()) if event["event"] == "takes_over")
        assert datetime.fromisoformat(took_over["timestamp"]) - killed_at < timedelta(seconds=TAKEOVER_S_MAX)
        await first.wait()


async def test_of_those_that_hear_nothing_the_eldest_speaks_unless_another_one_hears(database: Database) -> None:
    """Silence everywhere must be told, and by one; a replica that hears is the one that works."""
    now = datetime.now(UTC).replace(microsecond=0)
    since, limit = now - timedelta(seconds=30), timedelta(seconds=15)

    def beat(name: str, age_s: float, *, at: datetime = now, heard: datetime | None = None) -> Heartbeat:
        return Heartbeat(instance=name, stage="anomaly_watcher", host="h", pid=1, at=at, last_batch_at=heard,
                         started_at=now - timedelta(seconds=age_s))  # fmt: skip

    eldest, younger = beat("a", 60), beat("b", 40)
    for one in (eldest, younger):
        await write_heartbeat(database, one)
    assert await speaks_for(database, eldest, since, now, age_max=limit)
    assert not await speaks_for(database, younger, since, now, age_max=limit)
    await write_heartbeat(database, beat("b", 40, heard=now - timedelta(seconds=1)))
    assert not await speaks_for(database, eldest, since, now, age_max=limit)
    await write_heartbeat(database, beat("b", 40, at=now - timedelta(seconds=60), heard=now - timedelta(seconds=20)))
    assert await speaks_for(database, eldest, since, now, age_max=limit)  # the other one is gone
