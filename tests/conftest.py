"""Fixtures for every test: a private RabbitMQ and mongod, made once a run; a virtual host and a database a test."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pymongo import MongoClient

from cli.errors import MissingPart
from cli.services.mongodb import PrivateMongoDB
from cli.services.rabbitmq import PrivateRabbitMQ
from config.settings import Settings, load_settings
from messaging.connection import Connection
from storage.database import Database, close, connect, declare

SHARED = Path(__file__).parents[2] / "shared" / "data"
"""Data for measuring that is not part of the project; tests that need it skip where it is absent."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the folder they lie in, and keep the pure ones off the network."""
    for item in items:
        folder = Path(item.fspath).relative_to(Path(__file__).parent).parts[0]
        if folder == "unit":
            item.add_marker(pytest.mark.disable_socket)
        else:
            item.add_marker(getattr(pytest.mark, folder))


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[PrivateRabbitMQ]:
    """A private RabbitMQ node, shared by the tests of one run."""
    with tempfile.TemporaryDirectory(prefix="ipa-test-") as directory:
        node = PrivateRabbitMQ(Path(directory) / "rabbitmq")
        _start(node)
        yield node
        asyncio.run(node.stop())


@pytest.fixture(scope="session")
def mongodb() -> Iterator[PrivateMongoDB]:
    """A private mongod, shared by the tests of one run. It removes nothing by age: many tests live on a fixed day."""
    with tempfile.TemporaryDirectory(prefix="ipa-test-") as directory:
        node = PrivateMongoDB(Path(directory) / "mongodb", cache_gb=0.25)
        _start(node)
        with MongoClient[dict[str, Any]](node.url) as client:
            client.admin.command({"setParameter": 1, "ttlMonitorEnabled": False})
            # Files of dropped databases go after so long; those of the usual five minutes are too many to open.
            client.admin.command({"setParameter": 1, "minSnapshotHistoryWindowInSeconds": 5})
        yield node
        asyncio.run(node.stop())


@pytest.fixture
def amqp_url(rabbitmq: PrivateRabbitMQ) -> Iterator[str]:
    """A virtual host of the test's own."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    management(rabbitmq, "PUT", f"/api/vhosts/{name}", b"{}")
    management(
        rabbitmq, "PUT", f"/api/permissions/{name}/{rabbitmq.user}", b'{"configure":".*","write":".*","read":".*"}'
    )
    yield rabbitmq.url + name
    management(rabbitmq, "DELETE", f"/api/vhosts/{name}")


@pytest.fixture
def mongo_url(mongodb: PrivateMongoDB) -> str:
    """The URL of the mongod; use ``settings.store.database`` for a database of the test's own."""
    return mongodb.url


@pytest.fixture
def settings(amqp_url: str, mongo_url: str) -> Settings:
    """Settings that point at the test's own virtual host and database."""
    return load_settings(
        {"IPA_AMQP_URL": amqp_url, "IPA_MONGO_URL": mongo_url, "IPA_STORE__DATABASE": f"test_{uuid.uuid4().hex[:12]}"}
    )


@pytest.fixture
async def database(mongo_url: str) -> AsyncIterator[Database]:
    """A database of the test's own, with every collection and index."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    store = load_settings({"IPA_MONGO_URL": mongo_url, "IPA_STORE__DATABASE": name}).store
    handle = await connect(store)
    await declare(handle, store)
    yield handle
    await handle.client.drop_database(name)
    await close(handle)


@pytest.fixture
async def connection(amqp_url: str) -> AsyncIterator[Connection]:
    """A connection to the test's own virtual host."""
    opened = await Connection.open(amqp_url, name="test", wait_s_max=10)
    yield opened
    await opened.close()


@pytest.fixture
def shared_data() -> Path:
    """The folder of measuring data."""
    if not SHARED.is_dir():
        pytest.skip("needs the measuring data, which is not part of the project")
    return SHARED


def management(node: PrivateRabbitMQ, method: str, path: str, body: bytes | None = None) -> bytes:
    """Ask RabbitMQ's management API."""
    request = urllib.request.Request(node.management_url.rstrip("/") + path, body, method=method)  # noqa: S310
    token = base64.b64encode(f"{node.user}:{node.password}".encode()).decode()
    request.add_header("Authorization", f"Basic {token}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return bytes(answer.read())


async def eventually(claim: Callable[[], Awaitable[object]], *, within_s: float = 10, every_s: float = 0.05) -> object:
    """Wait until a claim is truthy, and return what it said.

    Raises: AssertionError: it never was; shows what it said last.
    """
    end = time.monotonic() + within_s
    while True:
        said = await claim()
        if said:
            return said
        assert time.monotonic() < end, (
            f"not within {within_s} s; the last answer was {msgspec.json.encode(str(said))!r}"
        )
        await asyncio.sleep(every_s)


def _start(node: PrivateRabbitMQ | PrivateMongoDB) -> None:
    """Start a service; a missing one fails in CI and skips, with the command, elsewhere."""
    try:
        asyncio.run(node.start())
    except MissingPart as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
