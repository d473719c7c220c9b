"""How fast attempts get into the store, exactly once, next to the floor and to peers on the same broker and messages.

``python -m benchmarks.ingest [--quick]``. Every contestant gets a virtual host, a database, one process and the same
load from a generator that runs at the same time on the same machine; the time goes from the first message published to
the last one stored. Rounds are interleaved and the median counts. The last line is JSON. How the cost depends on the
number of replicas and of stored attempts: ``benchmarks.ingest_growth``.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pika
from pymongo import MongoClient

from benchmarks.reports import bodies
from benchmarks.services import Services, cpu_s, private_services
from config.settings import load_settings
from messaging.connection import Connection
from messaging.line import declare_line
from storage.database import close, connect, declare

RESULTS: Final = Path(__file__).parent / "results" / "ingest.json"
SEED: Final = 11
STORED_S_MAX: Final = 240
SETTLE_S_MAX: Final = 120
SETTLE_LOOK_S: Final = 0.5
SETTLED_SHARE: Final = 0.05
"""The store counts as settled below so much of one processor."""
COMMANDS: Final = {
    "ours": ["-m", "actors", "ingestor"],
    "floor": ["-m", "benchmarks.ingest_peers", "floor"],
    "aio_pika": ["-m", "benchmarks.ingest_peers", "aio_pika"],
    "faststream": ["-m", "benchmarks.ingest_peers", "faststream"],
}


class Run(msgspec.Struct, frozen=True):
    """What one contestant did with one load."""

    attempts_per_s: float
    cpu_us: float
    store_cpu_us: float
    lost: int
    doubled: int
    ready_left: int


class Bench:
    """Runs contestants against private services."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._client: MongoClient[dict[str, Any]] = MongoClient(services.store.url)
        self._count = 0

    async def run(self, name: str, load: list[bytes], *, replicas: int = 1, database: str | None = None) -> Run:
        """One contestant, one load, a virtual host and a database of their own, unless a database is given."""
        self._count += 1
        label = database or f"bench{self._count}"
        environment = {
            "IPA_AMQP_URL": self._services.make_vhost(f"bench{self._count}"),
            "IPA_MONGO_URL": self._services.store.url,
            "IPA_STORE__DATABASE": label,
            "IPA_LOG__LEVEL": "warning",
        }
        await _prepare(environment)
        before = self._client[label]["attempts"].count_documents({}) if database else 0
        summed = self._summed(label) if database else 0
        file = self._services.directory / "load.msgpack"
        file.write_bytes(msgspec.msgpack.encode(load))
        with self._processes(f"{name}{self._count}", name, replicas, environment) as processes:
            self._wait_for_consumers(environment["IPA_AMQP_URL"], replicas, f"{name}{self._count}.0")
            self._settle()
            cpu = sum(cpu_s(process.pid) for process in processes)
            store_cpu = cpu_s(self._services.store.pid or 0)
            generator = self._services.start(
                "load", ["-m", "benchmarks.generator", environment["IPA_AMQP_URL"], str(file)], environment
            )
            ended = self._until_stored(label, before + len(load), processes)
            generator.wait(60)
            cpu = sum(cpu_s(process.pid) for process in processes) - cpu
            self._settle()
            store_cpu = cpu_s(self._services.store.pid or 0) - store_cpu
            said = json.loads(self._services.log_of("load").strip().splitlines()[-1])
            await asyncio.sleep(1.5)
            left = self._ready(environment["IPA_AMQP_URL"])
        stored = self._client[label]["attempts"].count_documents({}) - before
        doubled = self._summed(label) - summed - stored if name == "ours" else 0
        self._services.drop_vhost(f"bench{self._count}")
        if database is None:
            self._client.drop_database(label)
        count, seconds = len(load), ended - said["began"]
        return Run(count / seconds, cpu / count * 1e6, store_cpu / count * 1e6, count - stored, doubled, left)

    def _settle(self) -> None:
        """Let the store write out what it holds, so that each run pays for what it stored itself and for no more."""
        self._client.admin.command("fsync")
        pid, until = self._services.store.pid or 0, time.time() + SETTLE_S_MAX
        busy = True
        while busy and time.time() < until:
            before = cpu_s(pid)
            time.sleep(SETTLE_LOOK_S)
            busy = cpu_s(pid) - before > SETTLED_SHARE * SETTLE_LOOK_S

    def _summed(self, label: str) -> int:
        rows = self._client[label]["attempt_rollups"].aggregate([{"$group": {"_id": None, "n": {"$sum": "$attempts"}}}])
        return next((int(row["n"]) for row in rows), 0)

    @contextmanager
    def _processes(
        self, label: str, name: str, replicas: int, environment: dict[str, str]
    ) -> Iterator[list[subprocess.Popen[bytes]]]:
        processes = [self._services.start(f"{label}.{n}", COMMANDS[name], environment) for n in range(replicas)]
        try:
            yield processes
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()

    def _until_stored(self, label: str, count: int, processes: list[subprocess.Popen[bytes]]) -> float:
        """Wait until so many attempts are stored. Returns: when, seconds since epoch."""
        collection, until = self._client[label]["attempts"], time.time() + STORED_S_MAX
        while collection.estimated_document_count() < count:
            if time.time() > until or any(process.poll() is not None for process in processes):
                raise RuntimeError(f"only {collection.estimated_document_count()} of {count} were stored")
            time.sleep(0.02)
        return time.time()

    def _wait_for_consumers(self, url: str, replicas: int, log: str) -> None:
        until = time.time() + 60
        while self._declared(url).consumer_count < replicas:
            if time.time() > until:
                raise RuntimeError(f"a consumer did not start; it said: {self._services.log_of(log)}")
            time.sleep(0.1)

    def _ready(self, url: str) -> int:
        return int(self._declared(url).message_count)

    def _declared(self, url: str) -> Any:
        connection = pika.BlockingConnection(pika.URLParameters(url))
        try:
            return connection.channel().queue_declare("ingestor", passive=True).method
        finally:
            connection.close()


