"""Live traffic on a real broker and real workers: all is stored, incidents come when triggered, SIGTERM flushes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import msgspec
import pytest

from cli.services.ports import free_ports
from config.settings import Settings
from simulator.live import Traffic, TrafficOptions, run
from simulator.tally import TrafficSummary
from simulator.world.incidents import Outage
from simulator.world.plan import Label
from storage.database import Database
from tests.conftest import eventually
from tests.integration.line import opened, running

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def line(settings: Settings, *stages: str) -> AsyncIterator[Database]:
    """Workers that have told that they live, and the store."""
    async with opened(settings) as database, running(settings, *stages):

        async def alive() -> bool:
            return len(await database["heartbeats"].distinct("stage")) == len(stages)

        await eventually(alive, within_s=30)
        yield database


async def stored(database: Database, summary: TrafficSummary) -> bool:
    """Tell whether the store holds every attempt that was confirmed."""
    return await database["attempts"].count_documents({}) == summary.reports["attempts_confirmed"]


async def test_everything_confirmed_is_stored_once(settings: Settings) -> None:
    """Five seconds of traffic: the router answers, every report is confirmed, and the store holds each attempt once."""
    async with line(settings, "router_advisor", "ingestor") as database:
        options = TrafficOptions(url=settings.broker.url, scenario="calm", rate=40, duration_s=5)
        summary = await run(options, stop=asyncio.Event())
        assert summary.final
        assert summary.orders["started"] > 100
        assert summary.routes["answered"] > 0.9 * summary.routes["asked"]
        assert (summary.reports["unconfirmed"], summary.reports["made"]) == (0, summary.reports["confirmed"])
        assert summary.reports["attempts_confirmed"] == summary.attempts
        await eventually(lambda: stored(database, summary), within_s=20)
        sums = await database["attempt_rollups"].aggregate([{"$group": {"_id": None, "n": {"$sum": "$attempts"}}}])
        assert [row["n"] async for row in sums] == [summary.attempts]
        decided = await database["attempts"].count_documents({"decision_id": {"$ne": None}})
        assert decided >= summary.routes["in_time"]


async def test_the_door_lets_something_happen_and_knows_the_truth(settings: Settings) -> None:
    """A triggered outage starts now, nothing succeeds, and it stands among the labels; nonsense is refused."""
    port = free_ports(1)[0]
    door = f"http://127.0.0.1:{port}"
    stop, begun = asyncio.Event(), asyncio.Event()

    def on_start(_: Traffic) -> None:
        begun.set()

    async with line(settings, "router_advisor", "ingestor") as database, aiohttp.ClientSession() as client:
        options = TrafficOptions(url=settings.broker.url, scenario="calm", rate=60, control_port=port)
        traffic = asyncio.create_task(run(options, stop=stop, on_start=on_start))
        await asyncio.wait_for(begun.wait(), 20)

        async def open_door() -> bool:
            async with client.get(f"{door}/incidents") as answer:
                return await answer.read() == b"[]"

        await eventually(lambda: _quietly(open_door), within_s=10)
        outage = msgspec.json.encode(Outage(starts_s=0, lasts_s=60, success=0.0))
        as_json = {"Content-Type": "application/json"}
        async with client.post(f"{door}/incidents", data=outage, headers=as_json) as answer:
            assert (answer.status, await answer.json()) == (201, {"incident": "inc_0"})
        async with client.post(f"{door}/incidents", data=b'{"kind":"plague"}', headers=as_json) as answer:
            assert answer.status == 422
            assert "no incident of this world" in await answer.text()
        async with client.post(f"{door}/incidents", data=outage) as answer:
            assert answer.status == 415
        async with client.get(f"{door}/incidents", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        async with client.get(f"{door}/incidents") as answer:
            (label,) = msgspec.json.decode(await answer.read(), type=list[Label])
        assert (label.kind, label.anomaly, label.gateway) == ("outage", True, None)
        assert abs((label.starts_at - datetime.now(UTC)).total_seconds()) < 5
        # What is happening is looked up four times a second, and orders under way were drawn before.
        settled = {"attempted_at": {"$gte": label.starts_at + timedelta(seconds=1)}, "status": {"$ne": "pending"}}

        async def many() -> bool:
            return await database["attempts"].count_documents(settled) > 60

        await eventually(many, within_s=20)
        assert await database["attempts"].count_documents(settled | {"status": "succeeded"}) == 0
        stop.set()
        summary = await asyncio.wait_for(traffic, 20)
        assert [found.incident_id for found in summary.incidents] == [label.incident_id]
        await eventually(lambda: stored(database, summary), within_s=20)
        with pytest.raises(aiohttp.ClientError):
            await client.get(f"{door}/incidents")


async def test_sigterm_ends_a_process_with_nothing_open(settings: Settings, tmp_path: Path) -> None:
    """`ipa traffic` told to end finishes its orders, has every report confirmed, says the account and exits with 0."""
    file = tmp_path / "account.json"
    base = {key: value for key, value in os.environ.items() if not key.startswith("IPA_")}
    environment = base | {
        "IPA_AMQP_URL": settings.broker.url,
        "IPA_MONGO_URL": settings.store.url,
        "IPA_STORE__DATABASE": settings.store.database,
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "cli", "traffic", "--rate", "50", "--scenario", "calm", "--summary", str(file)]
    async with line(settings, "router_advisor", "ingestor") as database:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )

        async def under_way() -> bool:
            return await database["attempts"].count_documents({}) > 50

        await eventually(under_way, within_s=40)
        process.send_signal(signal.SIGTERM)
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        said = out.decode()
        assert process.returncode == 0
        summary = msgspec.json.decode(file.read_bytes(), type=TrafficSummary)
        assert (summary.final, summary.reports["unconfirmed"]) == (True, 0)
        await eventually(lambda: stored(database, summary), within_s=20)
    for claim in ("oracle", "best fixed gateway", "uniform", "achieved", "regret", "Incidents (0 began, 0 noticed)"):
        assert claim in said, claim
    assert f"{summary.reports['confirmed']:,}, of {summary.attempts:,} attempts" in said


async def test_traffic_without_a_known_store_says_so(settings: Settings) -> None:
    """A named broker and no named store: the account comes all the same, and says what would be needed."""
    base = {key: value for key, value in os.environ.items() if not key.startswith("IPA_")}
    command = [sys.executable, "-m", "cli", "traffic", "--rate", "20", "--scenario", "calm", "--duration", "2"]
    environment = base | {"IPA_AMQP_URL": settings.broker.url, "COLUMNS": "200"}
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert "Detection is not known: the store is not known; set IPA_MONGO_URL" in done.stdout


async def _quietly(ask: object) -> bool:
    """Ask; a door that is not open yet is a no."""
    assert callable(ask)
    try:
        return bool(await ask())
    except aiohttp.ClientError:
        return False
