"""The whole line under load: the highest rate that it keeps up with, and how old a report is when it can be seen.

``python -m benchmarks.line [--quick]``. All five workers, broker, store and generator on one machine. A rate is kept
when at its end no queue holds more than half a second's worth and the generator was not behind. The age of a report
goes from when it was handed to the broker to the poll of the dashboard's figures that first counts it, with the
dashboard's own reader at its own interval, at half the highest rate. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks.reports import bodies
from benchmarks.services import Services, cpu_s, private_services
from config.gateways import load_gateways
from config.settings import Settings, load_settings, resolved
from messaging.connection import Connection
from messaging.line import declare_line
from messaging.topology import queue_names
from storage.database import close, connect, declare
from storage.read_models.live import LiveFigures

RESULTS: Final = Path(__file__).parent / "results" / "line.json"
SEED: Final = 12
RATES: Final = (1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 8_000, 10_000, 12_000)
QUEUED_S_MAX: Final = 0.5
BATCHES_MAX: Final = 30
"""A queue further down holds batches, not attempts: about so many are made in half a second."""


class Trial(msgspec.Struct, frozen=True):
    """One rate for a while."""

    rate: float
    kept: bool
    waiting: dict[str, int]
    lag_s: float
    ages_ms: list[float]
    cpu_share: dict[str, float]


class Line:
    """All five workers as processes, and the dashboard's reader in this one."""

    def __init__(self, services: Services, environment: dict[str, str], settings: Settings) -> None:
        self._services = services
        self._environment = environment
        self._settings = settings
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._prefixes = iter("abcdefghijklmnopqrstuvwxyz")

    async def start(self) -> None:
        """Start the workers and wait until each takes from its queue."""
        for stage in queue_names():
            self._workers[stage] = self._services.start(stage, ["-m", "actors", stage], self._environment)
        database = await connect(self._settings.store)
        for _ in range(300):
            if len(await database["heartbeats"].distinct("stage")) == len(queue_names()):
                break
            await asyncio.sleep(0.2)
        await close(database)
        await asyncio.sleep(2)

    def stop(self) -> None:
        """End the workers."""
        for process in self._workers.values():
            process.terminate()
        for process in self._workers.values():
            process.wait(30)

    async def trial(self, rate: float, seconds: float) -> Trial:
        """Send at a rate for a while, watch what is seen, and look at the queues at the end."""
        load = bodies(round(rate * seconds), seed=SEED, rate=rate, prefix=next(self._prefixes))
        file = self._services.directory / "load.msgpack"
        file.write_bytes(msgspec.msgpack.encode(load))
        database = await connect(self._settings.store)
        dashboard = self._settings.dashboard
        live = LiveFigures(
            database,
            gateways=list(load_gateways(resolved(self._settings.gateways.path))),
            poll_ms=dashboard.poll_ms,
            heartbeat_s=self._settings.runner.heartbeat_s,
        )
        await live.poll()
        before = _seen(live)
        cpu = self._cpu_s()
        command = ["-m", "benchmarks.generator", self._environment["IPA_AMQP_URL"], str(file), str(rate)]
        generator = self._services.start("load", command, self._environment)
        began = time.monotonic()
        polls: list[tuple[float, int]] = []
        while generator.poll() is None and time.monotonic() - began < 2 * seconds + 30:
            polled = time.monotonic()
            await live.poll()
            polls.append((time.time(), _seen(live) - before))
            await asyncio.sleep(max(0.0, dashboard.poll_ms / 1000 - (time.monotonic() - polled)))
        lasted = time.monotonic() - began
        waiting = await self._waiting()
        used = {name: (spent - cpu[name]) / lasted for name, spent in self._cpu_s().items()}
        await self._drained()
        await live.poll()
        polls.append((time.time(), _seen(live) - before))
        await close(database)
        said = json.loads(self._services.log_of("load").strip().splitlines()[-1])
        limits = dict.fromkeys(queue_names(), BATCHES_MAX) | {"ingestor": QUEUED_S_MAX * rate}
        kept = said["lag_s_max"] < 1.0 and all(count <= limits[queue] for queue, count in waiting.items())
        return Trial(rate, kept, waiting, said["lag_s_max"], _ages_ms(polls, said["began"], rate, len(load)), used)

    def _cpu_s(self) -> dict[str, float]:
        """Processor time so far of each worker, the broker and the store, seconds."""
        pids = {stage: process.pid for stage, process in self._workers.items()}
        pids |= {"broker": self._services.broker.pid or 0, "store": self._services.store.pid or 0}
        return {name: cpu_s(pid) for name, pid in pids.items()}

    async def _waiting(self) -> dict[str, int]:
        connection = await Connection.open(self._environment["IPA_AMQP_URL"], name="bench", wait_s_max=10)
        channel = await connection.channel()
        counts = {queue: await channel.count_ready(queue) for queue in queue_names()}
        await connection.close()
        return counts

    async def _drained(self) -> None:
        """Wait until the line is empty."""
        for _ in range(600):
            if not any((await self._waiting()).values()):
                break
            await asyncio.sleep(0.5)
        await asyncio.sleep(1)