async def _prepare(environment: dict[str, str]) -> None:
    """Queues and indexes are the same for everybody."""
    settings = load_settings(environment)
    connection = await Connection.open(settings.broker.url, name="bench", wait_s_max=10)
    await declare_line(await connection.channel())
    await connection.close()
    database = await connect(settings.store)
    await declare(database, settings.store)
    await close(database)


def _median(runs: list[Run], field: str) -> float:
    return statistics.median(getattr(run, field) for run in runs)


async def compare(bench: Bench, *, rounds: int, attempts: int) -> dict[str, Any]:
    """All contestants in turn, several rounds."""
    load = bodies(attempts, seed=SEED, rate=10_000)
    runs: dict[str, list[Run]] = {name: [] for name in COMMANDS}
    for number in range(rounds):
        for name in COMMANDS:
            share = load if name != "faststream" else load[: max(2_000, attempts // 10)]
            run = await bench.run(name, share)
            runs[name].append(run)
            print(
                f"round {number + 1}  {name:<11}{run.attempts_per_s:>9,.0f} attempts/s"
                f"{run.cpu_us:>8.1f} us CPU an attempt",
                flush=True,
            )
    rate = {name: _median(found, "attempts_per_s") for name, found in runs.items()}
    ours = runs["ours"]
    return {
        "attempts_per_s": round(rate["ours"]),
        "ratio_to_floor": round(rate["ours"] / rate["floor"], 3),
        "ratio_to_faststream": round(rate["ours"] / rate["faststream"], 2),
        "ratio_to_aio_pika": round(rate["ours"] / rate["aio_pika"], 3),
        "lost": sum(run.lost for run in ours),
        "doubled": sum(run.doubled for run in ours),
        "ready_left": max(run.ready_left for run in ours),
        **{f"{name}_cpu_us": round(_median(found, "cpu_us"), 1) for name, found in runs.items()},
        **{f"{name}_per_s": round(rate[name]) for name in rate if name != "ours"},
        "attempts": attempts,
        "rounds": rounds,
    }


async def main() -> None:
    """Measure and print."""
    quick = "--quick" in sys.argv[1:]
    async with private_services() as services:
        bench = Bench(services)
        figures = await compare(bench, rounds=1 if quick else 3, attempts=15_000 if quick else 100_000)
    if not quick:
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())
