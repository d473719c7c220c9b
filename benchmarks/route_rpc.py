"""How fast a route comes back through RabbitMQ, beside a bare pika echo on the same broker with the same client.

The router runs as it does in production: its own process, decisions stored in MongoDB. ``--quick`` asks less often. The
last line is one flat JSON object, also written to benchmarks/results/route_rpc.json:

    ratio_p50_to_echo          median time of one request at a time, router over echo
    ratio_throughput_to_echo   answers a second with many requests under way, router over echo
    decisions_per_s            those of the router; client, broker, store and router share the machine
    p95_ms_at_350              95th percentile at 350 requests a second
    ratio_throughput_learning  throughput over that of the echo, while 2,000 outcomes a second are learned beside it
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pika

from benchmarks.services import Services, private_services
from config.gateways import load_gateways
from config.settings import load_settings, resolved
from messaging.connection import Connection
from messaging.contracts import AttemptsRecorded, RecordedAttempt, RouteRequested
from messaging.line import declare_line
from messaging.topology import EXCHANGE
from storage.database import close, connect, declare
from storage.heartbeats import read_heartbeats

RESULTS: Final = Path(__file__).resolve().parent / "results" / "route_rpc.json"
ECHO: Final = "bench.echo"
REPLY_TO: Final = "amq.rabbitmq.reply-to"
UNDER_WAY: Final = 100
RATE: Final = 350
BATCHES_PER_S: Final = 20
BATCH: Final = 100
WAIT_S_MAX: Final = 60.0


def echo(url: str) -> None:
    """Answer everything with itself, for ever: the least that an answer through RabbitMQ can cost."""
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.queue_declare(ECHO)

    def answer(chan: Any, method: Any, properties: Any, body: bytes) -> None:
        reply = pika.BasicProperties(correlation_id=properties.correlation_id)
        chan.basic_publish("", properties.reply_to, body, reply)

    channel.basic_consume(ECHO, answer, auto_ack=True)
    channel.start_consuming()


class Asker:
    """A checkout in plain pika that keeps so many requests under way, and notes how long each took."""

    def __init__(self, url: str, exchange: str, routing_key: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._exchange, self._routing_key = exchange, routing_key
        self._began: dict[str, float] = {}
        self.taken_ms: list[float] = []
        self._channel.basic_consume(REPLY_TO, self._answered, auto_ack=True)
        self._run = f"{time.time_ns():x}"
        self._asked = 0

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def closed_loop(self, count: int, under_way: int) -> float:
        """Ask ``count`` times, so many at once. Returns: answers a second."""
        self.taken_ms.clear()
        began, asked = time.perf_counter(), 0
        while len(self.taken_ms) < count:
            while asked < count and len(self._began) < under_way:
                self._ask()
                asked += 1
            self._connection.process_data_events(0.01)
            self._give_up_after(began + WAIT_S_MAX, count)
        return count / (time.perf_counter() - began)

    def open_loop(self, count: int, rate: float) -> None:
        """Ask ``count`` times at a steady rate, whether answers come or not."""
        self.taken_ms.clear()
        began, asked = time.perf_counter(), 0
        while len(self.taken_ms) < count:
            while asked < count and time.perf_counter() - began >= asked / rate:
                self._ask()
                asked += 1
            self._connection.process_data_events(0.0005)
            self._give_up_after(began + count / rate + WAIT_S_MAX, count)

    def _give_up_after(self, end: float, count: int) -> None:
        if time.perf_counter() > end:
            raise TimeoutError(f"{len(self.taken_ms)} of {count} requests were answered")

    def _ask(self) -> None:
        self._asked += 1
        name = f"req_{self._run}_{self._asked}"
        request = RouteRequested(
            request_id=name, order_id=f"ord_{self._run}_{self._asked}", method="upi",
            issuer=f"bank_{self._asked % 20}", amount_minor=49_900, currency="INR", country="IN",
            requested_at=datetime.now(UTC),
        )  # fmt: skip
        properties = pika.BasicProperties(
            correlation_id=name, reply_to=REPLY_TO, type="route.requested", content_type="application/json"
        )
        self._began[name] = time.perf_counter()
        self._channel.basic_publish(self._exchange, self._routing_key, msgspec.json.encode(request), properties)

    def _answered(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        self.taken_ms.append(1000 * (time.perf_counter() - self._began.pop(properties.correlation_id)))


class Outcomes(threading.Thread):
    """Publishes batches of outcomes at a steady rate, as an ingestor does, until it is told to stop."""

    def __init__(self, url: str, gateways: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._url, self._gateways = url, gateways
        self._random = random.Random(1)
        self._over = threading.Event()
        self.published = 0

    def run(self) -> None:
        """Publish."""
        connection = pika.BlockingConnection(pika.URLParameters(self._url))
        channel, began = connection.channel(), time.perf_counter()
        properties = pika.BasicProperties(type="attempts.recorded", content_type="application/json")
        while not self._over.wait(max(0.0, began + self.published / BATCHES_PER_S - time.perf_counter())):
            body = msgspec.json.encode(self._batch(self.published + 1))
            channel.basic_publish(EXCHANGE, "attempts.recorded", body, properties)
            self.published += 1
        connection.close()

    def stop(self) -> None:
        """Publish no more."""
        self._over.set()
        self.join()

    def _batch(self, number: int) -> AttemptsRecorded:
        now = datetime.now(UTC)
        return AttemptsRecorded(
            batch_id=f"batch_{number}",
            recorded_at=now,
            attempts=[
                RecordedAttempt(
                    attempt_id=f"att_{number}_{place}", order_id=f"ord_{number}_{place}", method="upi",
                    gateway=self._random.choice(self._gateways), issuer=f"bank_{self._random.randrange(20)}",
                    status="succeeded" if self._random.random() < 0.9 else "failed", amount_minor=49_900,
                    currency="INR", country="IN", attempted_at=now, occurred_at=now,
                )
                for place in range(BATCH)
            ],
        )  # fmt: skip


def measure(asker: Asker, scale: float) -> dict[str, float]:
    """One at a time, many at once, and at a steady rate."""
    asker.closed_loop(int(300 * scale), 1)  # what is measured is not the first call of everything
    asker.closed_loop(int(2_000 * scale), 1)
    p50 = float(np.median(asker.taken_ms))
    throughput = asker.closed_loop(int(20_000 * scale), UNDER_WAY)
    asker.open_loop(int(3_500 * scale), RATE)
    return {"p50_ms": p50, "per_s": throughput, "p95_ms": float(np.quantile(asker.taken_ms, 0.95))}


def measure_learning(asker: Asker, scale: float, url: str, gateways: Sequence[str]) -> dict[str, float]:
    """Many at once, while outcomes flow."""
    outcomes = Outcomes(url, gateways)
    outcomes.start()
    asker.closed_loop(int(2_000 * scale), UNDER_WAY)
    began, before = time.perf_counter(), outcomes.published
    per_s = asker.closed_loop(int(20_000 * scale), UNDER_WAY)
    taught_per_s = (outcomes.published - before) * BATCH / (time.perf_counter() - began)
    outcomes.stop()
    if scale >= 1 and taught_per_s < 0.95 * BATCHES_PER_S * BATCH:
        raise RuntimeError(f"only {taught_per_s:.0f} outcomes a second were published beside the requests")
    return {"per_s_learning": per_s}


async def compare(services: Services, scale: float) -> dict[str, float]:
    """Echo, router, and echo again; the echo's better run is the one to be measured against."""
    url = services.make_vhost("bench")
    environment = {"IPA_AMQP_URL": url, "IPA_MONGO_URL": services.store.url, "IPA_STORE__DATABASE": "bench"}
    settings = load_settings(environment)
    connection = await Connection.open(url, name="bench", wait_s_max=10)
    await declare_line(await connection.channel())
    await connection.close()
    database = await connect(settings.store)
    await declare(database, settings.store)
    found: dict[str, list[dict[str, float]]] = {"echo": [], "router": []}
    contestants: dict[str, tuple[list[str], str, str]] = {
        "echo": (["-m", "benchmarks.route_rpc", "--echo", url], "", ECHO),
        "router": (["-m", "actors", "router_advisor"], EXCHANGE, "route.requested"),
    }
    for name in ("echo", "router", "echo"):
        command, exchange, key = contestants[name]
        process = services.start(name, command, environment)
        try:
            while name == "router" and not await read_heartbeats(database):  # noqa: ASYNC110 - it tells only the store
                await asyncio.sleep(0.2)
            await asyncio.sleep(3.0)
            asker = Asker(url, exchange, key)
            found[name].append(await asyncio.to_thread(measure, asker, scale))
            if name == "router":
                found[name][-1] |= await asyncio.to_thread(
                    measure_learning, asker, scale, url, sorted(load_gateways(resolved(settings.gateways.path)))
                )
            asker.close()
        except TimeoutError as error:
            raise RuntimeError(f"{name}: {error}\n{services.log_of(name)}") from error
        finally:
            process.terminate()
            process.wait()
        print(name, found[name][-1], flush=True)
    await close(database)
    router, floor = found["router"][0], max(run["per_s"] for run in found["echo"])
    return {
        "ratio_p50_to_echo": round(router["p50_ms"] / min(run["p50_ms"] for run in found["echo"]), 3),
        "ratio_throughput_to_echo": round(router["per_s"] / floor, 3),
        "decisions_per_s": round(router["per_s"]),
        "p95_ms_at_350": round(router["p95_ms"], 2),
        "ratio_throughput_learning": round(router["per_s_learning"] / floor, 3),
    }


async def main() -> None:
    """Measure and print."""
    quick = "--quick" in sys.argv[1:]
    async with private_services(cache_gb=0.5) as services:
        figures = await compare(services, 0.1 if quick else 1.0)
    if not quick:
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--echo"]:
        echo(sys.argv[2])
    else:
        asyncio.run(main())
