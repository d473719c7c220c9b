"""How fast the offline world makes attempts, next to drawing one payment at a time in plain Python.

``python benchmarks/simulator.py [--quick]``: the last line is flat JSON, also kept in
``benchmarks/results/simulator.json``. One process, one thread.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from pathlib import Path

# Run as a script, this file's own folder comes first, and this file would be taken for the package of the same name.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from simulator.offline import Offline  # noqa: E402
from simulator.scenario import load_dialects, load_scenario  # noqa: E402
from simulator.world.plan import IncidentPlan  # noqa: E402
from simulator.world.world import World  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "simulator.json"
REPEATS = 5
"""The median of so many runs is reported."""


def attempts_per_s(attempts: int, scenario: str) -> float:
    """Vectorised: orders, outcomes, retries and truth columns of so many attempts."""
    offline = Offline(load_scenario(scenario), seed=7, rate=1_000)
    chunks = offline.chunks()
    next(chunks)  # tables are built once
    made = 0
    began = time.perf_counter()
    while made < attempts:
        made += len(next(chunks))
    return made / (time.perf_counter() - began)


def attempts_one_by_one_per_s(attempts: int) -> float:
    """Scalar: the same world asked attempt by attempt, as live checkouts do."""
    scenario = load_scenario("demo")
    world = World(7, plan=IncidentPlan(scenario.incidents, 0.0), dialects=load_dialects(), rate=1_000)
    made = 0
    began = time.perf_counter()
    while made < attempts:
        for order in world.next_orders(256):
            world.attempt(order, order.index % 5, 1, order.placed_at)
            made += 1
    return made / (time.perf_counter() - began)


def plain_python_per_s(attempts: int) -> float:
    """The peer: a minimal loop that draws gateway, method, amount, latency and success, and nothing else."""
    source = random.Random(7)
    rows = []
    began = time.perf_counter()
    for number in range(attempts):
        gateway = source.choice(("alpha", "bravo", "charlie", "delta", "echo"))
        method = source.choice(("card", "upi", "wallet", "netbanking"))
        amount = round(source.lognormvariate(6.5, 1.1) * 100)
        rows.append((number, gateway, method, amount, source.lognormvariate(6.5, 0.5), source.random() < 0.9))
    return len(rows) / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    quick = "--quick" in sys.argv[1:]
    attempts = 300_000 if quick else 3_000_000
    repeats = 1 if quick else REPEATS
    many = statistics.median(attempts_per_s(attempts, "calm") for _ in range(repeats))
    with_incidents = statistics.median(attempts_per_s(attempts, "demo") for _ in range(repeats))
    single = statistics.median(attempts_one_by_one_per_s(attempts // 15) for _ in range(repeats))
    peer = statistics.median(plain_python_per_s(attempts // 10) for _ in range(repeats))
    print(f"vectorised, calm       {many:>12,.0f} attempts/s")
    print(f"vectorised, incidents  {with_incidents:>12,.0f} attempts/s")
    print(f"one by one             {single:>12,.0f} attempts/s")
    print(f"plain Python peer      {peer:>12,.0f} attempts/s")
    figures = {
        "attempts_per_s": round(many),
        "attempts_with_incidents_per_s": round(with_incidents),
        "attempts_one_by_one_per_s": round(single),
        "plain_python_per_s": round(peer),
        "times_plain_python": round(many / peer, 2),
        "attempts": attempts,
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
