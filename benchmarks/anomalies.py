"""How soon, how surely and how cheaply the anomaly watcher finds what is wrong, next to the physical limit and peers.

Streams come from the simulator, attempt by attempt as they are answered (``cli.tuning.heard``); incidents of all kinds
are drawn (``simulator.drawn``); the first part of each stream is history that nothing is judged on. The detector runs
with the shipped settings on every stream. Figures are those of the issue (``anomaly_truth``): a repeated alert for one
incident counts as false, an incident that was not found as found infinitely late.

``python -m benchmarks.anomalies [--quick] [--seed N] [--repeats N] [--scale X] [--no-peers] [--jobs N]
[--stream RATE:DAYS:WARM:INCIDENTS]…``: every stream is made with several seeds; ``--scale`` shortens or lengthens what
is judged of each; ``--stream`` takes other rates and lengths than the usual ones; ``--jobs`` streams at once, each in a
process of one thread. The last line is flat JSON, also kept in ``benchmarks/results/anomalies.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import msgspec
import numpy as np

from benchmarks.anomaly_peers import PEERS, Windows, alerts_of, features_of
from benchmarks.anomaly_truth import Alert, Score, Truth, compare, joined
from cli.tuning.heard import Cells, Stream
from config.settings import load_settings
from ml.anomalies.detector import AnomalyDetector
from simulator.drawn import DAY_S, schedule
from simulator.scenario import Scenario

RESULTS = Path(__file__).parent / "results" / "anomalies.json"
KEYS = ("recall", "false_alerts_per_day", "precision", "median_delay_over_limit", "segment_f1", "us_per_attempt")


class Plan(NamedTuple):
    """One stream: orders a second, days, days of history, incidents, and whether volume follows the hour."""

    rate: float
    days: float
    warm: float
    incidents: int
    daily: bool = True


FULL = (
    Plan(1.0, 8.0, 2.0, 12),
    Plan(5.0, 10.0, 1.5, 45),
    Plan(20.0, 4.0, 1.3, 30),
    Plan(100.0, 1.0, 0.4, 16),
    Plan(1000.0, 0.05, 0.02, 3, daily=False),
)
REPEATS = 2
SEEDS_APART = 100
QUICK = (Plan(20.0, 0.25, 0.08, 5, daily=False), Plan(200.0, 0.03, 0.012, 2, daily=False))


class Outcome(NamedTuple):
    """What one stream came to: the detector's score and processor time, and the peers' scores."""

    score: Score
    attempts: int
    cpu_s: float
    peers: dict[str, Score]


def run(plan: Plan, seed: int, *, peers: bool, altered: Callable[[AnomalyDetector], None] | None = None) -> Outcome:
    """Make one stream and let everybody watch it; ``altered`` may first change the detector."""
    seconds, warm_s = plan.days * DAY_S, plan.warm * DAY_S
    scenario = schedule(
        seed,
        rate=plan.rate,
        seconds=seconds,
        warm_s=warm_s,
        incidents=plan.incidents,
        rhythm="daily" if plan.daily else "flat",
    )
    stream = Stream(scenario, seed=seed + 1000, rate=plan.rate, seconds=seconds)
    truths = truths_of(stream, scenario, plan.rate)
    shipped = msgspec.structs.asdict(load_settings({}).anomalies)
    detector = AnomalyDetector(**{name: value for name, value in shipped.items() if name != "maintenance"})
    if altered is not None:
        altered(detector)
    cells, windows = Cells(detector.ledger.table), Windows(stream.began_at, seconds)
    told, cpu_s = [], 0.0
    for piece in stream.pieces():
        for truth in truths:
            truth.take_in(piece.chunk)
        if peers:
            windows.add(piece.attempts)
        rows = cells.numbered(piece.attempts)
        began = time.process_time()
        detector.observe_columns(rows)
        told += detector.tick(piece.until)
        cpu_s += time.process_time() - began
    last: dict[str, Alert] = {}
    for change in told:
        finding = change.finding
        at = last[finding.anomaly_id].at if finding.anomaly_id in last else finding.detected_at
        last[finding.anomaly_id] = Alert(at, finding.segment, finding.signal)
    alerts = [alert for alert in last.values() if alert.at >= stream.began_at + warm_s]
    days = plan.days - plan.warm
    scores = {}
    if peers:
        features, warm = features_of(windows), int(warm_s / 60)
        for name, peer in PEERS.items():
            scores[name] = compare(truths, alerts_of(peer(features, warm), windows, stream.began_at, warm), days)
    return Outcome(compare(truths, alerts, days), stream.count, cpu_s, scores)


def truths_of(stream: Stream, scenario: Scenario, rate: float) -> list[Truth]:
    """The incidents of a stream that are trouble."""
    truths = []
    for label in stream.labels():
        if label.anomaly:
            incident = scenario.incidents[int(label.incident_id.split("_")[1])]
            factor = getattr(incident, "factor", getattr(incident, "share", 1.0))
            truths.append(Truth(label, rate=rate, factor=factor, points=getattr(incident, "points", 0.0)))
    return truths


def by_kind(score: Score) -> list[str]:
    """Found, median delay and median limit of each kind of incident."""
    kinds = defaultdict(list)
    for kind, delay, limit in score.delays:
        kinds[kind].append((delay, limit))
    rows = []
    for kind, pairs in sorted(kinds.items()):
        delays, limits = (np.array(column) for column in zip(*pairs, strict=True))
        found = int(np.isfinite(delays).sum())
        late, limit = np.median(delays), np.median(limits)
        rows.append(f"  {kind:<14} {found}/{len(pairs)} found, delay {late:7.0f} s, limit {limit:7.1f} s")
    return rows


def main() -> None:
    """Run the streams and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--stream", action="append", default=[])
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    shapes = [plan_of(text) for text in options.stream] or list(QUICK if options.quick else FULL)
    plans, seeds = [], []
    for repeat in range(options.repeats or (1 if options.quick or options.stream else REPEATS)):
        for number, plan in enumerate(shapes):
            judged = (plan.days - plan.warm) * options.scale
            incidents = max(round(plan.incidents * options.scale), 1)
            plans.append(plan._replace(days=plan.warm + judged, incidents=incidents))
            seeds.append(options.seed + number + SEEDS_APART * repeat)
    outcomes = []
    for plan, outcome in zip(plans, _run_all(plans, seeds, options.jobs, peers=not options.no_peers), strict=True):
        outcomes.append(outcome)
        print(f"{plan.rate:g} orders/s, {plan.days:.3g} days: {outcome.attempts:,} attempts, {outcome.score.incidents} "
              f"incidents, {outcome.score.figures()}, {1e6 * outcome.cpu_s / outcome.attempts:.1f} us an attempt",
              flush=True)  # fmt: skip
    score = joined([outcome.score for outcome in outcomes])
    attempts = sum(outcome.attempts for outcome in outcomes)
    print(f"{attempts:,} attempts, {score.incidents} incidents, {score.days:.2f} days judged; "
          f"{score.false} false alerts, {score.repeated} repeated", *by_kind(score), sep="\n")  # fmt: skip
    for name in PEERS if not options.no_peers else ():
        figures = joined([outcome.peers[name] for outcome in outcomes]).figures()
        print(f"{name:<24} {figures}")
    figures = {**score.figures(), "us_per_attempt": round(1e6 * sum(one.cpu_s for one in outcomes) / attempts, 2)}
    line = json.dumps({key: figures[key] for key in KEYS})
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(line + "\n")
    print(line)


def _run_all(plans: list[Plan], seeds: list[int], jobs: int, *, peers: bool) -> Iterator[Outcome]:
    """The outcome of every stream, in order; so many at once."""
    if jobs == 1:
        yield from (run(plan, seed, peers=peers) for plan, seed in zip(plans, seeds, strict=True))
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(partial(run, peers=peers), plans, seeds)


def plan_of(text: str) -> Plan:
    """Read RATE:DAYS:WARM:INCIDENTS."""
    rate, days, warm, incidents = text.split(":")
    return Plan(float(rate), float(days), float(warm), int(incidents), daily=float(days) >= 1)


if __name__ == "__main__":
    main()
