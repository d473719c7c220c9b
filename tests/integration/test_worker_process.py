"""A worker as a process: how it starts, refuses to start, and ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from config.settings import Settings
from storage.database import close, connect, declare
from tests.conftest import eventually

ROOT = Path(__file__).parents[2]


async def started(*arguments: str, **variables: str) -> asyncio.subprocess.Process:
    """Start ``python -m actors`` with these variables."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "actors",
        *arguments,
        env=os.environ | variables,
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Wait for the end. Returns: exit code, and what was said on standard error."""
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, errors.decode()


def addresses(settings: Settings) -> dict[str, str]:
    """The variables that point a worker at the services of this test."""
    return {
        "IPA_AMQP_URL": settings.broker.url,
        "IPA_MONGO_URL": settings.store.url,
        "IPA_STORE__DATABASE": settings.store.database,
    }


async def test_an_unreachable_broker_ends_the_start_with_words(settings: Settings) -> None:
    """Exit code 69, the address without its password, and what to do; no stack trace."""
    variables = addresses(settings) | {
        "IPA_AMQP_URL": "amqp://ipa:hunter2@127.0.0.1:1/",
        "IPA_BROKER__CONNECT_WAIT_S_MAX": "1",
    }
    code, said = await ended(await started("ingestor", **variables))
    assert code == os.EX_UNAVAILABLE
    assert "no RabbitMQ answers at 127.0.0.1:1" in said
    assert "IPA_AMQP_URL" in said
    assert "hunter2" not in said
    assert "Traceback" not in said


async def test_an_unreachable_store_ends_the_start_with_words(settings: Settings) -> None:
    """The same for MongoDB."""
    variables = addresses(settings) | {
        "IPA_MONGO_URL": "mongodb://127.0.0.1:1/?replicaSet=rs0",
        "IPA_STORE__CONNECT_WAIT_S_MAX": "1",
    }
    code, said = await ended(await started("ingestor", **variables))
    assert code == os.EX_UNAVAILABLE
    assert "no MongoDB answers at mongodb://127.0.0.1:1/" in said
    assert "Traceback" not in said


async def test_a_broken_gateways_file_is_named_with_its_line(settings: Settings, tmp_path: Path) -> None:
    """Exit code 78, file, line and reason."""
    file = tmp_path / "gateways.yaml"
    file.write_text("gateways:\n  - name: alpha\n    title: Alpha\n    methods: []\n    currencies: [INR]\n")
    code, said = await ended(await started("ingestor", **addresses(settings), IPA_GATEWAYS__PATH=str(file)))
    assert code == os.EX_CONFIG
    assert f"{file}:4: " in said
    assert "Traceback" not in said


async def test_an_unknown_worker_gets_the_list() -> None:
    """A spelling mistake is answered with the names that exist."""
    code, said = await ended(await started("ingester"))
    assert code == os.EX_USAGE
    assert "ingestor" in said
    assert "router_advisor" in said


@pytest.mark.parametrize("stage", ["ingestor", "router_advisor"])
async def test_sigterm_ends_a_worker_in_order(settings: Settings, stage: str) -> None:
    """SIGTERM: finish, exit 0. While it lives, the health check says so; afterwards it does not."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    process = await started(stage, **addresses(settings))

    async def beats() -> object:
        return await database["heartbeats"].find_one({"stage": stage})

    await eventually(beats, within_s=30)
    code, _ = await ended(await started("health", stage, **addresses(settings)))
    assert code == 0
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, said = await ended(process)
    assert (code, '"event": "stopped"' in said) == (0, True), said
    assert time.monotonic() - began < 10
    await database["heartbeats"].delete_many({})
    code, _ = await ended(await started("health", stage, **addresses(settings)))
    assert code == os.EX_UNAVAILABLE
    await close(database)


async def test_a_worker_waits_for_a_broker_that_comes_later(settings: Settings) -> None:
    """Told to stop while it still looks for its broker, a worker ends at once and in order."""
    process = await started("ingestor", **addresses(settings) | {"IPA_AMQP_URL": "amqp://ipa:x@127.0.0.1:1/"})
    database = await connect(settings.store)

    async def declared() -> bool:
        return "outbox" in await database.list_collection_names()

    await eventually(declared, within_s=20)
    await asyncio.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    code, said = await ended(process)
    assert code == 0, said
    await close(database)
