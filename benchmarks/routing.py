"""How much success the adaptive policy loses against an oracle, beside its peers, and how long a decision takes.

Regret is the sum of (best rate - rate of the chosen gateway), so lower is better; the gap closed is the share of the
way from the best fixed gateway to the oracle. Router and world draw from separate streams of random numbers. Everything
is played in one configuration, the default one. ``--seeds N`` (20), ``--payments N`` of each own scenario (200,000),
``--only GROUP``, ``--processes N``; ``--quick`` ends within a minute and is no figure
to quote. All of it takes about an hour on two processors.

The last line is one flat JSON object, also written to benchmarks/results/routing.json; means over the seeds. With
``--table FILE`` a table with intervals and peers is written as well.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from actors.__main__ import COLLECT_AFTER
from benchmarks.routing_peers import (
    Adaptive,
    Chooser,
    DiscountedThompson,
    DiscountedUcb,
    LinUcb,
    SlidingUcb,
    VowpalWabbit,
    WindowedHedge,
)
from benchmarks.routing_worlds import (
    BEST_FOR_ISSUERS,
    METHODS,
    PB1,
    PB2,
    SCENARIOS,
    World,
    issuer_outage,
    near_equal,
    phases,
    scenario,
    week,
)
from ml.routing.context import Outcome, RoutingContext
from ml.routing.policies import AdaptivePolicy, PolicySettings

RESULTS: Final = Path(__file__).resolve().parent / "results" / "routing.json"
POLICIES: Final[dict[str, Callable[[int], Chooser]]] = {
    "adaptive": Adaptive,
    "vowpal_wabbit": VowpalWabbit,
    "thompson_9999": DiscountedThompson,
    "windowed_hedge": WindowedHedge,
    "sw_ucb_1000": SlidingUcb,
    "d_ucb_999": DiscountedUcb,
    "lin_ucb": LinUcb,
}
QUICK_PAYMENTS: Final = 4_000
PEER_SEEDS: Final = 5
"""Seeds that the peers play which are not to be beaten by a margin; the others play all of them."""

HEADLINE: Final = (
    "week_100k_regret", "week_20k_regret", "week_100k_late_regret", "pb1_regret", "pb2_regret",
    "issuer_outage_success", "others_on_best_share", "gap_closed", "gap_closed_pooled", "near_equal_harm_points",
)  # fmt: skip


class Task(NamedTuple):
    """One policy playing one problem with one seed."""

    problem: str
    policy: str
    seed: int
    payments: int


def world_of(task: Task) -> World:
    """The problem of a task."""
    makers: dict[str, Callable[[], World]] = {
        "pb1": partial(phases, PB1),
        "pb2": partial(phases, PB2),
        "week_20k": partial(week, 20_000 if task.payments > QUICK_PAYMENTS else QUICK_PAYMENTS),
        "week_100k": partial(week, 100_000 if task.payments > QUICK_PAYMENTS else QUICK_PAYMENTS),
        "week_100k_late": partial(week, 100_000 if task.payments > QUICK_PAYMENTS else QUICK_PAYMENTS, 500),
        "issuer_outage": partial(issuer_outage, 100_000 if task.payments >= 100_000 else 25_000, task.seed),
        "near_equal": partial(near_equal, task.seed, task.payments),
    }
    return makers[task.problem]() if task.problem in makers else scenario(task.problem, task.seed, task.payments)


def play(world: World, chooser: Chooser, seed: int) -> np.ndarray:
    """Route every payment. Returns: position of the chosen gateway, shape (payments,), int."""
    count, gateways = world.rates.shape
    luck = np.random.default_rng([seed, 1]).random(count)
    lost = np.random.default_rng([seed, 9]).random(count) < world.lost
    names = tuple("abcdefgh"[:gateways])
    contexts: dict[tuple[int, int], RoutingContext] = {}
    chosen = np.empty(count, int)
    waiting: deque[tuple[bool, Outcome, RoutingContext]] = deque()
    for step, now in enumerate(world.at_s.tolist()):
        key = int(world.method[step]), int(world.issuer[step])
        context = contexts.get(key)
        if context is None:
            context = contexts[key] = RoutingContext(method=METHODS[key[0]], issuer=f"issuer_{key[1]}")
        able = names if world.there is None else tuple(np.array(names)[world.there[step]].tolist())
        gateway = chooser.choose(context, able, now)
        chosen[step] = names.index(gateway)
        good = bool(luck[step] < world.rates[step, chosen[step]])
        outcome = Outcome(gateway=gateway, method=context.method, issuer=context.issuer, at=now,
                          succeeded=float(good), failed=float(not good))  # fmt: skip
        waiting.append((bool(lost[step]), outcome, context))
        if len(waiting) > world.late:
            is_lost, known, its_context = waiting.popleft()
            if not is_lost:
                chooser.learn(known, its_context, now)
    return chosen


def best_fixed(world: World) -> np.ndarray:
    """The gateway with the best success over the whole, or the next one where that is not there."""
    if world.there is None:
        return np.full(len(world.rates), world.rates.mean(axis=0).argmax())
    mean = np.where(world.there, world.rates, 0.0).sum(axis=0) / np.maximum(1, world.there.sum(axis=0))
    return np.asarray(np.where(world.there, mean, -1.0).argmax(axis=1))


def run(task: Task) -> dict[str, float]:
    """Play one task. Returns: its measures, by name."""
    world = world_of(task)
    chosen = play(world, POLICIES[task.policy](task.seed), task.seed)
    every = np.arange(len(chosen))
    rates = world.rates if world.there is None else np.where(world.there, world.rates, -1.0)
    got, best, fixed = world.rates[every, chosen], rates.max(axis=1), world.rates[every, best_fixed(world)]
    if task.problem == "issuer_outage":
        assert world.incident is not None
        others = world.incident & (world.issuer > 0)
        kept = float((chosen[others] == BEST_FOR_ISSUERS).mean())
        return {"issuer_outage_success": 100 * float(got[world.incident].mean()), "others_on_best_share": kept}
    if task.problem == "near_equal":
        return {"near_equal_harm_points": 100 * float(fixed.mean() - got.mean())}
    if task.problem in SCENARIOS:
        return {f"{task.problem}_gap_closed": float((got.sum() - fixed.sum()) / (best.sum() - fixed.sum())),
                f"{task.problem}_gap_points": 100 * float(best.mean() - fixed.mean())}  # fmt: skip
    return {f"{task.problem}_regret": float((best - got).sum())}


def decision_times(decisions: int) -> tuple[float, float]:
    """Median and 99th percentile of one decision over five gateways, microseconds; memory is cleared as in a worker."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    generator = np.random.default_rng(0)
    policy = AdaptivePolicy(PolicySettings(), generator)
    names = tuple("abcde")
    taken = []
    for step in range(decisions):
        context = RoutingContext(method="card", issuer=f"issuer_{step % 20}")
        started = time.perf_counter_ns()
        gateway = policy.rank(context, names, step).candidates[0].gateway
        taken.append(time.perf_counter_ns() - started)
        good = bool(generator.random() < 0.9)
        policy.learn(Outcome(gateway=gateway, method="card", issuer=context.issuer, at=step,
                             succeeded=float(good), failed=float(not good)), step)  # fmt: skip
    median, slow = np.quantile(taken, [0.5, 0.99]) / 1e3
    return float(median), float(slow)


