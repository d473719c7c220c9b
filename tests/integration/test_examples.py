"""The checkouts in examples/ do what the README says, in every language."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from config.settings import Settings
from storage.database import close, connect, declare
from tests.conftest import eventually
from tests.integration.line import running

EXAMPLES = Path(__file__).parents[2] / "examples"


async def run_checkout(settings: Settings, *command: str) -> list[str]:
    """Run one checkout; return the lines it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | {"IPA_AMQP_URL": settings.broker.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return output.decode().splitlines()


async def assert_routed_and_reported(settings: Settings, *command: str) -> None:
    """The checkout gets an answer from the router; its attempt and the decision are stored, and belong together."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    async with running(settings, "ingestor", "router_advisor"):

        async def alive() -> bool:
            return await database["heartbeats"].count_documents({}) == 2

        await eventually(alive, within_s=20)
        asked, reported = await run_checkout(settings, *command)
        assert asked.split()[2] == "answered"
        order_id = reported.split()[1]

        async def stored() -> bool:
            attempt = await database["attempts"].find_one({"order_id": order_id})
            decision = await database["decisions"].find_one({"request.order_id": order_id})
            return bool(
                attempt
                and decision
                and attempt["decision_id"] == decision["_id"]
                and attempt["gateway"] == asked.split()[1] == decision["advice"]["ranking"][0]["gateway"]
            )

        await eventually(stored)
    await close(database)


@pytest.mark.parametrize("example", ["checkout_client.py", "checkout_pika.py"])
async def test_a_python_checkout_asks_and_reports(settings: Settings, example: str) -> None:
    """With the client of this project, and with plain pika."""
    await assert_routed_and_reported(settings, sys.executable, str(EXAMPLES / example))


async def test_a_node_checkout_asks_and_reports(settings: Settings, tmp_path: Path) -> None:
    """With Node.js and amqplib."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        if os.environ.get("CI"):
            pytest.fail("CI needs node and npm for the Node.js example")
        pytest.skip("needs Node.js: apt-get install nodejs npm")
    shutil.copytree(EXAMPLES / "node", tmp_path / "node", ignore=shutil.ignore_patterns("node_modules"))
    install = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(tmp_path / "node")]
    process = await asyncio.create_subprocess_exec(*install, stderr=asyncio.subprocess.PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()
    await assert_routed_and_reported(settings, node, str(tmp_path / "node" / "checkout.js"))


async def test_without_a_router_a_checkout_falls_back(settings: Settings) -> None:
    """Nobody answers: the checkout goes on with its own list, and its report waits safely in the queue."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    asked, reported = await run_checkout(settings, sys.executable, str(EXAMPLES / "checkout_client.py"))
    assert asked.split()[:3] == ["gateway", "alpha", "fallback"]
    async with running(settings, "ingestor"):

        async def stored() -> bool:
            return await database["attempts"].find_one({"order_id": reported.split()[1]}) is not None

        await eventually(stored)
    await close(database)
