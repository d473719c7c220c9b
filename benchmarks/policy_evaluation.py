"""Off-policy evaluation against the simulator's truth: how far off it is, and how often its intervals hold the truth.

Two logs per seed of the own scenarios of ``routing_worlds``: one dealt out evenly, one of the adaptive policy with a
large exploration floor, which learns from its own outcomes, late and lost ones included. Four candidates are judged on
each. The truth is exact: the candidate's probabilities at every decision times the true success there. ``--psp FILE``
judges candidates on a log of real card payments instead. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from scipy.stats import beta

from benchmarks.routing_worlds import GATEWAYS, METHODS, SCENARIOS, World, scenario
from ml.routing.context import Outcome, RoutingContext
from ml.routing.evaluation.candidate import Candidate, JudgedPolicy
from ml.routing.evaluation.estimators import Estimates
from ml.routing.evaluation.evaluation import Evaluation, evaluate
from ml.routing.evaluation.logged import LoggedDecision
from ml.routing.policies import AdaptivePolicy, PolicySettings

RESULTS: Final = Path(__file__).parent / "results" / "policy_evaluation.json"
NAMES: Final = tuple(f"gw{number}" for number in range(GATEWAYS))


def _always(gateway: str) -> Candidate:
    return Candidate(policy="fixed_order", parameters={"order": [gateway]})


CANDIDATES: Final = {
    "fixed gateway": _always(NAMES[2]),
    "even": Candidate(policy="uniform"),
    "best fixed": Candidate(policy="best_fixed"),
    "adaptive": Candidate(policy="adaptive"),
}
LOGS: Final = {"even": 50_000, "adaptive, floor 40 %": 20_000}
FLOOR: Final = 0.4
FIGURES: Final = ("snips", "ips", "doubly_robust", "gain")


class Watched:
    """A candidate whose true success is added up beside what is estimated."""

    def __init__(self, candidate: Candidate, rates: dict[float, np.ndarray], seed: int) -> None:
        self._judged = JudgedPolicy(candidate, seed=seed)
        self._rates = rates
        self.truth: list[float] = []

    def shares(self, decision: LoggedDecision) -> dict[str, float]:
        """What the candidate would have done; its true success is noted."""
        shares = self._judged.shares(decision)
        if decision.succeeded is not None:
            rates = self._rates[decision.at]
            self.truth.append(sum(share * rates[NAMES.index(name)] for name, share in shares.items()))
        return shares

    def learn(self, decision: LoggedDecision) -> None:
        """Hand an outcome on."""
        self._judged.learn(decision)


def log_of(world: World, kind: str, seed: int) -> list[LoggedDecision]:
    """Let a policy live in a world, and log what it decides."""
    rng = np.random.default_rng([seed, 41])
    settings = PolicySettings(exploration_floor=FLOOR, exploration_cost_max=1.0)
    policy = AdaptivePolicy(settings, np.random.default_rng([seed, 42]))
    under_way: deque[tuple[float, Outcome]] = deque()
    log = []
    for number, at in enumerate(world.at_s.tolist()):
        there = range(GATEWAYS) if world.there is None else np.flatnonzero(world.there[number])
        eligible = tuple(NAMES[index] for index in there)
        context = RoutingContext(method=METHODS[world.method[number]], issuer=f"issuer_{world.issuer[number]}")
        if kind == "even":
            shares = {name: 1 / len(eligible) for name in eligible}
            gateway = eligible[rng.integers(len(eligible))]
        else:
            while under_way and under_way[0][0] <= at:
                policy.learn(under_way.popleft()[1], at)
            ranked = policy.rank(context, eligible, at).candidates
            shares, gateway = {each.gateway: each.propensity for each in ranked}, ranked[0].gateway
        paid = bool(rng.random() < world.rates[number, NAMES.index(gateway)])
        is_lost = rng.random() < world.lost
        known_at = float(world.at_s[min(number + 1 + world.late, len(world.at_s) - 1)]) + 1.0
        if kind != "even" and not is_lost:
            outcome = Outcome(gateway=gateway, method=context.method, issuer=context.issuer, at=at,
                              succeeded=float(paid), failed=float(not paid))  # fmt: skip
            under_way.append((known_at, outcome))
        log.append(
            LoggedDecision(
                at=at,
                context=context,
                eligible=eligible,
                propensities=tuple(shares[name] for name in eligible),
                gateway=gateway,
                succeeded=None if is_lost else paid,
                known_at=None if is_lost else known_at,
            )
        )
    return log


def measured(seeds: range, *, shorter: int = 1) -> Iterator[dict[str, Any]]:
    """One row per log, candidate and seed; logs are so many times ``shorter``."""
    for seed in seeds:
        name = list(SCENARIOS)[seed % len(SCENARIOS)]
        for kind, count in LOGS.items():
            world = scenario(name, seed, count // shorter)
            rates = dict(zip(world.at_s.tolist(), world.rates, strict=True))
            log = log_of(world, kind, seed)
            known = [each for each in log if each.succeeded is not None]
            done = np.mean([np.dot(each.propensities, [rates[each.at][NAMES.index(name)] for name in each.eligible])
                            for each in known])  # fmt: skip
            for called, candidate in CANDIDATES.items():
                watched = Watched(candidate, rates, seed)
                result = evaluate(log, watched).result
                truth = float(np.mean(watched.truth))
                row: dict[str, Any] = {
                    "seed": seed,
                    "scenario": name,
                    "log": kind,
                    "candidate": called,
                    "effective": result.effective,
                    "answered": isinstance(result, Estimates),
                }
                if isinstance(result, Estimates):
                    for figure in FIGURES:
                        interval = getattr(result, figure)
                        target = truth - float(done) if figure == "gain" else truth
                        row[f"{figure}_error"] = interval.estimate - target
                        row[f"{figure}_holds"] = bool(interval.low <= target <= interval.high)
                yield row
        print(f"seed {seed} {name}", file=sys.stderr)


def summed_up(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean absolute error in points and coverage of each figure."""
    answered = [row for row in rows if row["answered"]]
    found: dict[str, Any] = {"judged": len(rows), "answered": len(answered)}
    if not answered:
        return found
    found["effective_median"] = round(float(np.median([row["effective"] for row in answered])))
    for figure in FIGURES:
        errors = np.array([row[f"{figure}_error"] for row in answered])
        holds = sum(row[f"{figure}_holds"] for row in answered)
        low, high = beta.ppf([0.025, 0.975], [holds, holds + 1], [len(answered) - holds + 1, len(answered) - holds])
        found[figure] = {
            "mean_abs_error_points": round(100 * float(np.abs(errors).mean()), 3),
            "bias_points": round(100 * float(errors.mean()), 3),
            "coverage": round(holds / len(answered), 4),
            "coverage_low": round(float(low), 4),
            "coverage_high": round(float(np.nan_to_num(high, nan=1.0)), 4),
        }
    return found