def tasks(seeds: int, payments: int, policies: list[str], only: str | None) -> Iterator[Task]:
    """Everything to be played, seeds 0, 1, 2 …"""
    problems = ["pb1", "pb2", "week_20k", "week_100k", "week_100k_late", "issuer_outage", "near_equal", *SCENARIOS]
    for problem in problems:
        is_own = problem in SCENARIOS
        if only not in (None, problem, "own" if is_own else "published"):
            continue
        for policy in policies:
            if policy == "vowpal_wabbit" and not (is_own or problem == "near_equal"):
                continue
            count = seeds if policy in ("adaptive", "vowpal_wabbit") else min(seeds, PEER_SEEDS)
            yield from (Task(problem, policy, seed, payments) for seed in range(count))


def pooled_gaps(measures: Mapping[str, list[float]]) -> dict[str, tuple[float, float]]:
    """Share of all gaps of a scenario's seeds together that was closed, by scenario.

    Where the best fixed gateway is nearly as good as the oracle, the share of that one gap is mostly chance, and a
    mean of shares is decided by such seeds.

    Returns: share and half of its 95 % interval (a ratio of means over the seeds, by the delta method).
    """
    pooled = {}
    for name in SCENARIOS:
        shares, gaps = (
            np.array(measures.get(f"{name}_gap_closed", [])),
            np.array(measures.get(f"{name}_gap_points", [])),
        )
        if len(shares):
            share = float(np.average(shares, weights=gaps))
            apart = (shares - share) * gaps / gaps.mean()
            half = 1.96 * apart.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else float("inf")
            pooled[name] = share, float(half)
    return pooled


def table_of(found: dict[str, dict[str, list[float]]]) -> str:
    """The means with 95 % intervals and the number of seeds, one row a measure, one column a policy, as Markdown."""
    policies = list(found)
    lines = [f"| mean ± 95 % (seeds) | {' | '.join(policies)} |", "|---" * (len(policies) + 1) + "|"]
    for measure in found[policies[0]]:
        lines.append(f"| {measure} | {' | '.join(_cell(found[policy].get(measure, [])) for policy in policies)} |")
    pooled = {policy: pooled_gaps(found[policy]) for policy in policies}
    for name in pooled[policies[0]]:
        cells = ["{:.4g} ± {:.2g}".format(*each[name]) if name in each else "not played" for each in pooled.values()]
        lines.append(f"| {name}_gap_closed_pooled | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.4g} (1)" if values else "not played"
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.4g} ± {half:.2g} ({len(values)})"


def main() -> None:
    """Play, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--payments", type=int, default=200_000)
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--only")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    seeds, payments, policies = asked.seeds, asked.payments, asked.policies.split(",")
    if asked.quick:
        seeds, payments, policies = 1, QUICK_PAYMENTS, ["adaptive"]
    found: dict[str, dict[str, list[float]]] = {policy: defaultdict(list) for policy in policies}
    todo = list(tasks(seeds, payments, policies, asked.only))
    with ProcessPoolExecutor(asked.processes) as pool:
        for task, measures in zip(todo, pool.map(run, todo), strict=True):
            for name, value in measures.items():
                found[task.policy][name].append(value)
            print(*task, {name: round(value, 4) for name, value in measures.items()}, flush=True)
    print(table_of(found))
    ours = {name: float(np.mean(values)) for name, values in found["adaptive"].items()}
    gaps = [ours[f"{name}_gap_closed"] for name in SCENARIOS if f"{name}_gap_closed" in ours]
    if gaps:
        pooled = [share for share, _ in pooled_gaps(found["adaptive"]).values()]
        ours |= {"gap_closed": float(np.mean(gaps)), "gap_closed_pooled": float(np.mean(pooled))}
    figures = {name: round(ours[name], 4) for name in HEADLINE if name in ours}
    median, slow = decision_times(2_000 if asked.quick else 20_000)
    figures |= {"decision_us_p50": round(median, 1), "decision_us_p99": round(slow, 1)}
    if asked.table:
        asked.table.write_text(table_of(found), encoding="utf-8")
    if not asked.quick and not asked.only:
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
