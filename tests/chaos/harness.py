"""Chaos by seed: ``python -m tests.chaos.harness [--faults 200] [--seed 1]``.

The last line is JSON; the exit code is 1 on a problem.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import msgspec

from messaging.client import RoutingClient
from messaging.dead_letters import list_dead_letters
from tests.chaos.account import Tally, account, bind_witness, settled
from tests.chaos.faults import Faults
from tests.chaos.load import Load
from tests.chaos.system import whole_system
from tests.conftest import eventually, management

SETTLE_S_MAX = 150


async def run_chaos(directory: Path, *, faults: int, seed: int, at_once: int = 12, pause_s: float = 0.02) -> Tally:
    """Break a system under load, let it settle, and count.

    Args:
        directory: for the servers' files and the workers' logs.
        faults: how many.
        seed: of the faults and of the load.
        at_once: shoppers.
        pause_s: how long each rests after an order, seconds.
    Raises: AssertionError: it does not settle, or a worker ended by itself.
    """
    async with whole_system(directory) as (system, database):
        await bind_witness(system.settings)
        client = await RoutingClient.connect(system.settings.broker.url, fallback=["alpha", "bravo"])
        load = Load(system.settings.broker.url, client, random.Random(f"load {seed}"))
        breaking = Faults(system, random.Random(f"faults {seed}"))
        task = asyncio.create_task(breaking.run(faults))
        await load.run(task, at_once=at_once, pause_s=pause_s)
        await task
        await client.close()
        try:
            await eventually(lambda: settled(system.settings, database, load), within_s=SETTLE_S_MAX, every_s=0.5)
        except AssertionError:
            print(f"faults: {dict(breaking.done)}", *map(system.log_of, system.workers), sep="\n", flush=True)
            print(management(system.broker, "GET", "/api/consumers").decode(), flush=True)
            letters = await list_dead_letters(system.settings.broker.url, "ingestor", limit=1_000)
            print(f"dead letters of the ingestor by cause: {Counter(letter.cause for letter in letters)}", flush=True)
            raise
        tally = await account(system.settings, database, load)
        tally.faults = breaking.done.total()
        if ended := system.ended():
            tally.problems += [f"{name} ended by itself: {system.log_of(name)}" for name in ended]
        codes = await system.stop_workers()
        if set(codes.values()) != {0}:
            tally.problems.append(f"exit codes {codes}")
        print(f"{load.orders} orders, {load.with_card} with a card number; faults: {dict(breaking.done)}", flush=True)
        return tally


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ipa-chaos-") as directory:
        tally = asyncio.run(run_chaos(Path(directory), faults=options.faults, seed=options.seed))
        for problem in tally.problems:
            print("PROBLEM", problem[:2_000])
        figures = msgspec.to_builtins(tally)
        print(json.dumps(figures | {"problems": len(tally.problems), "seed": options.seed}))
    return int(bool(tally.problems))


if __name__ == "__main__":
    sys.exit(main())
