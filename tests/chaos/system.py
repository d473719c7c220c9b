"""The whole line as processes, behind links that can fail, with a broker and a store that can be killed."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cli.services.mongodb import PrivateMongoDB
from cli.services.process import Child
from cli.services.rabbitmq import PrivateRabbitMQ
from config.settings import Settings, load_settings
from messaging.topology import queue_names
from storage.database import Database, close, connect, declare
from tests.chaos.link import Link
from tests.conftest import eventually

ROOT = Path(__file__).parents[2]
REPLICAS = {"ingestor": 2, "failure_classifier": 2}
"""Workers that run several times; the others are single, or single by the broker's choice."""


class System:
    """Servers, links and workers of one run."""

    def __init__(
        self, broker: PrivateRabbitMQ, store: PrivateMongoDB, links: dict[str, Link], settings: Settings, logs: Path
    ) -> None:
        self.broker, self.store, self.links, self.settings = broker, store, links, settings
        self._logs = logs
        self._children: dict[str, Child] = {}
        self._environment = os.environ | {
            "IPA_AMQP_URL": broker.url.replace(f":{broker.ports['amqp']}/", f":{links['broker'].port}/"),
            # A direct connection: through discovery the driver would find the way around the link.
            "IPA_MONGO_URL": f"mongodb://127.0.0.1:{links['store'].port}/?directConnection=true",
            "IPA_STORE__DATABASE": settings.store.database,
            "IPA_LOG__LEVEL": "warning",
            # Nobody starts a worker again that gave up; on a busy machine a broker may need minutes to come back.
            "IPA_BROKER__CONNECT_WAIT_S_MAX": "600",
            "IPA_STORE__CONNECT_WAIT_S_MAX": "600",
        }

    @property
    def workers(self) -> list[str]:
        """The names of all workers: ``stage.replica``."""
        return [f"{stage}.{number}" for stage in queue_names() for number in range(REPLICAS.get(stage, 1))]

    def start_worker(self, name: str) -> None:
        """Start one worker."""
        command = [sys.executable, "-m", "actors", name.partition(".")[0]]
        self._children[name] = Child(name, command, self._environment, self._logs / f"{name}.log", ROOT)

    def kill_worker(self, name: str) -> None:
        """Kill one worker with -9."""
        self._children[name].kill()

    def ended(self) -> list[str]:
        """The workers that are not running."""
        return [name for name, child in self._children.items() if child.returncode is not None]

    def log_of(self, name: str) -> str:
        """The last that a worker wrote."""
        status = self._children[name].returncode
        written = (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-1_500:]
        return f"--- {name}, {'running' if status is None else f'ended with {status}'}:\n{written}"

    async def stop_workers(self) -> dict[str, int | None]:
        """End all of them in an orderly way. Returns: their exit codes."""
        await asyncio.gather(*(child.stop(30) for child in self._children.values()))
        return {name: child.returncode for name, child in self._children.items()}


@asynccontextmanager
async def whole_system(directory: Path) -> AsyncIterator[tuple[System, Database]]:
    """Start everything; the database handle goes straight to the store, not through a link."""
    broker = PrivateRabbitMQ(directory / "rabbitmq")
    store = PrivateMongoDB(directory / "mongodb", cache_gb=0.5)
    async with broker, store, Link(broker.ports["amqp"]) as amqp, Link(store.port) as mongo:
        name = f"chaos_{uuid.uuid4().hex[:12]}"
        settings = load_settings({"IPA_AMQP_URL": broker.url, "IPA_MONGO_URL": store.url, "IPA_STORE__DATABASE": name})
        database = await connect(settings.store)
        await declare(database, settings.store)
        system = System(broker, store, {"broker": amqp, "store": mongo}, settings, directory)
        for worker in system.workers:
            system.start_worker(worker)
        try:
            await eventually(lambda: _all_live(database), within_s=60)
            yield system, database
        finally:
            await system.stop_workers()
            await close(database)


async def _all_live(database: Database) -> bool:
    return set(await database["heartbeats"].distinct("stage")) == set(queue_names())