# --- real payments ---------------------------------------------------------------------------------------------------


def psp_log(path: Path) -> list[LoggedDecision]:
    """First attempts of a shop's log, with propensities estimated as the shares of each provider.

    Nobody wrote down with which probability a provider was chosen. The shares among the first attempts of the same
    country, card and 3-D Secure stand for it, drawn to those of all first attempts.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["attempt"] == "1"]
    whole = Counter(row["psp"] for row in rows)
    parts: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for row in rows:
        parts[row["country"], row["card"], row["three_ds"]][row["psp"]] += 1
    names, pull, log = tuple(sorted(whole)), 200.0, []
    for row in rows:
        part = parts[row["country"], row["card"], row["three_ds"]]
        total = part.total() + pull
        at = datetime.strptime(row["tmsp"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
        context = RoutingContext(method="card", network=row["card"], country=row["country"],
                                 issuer="3ds" if row["three_ds"] == "1" else "no 3ds")  # fmt: skip
        shares = tuple((part[name] + pull * whole[name] / whole.total()) / total for name in names)
        log.append(LoggedDecision(at=at, context=context, eligible=names, propensities=shares, gateway=row["psp"],
                                  succeeded=row["success"] == "1", known_at=at + 1))  # fmt: skip
    return sorted(log, key=lambda each: each.at)


def judged_psp(path: Path) -> dict[str, Evaluation]:
    """Every fixed provider, even shares, best fixed and adaptive, from the first payment on."""
    log = psp_log(path)
    wanted = {f"always {name}": _always(name) for name in log[0].eligible}
    wanted |= {called: CANDIDATES[called] for called in ("even", "best fixed", "adaptive")}
    return {called: evaluate(log, JudgedPolicy(candidate)) for called, candidate in wanted.items()}


def main() -> None:
    """Measure, write the results file, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description="off-policy evaluation against a known truth")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--psp", type=Path, help="judge candidates on this log of real payments instead")
    parser.add_argument("--quick", action="store_true", help="one seed and short logs; keeps nothing")
    asked = parser.parse_args()
    if asked.psp is not None:
        judged = {called: found.result for called, found in judged_psp(asked.psp).items()}
        print(msgspec.json.encode(judged).decode())
        return
    seeds = 1 if asked.quick else asked.seeds
    rows = list(measured(range(asked.first_seed, asked.first_seed + seeds), shorter=5 if asked.quick else 1))
    result: dict[str, Any] = {"seeds": seeds, "first_seed": asked.first_seed, "all": summed_up(rows)}
    for kind in LOGS:
        result[f"log {kind}"] = summed_up([row for row in rows if row["log"] == kind])
    for called in CANDIDATES:
        result[f"candidate {called}"] = summed_up([row for row in rows if row["candidate"] == called])
    if not asked.quick:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    whole = result["all"]
    print(json.dumps({"judged": whole["judged"], "answered": whole["answered"], **whole.get("snips", {})}))


if __name__ == "__main__":
    main()