def _seen(live: LiveFigures) -> int:
    """Attempts in the figures of the dashboard, all gateways and methods of the window."""
    return int(live.snapshot.attempts.values[..., 0].sum())


def _ages_ms(polls: list[tuple[float, int]], began: float, rate: float, count: int) -> list[float]:
    """How old each report was at the first poll that counted it; they are counted in about the order they are sent."""
    sent = began + np.arange(count) / rate
    at = np.array([moment for moment, _ in polls])
    seen = np.maximum.accumulate(np.array([number for _, number in polls]))
    first = np.searchsorted(seen, np.arange(1, count + 1))
    known = first < len(at)
    return [float(age) for age in (at[first[known]] - sent[known]) * 1000]


async def measure(services: Services, *, quick: bool) -> dict[str, Any]:
    """Climb the rates, hold the highest for a minute, then measure ages at half of it."""
    environment = {
        "IPA_AMQP_URL": services.make_vhost("line"),
        "IPA_MONGO_URL": services.store.url,
        "IPA_STORE__DATABASE": "line",
        "IPA_LOG__LEVEL": "warning",
    }
    settings = load_settings(environment)
    connection = await Connection.open(settings.broker.url, name="bench", wait_s_max=10)
    await declare_line(await connection.channel())
    await connection.close()
    database = await connect(settings.store)
    await declare(database, settings.store)
    await close(database)
    line = Line(services, environment, settings)
    try:
        await line.start()
        climb_s, hold_s = (4, 6) if quick else (12, 60)
        await line.trial(500, 3)  # warm
        best = 0.0
        for rate in RATES[:4] if quick else RATES:
            trial = await line.trial(rate, climb_s)
            _say(trial)
            if not trial.kept:
                break
            best = rate
        held = await line.trial(best or RATES[0], hold_s)
        _say(held)
        while not held.kept and held.rate > 300 and not quick:
            held = await line.trial(round(held.rate * 0.85), hold_s)
            _say(held)
        half = await line.trial(held.rate / 2, hold_s)
        _say(half)
    finally:
        line.stop()
    ages = np.percentile(half.ages_ms, [50, 95, 99])
    return {
        "attempts_per_s": round(held.rate) if held.kept else 0,
        "age_p50_ms": round(float(ages[0]), 1),
        "age_p95_ms": round(float(ages[1]), 1),
        "age_p99_ms": round(float(ages[2]), 1),
        "age_rate": half.rate,
        "seconds": hold_s,
        "poll_ms": settings.dashboard.poll_ms,
        **{f"{stage}_cpu_share": round(share, 3) for stage, share in held.cpu_share.items()},
    }


def _say(trial: Trial) -> None:
    ages = np.percentile(trial.ages_ms, [50, 95]) if trial.ages_ms else (0, 0)
    print(
        f"{trial.rate:>7,.0f}/s {'kept' if trial.kept else 'NOT KEPT':<9} "
        f"age p50 {ages[0]:,.0f} p95 {ages[1]:,.0f} ms; waiting {trial.waiting}; generator behind {trial.lag_s:.2f} s",
        flush=True,
    )


async def main() -> None:
    """Measure and print."""
    quick = "--quick" in sys.argv[1:]
    async with private_services() as services:
        figures = await measure(services, quick=quick)
    if not quick:
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())
