"""Three experiments with a known truth through the real line: router, broker, ingestor, allocator, store.

In one, policy B is a point better; in one it is equal; in one it is better for one method and harmful for another.
Measured: whether the right verdict comes and no wrong one, after how many orders and seconds, and how soon routers obey
when the harmful one is stopped. ``--quick`` makes the differences larger, so that fewer orders show them. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import numpy as np
from tenacity import AsyncRetrying, RetryError, stop_after_delay, wait_fixed

from benchmarks.services import private_services
from config.settings import load_settings
from messaging.client import RoutingClient
from messaging.connection import Connection
from messaging.line import declare_line
from simulator.trial import Trial, experiment_yaml, gateways_yaml
from storage.database import Database, close, connect, declare
from storage.experiments import last_allocation

RESULTS: Final = Path(__file__).parent / "results" / "experiments_line.json"
METHODS: Final = ("card", "upi", "wallet", "netbanking")
SHARES: Final = {"card": 0.65, "upi": 0.1, "wallet": 0.2, "netbanking": 0.05}
STAGES: Final = ("ingestor", "experiment_allocator", "router_advisor")
WANTED: Final = {"one-point-better": "better", "equal": "no difference", "harm-in-one-part": "guardrail breached"}


def truth_of(better: float) -> dict[tuple[str, str], float]:
    """Success by gateway and method; ``better``: what bravo has more than alpha for cards."""
    alpha = {"card": 0.96, "upi": 0.95, "wallet": 0.93, "netbanking": 0.95}
    bravo = {"card": 0.96 + better, "upi": 0.95, "wallet": 0.97, "netbanking": 0.80 if better < 0.02 else 0.70}
    named = {"alpha": alpha, "bravo": bravo}
    return {(name, method): rate for name, rates in named.items() for method, rate in rates.items()}


def main() -> None:
    """Measure, print what happened, write the results file, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description="verdicts of experiments on the real line")
    parser.add_argument("--quick", action="store_true", help="three points better instead of one")
    parser.add_argument("--orders-max", type=int, default=None)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    better = 0.03 if asked.quick else 0.01
    orders_max = asked.orders_max or (20_000 if asked.quick else 150_000)
    result = asyncio.run(measured(better, orders_max, asked.seed))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


async def measured(better: float, orders_max: int, seed: int) -> dict[str, Any]:
    """Run the three experiments on private services."""
    async with private_services(cache_gb=0.5) as services:
        files = services.directory
        (files / "gateways.yaml").write_text(gateways_yaml(("alpha", "bravo"), METHODS), encoding="utf-8")
        experiments = [
            experiment_yaml("one-point-better", ["card"], smallest_effect=better / 2, orders_expected=30_000),
            experiment_yaml("equal", ["upi"], smallest_effect=0.04 if better < 0.02 else 0.07, orders_expected=1_000),
            experiment_yaml("harm-in-one-part", ["wallet", "netbanking"], smallest_effect=0.04, orders_expected=2_000),
        ]
        (files / "experiments.yaml").write_text("experiments:\n" + "".join(experiments), encoding="utf-8")
        environment = {
            "IPA_AMQP_URL": services.make_vhost("trial"),
            "IPA_MONGO_URL": services.store.url,
            "IPA_STORE__DATABASE": "trial",
            "IPA_GATEWAYS__PATH": str(files / "gateways.yaml"),
            "IPA_EXPERIMENTS__PATH": str(files / "experiments.yaml"),
            "IPA_EXPERIMENTS__REPORT_S": "0.5",
            "OMP_NUM_THREADS": "1",
        }
        settings = load_settings(environment)
        database = await connect(settings.store)
        await declare(database, settings.store)
        connection = await Connection.open(settings.broker.url, name="declare", wait_s_max=30)
        await declare_line(await connection.channel())
        await connection.close()
        processes = [services.start(stage, ["-m", "actors", stage], environment) for stage in STAGES]
        try:
            return await _tried(database, settings.broker.url, truth_of(better), orders_max, seed)
        except RetryError:
            print("\n".join(services.log_of(stage) for stage in STAGES))
            raise
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(30)
            await close(database)


async def _tried(database: Database, url: str, truth: Any, orders_max: int, seed: int) -> dict[str, Any]:
    await _until_allocated(database)
    client = await RoutingClient.connect(url, fallback=["alpha"], wait_s_max=30)
    trial = Trial(client, truth, SHARES, np.random.default_rng(seed))
    began = time.monotonic()
    decided: dict[str, dict[str, Any]] = {}
    said: dict[str, str] = {}
    wrong: set[str] = set()

    async def done() -> bool:
        async for report in database["experiment_reports"].find():
            name, standing, passed_s = report["experiment"], report["standing"], time.monotonic() - began
            if said.get(name) != standing:
                said[name] = standing
                print(f"{passed_s:6.0f} s  {name}: {report['verdict']}", flush=True)
            if standing == WANTED[name] and name not in decided:
                decided[name] = {"orders": report["units"], "s": passed_s}
            elif standing in ("better", "worse", "guardrail breached", "broken") and standing != WANTED[name]:
                wrong.add(name)
        return len(decided.keys() | wrong) == len(WANTED)

    await trial.run(orders_max, done)
    took_s = time.monotonic() - began
    await asyncio.sleep(1)
    obeyed = await _obeyed_s(database, trial)
    await client.close()
    harmful = decided.get("harm-in-one-part", {})
    return {
        "verdicts_right": len(decided.keys() - wrong),
        "verdicts_total": len(WANTED),
        "better_orders": decided.get("one-point-better", {}).get("orders"),
        "equal_orders": decided.get("equal", {}).get("orders"),
        "harm_orders": harmful.get("orders"),
        "harm_stopped_after_s": None if not harmful else round(harmful["s"], 1),
        "routers_obeyed_after_s": obeyed,
        "orders_per_s": round(trial.seen.orders / took_s, 1),
        "routed_share": round(trial.seen.routed / trial.seen.orders, 4),
    }


async def _until_allocated(database: Database) -> None:
    async for attempt in AsyncRetrying(wait=wait_fixed(0.2), stop=stop_after_delay(60)):
        with attempt:
            assert await last_allocation(database) is not None, "no allocation was published within a minute"
    await asyncio.sleep(3)  # the router may still be starting


async def _obeyed_s(database: Database, trial: Trial) -> float | None:
    """Seconds from the stop of the harmful experiment to the last decision by its challenger; None: not stopped."""
    acted = await database["experiment_actions"].find_one({"experiment": "harm-in-one-part", "action": "stopped"})
    last = trial.seen.last_decided.get(("harm-in-one-part", "challenger"))
    if acted is None or last is None:
        return None
    return round(max(0.0, (last - acted["at"].astimezone(UTC)).total_seconds()), 3)


if __name__ == "__main__":
    main()
