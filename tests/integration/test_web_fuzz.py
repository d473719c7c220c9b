"""The running REST interface under fuzzing: whatever is sent, it answers as its description says, and never breaks."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from cli.services.ports import free_ports
from config.settings import Settings
from storage.database import Database, close, connect, declare
from tests.conftest import eventually
from tests.web_documents import fill
from web.people import Person
from web.permissions import PERMISSIONS

ROOT = Path(__file__).parents[2]
EXAMPLES = "3"
"""For each operation; enough for the kinds of input, and a matter of seconds."""

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Database]:
    """A store full of payments."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    await fill(database, datetime.now(UTC), attempts=60)
    yield database
    await database.client.drop_database(database.name)
    await close(database)


async def test_no_input_breaks_the_interface(settings: Settings, store: Database) -> None:
    """Generated requests to every operation, with every right: no 5xx, and every answer is one that is described."""
    (port,) = free_ports(1)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("IPA_")}
    environment = inherited | {
        "IPA_MONGO_URL": settings.store.url,
        "IPA_AMQP_URL": settings.broker.url,
        "IPA_STORE__DATABASE": settings.store.database,
        "IPA_WEB__PORT": str(port),
        "PYTHONPATH": str(ROOT),
    }
    address = f"http://127.0.0.1:{port}"
    secret = await Person(store, by="test", now=datetime.now(UTC)).add_token("fuzz", list(PERMISSIONS), 1)
    web = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "web", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as http:

            async def ready() -> bool:
                try:
                    return (await http.get(f"{address}/readyz")).status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(ready, within_s=60)
        fuzzing = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"),
            *("-H", f"Authorization: Bearer {secret}", "--max-examples", EXAMPLES, "--seed", "11"),
            *("--phases", "fuzzing", "--checks", CHECKS, "--generation-database", "none", "--no-color"),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(fuzzing.communicate(), 150)
    finally:
        web.terminate()
        await web.wait()
    assert fuzzing.returncode == 0, said.decode()[-6_000:]
    assert b"Tested: " in said
