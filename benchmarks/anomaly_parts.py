"""What each part of the anomaly watcher adds: the same streams without it.

Channels are left out one kind at a time, as are the curves of the hours, the joining of alarms that are one trouble,
and the second looks at an open anomaly; everything else stays as shipped, the budget of false alerts too. Two streams,
of 5 and of 20 orders a second; ``--scale X`` shortens or lengthens what is judged, ``--jobs N`` at once, ``--only
PART``.

The last line is one flat JSON object, also kept in ``benchmarks/results/anomaly_parts.json``: F1 of the segment without
each part.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

from benchmarks.anomalies import Outcome, Plan, run
from benchmarks.anomaly_truth import Score, joined
from ml.anomalies.channels import COUNTED, PLACE
from ml.anomalies.detector import AnomalyDetector

RESULTS: Final = Path(__file__).parent / "results" / "anomaly_parts.json"
PLANS: Final = (Plan(5.0, 10.0, 1.5, 45), Plan(20.0, 4.0, 1.3, 30))
QUICK: Final = (Plan(20.0, 0.25, 0.08, 5, daily=False),)


def _without(*channels: str) -> Callable[[AnomalyDetector], None]:
    """Leave channels out of every segment."""

    def altered(detector: AnomalyDetector) -> None:
        choose = detector.ledger.choose

        def chosen() -> Any:
            watched = choose()
            watched.channels[[PLACE[name] for name in channels]] = False
            return watched

        detector.ledger.choose = chosen  # type: ignore[method-assign]

    return altered


def _without_hours(detector: AnomalyDetector) -> None:
    detector.ledger.baseline.seasons.solve = lambda table: None  # type: ignore[method-assign]


def _without_joining(detector: AnomalyDetector) -> None:
    detector.casebook._same = lambda *_: None  # type: ignore[method-assign]


def _without_reviews(detector: AnomalyDetector) -> None:
    detector.casebook.review = lambda _: []  # type: ignore[method-assign]


PARTS: Final[dict[str, Callable[[AnomalyDetector], None] | None]] = {
    "nothing": None,
    "isolation_forest": _without("unusual"),
    "reasons_of_failures": _without(*list(PLACE)[1:COUNTED]),
    "latency": _without("latency"),
    "volume": _without("volume", "silence"),
    "retries_and_reversals": _without("retries", "reversals"),
    "hours": _without_hours,
    "joining": _without_joining,
    "reviews": _without_reviews,
}
"""What is left out, by name."""


def one(part: str, plan: Plan, seed: int) -> Outcome:
    """One stream without one part."""
    return run(plan, seed, peers=False, altered=PARTS[part])


def main() -> None:
    """Watch, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=list(PARTS))
    options = parser.parse_args()
    plans = []
    for plan in QUICK if options.quick else PLANS:
        judged = (plan.days - plan.warm) * (1.0 if options.quick else options.scale)
        incidents = max(round(plan.incidents * judged / (plan.days - plan.warm)), 1)
        plans.append(plan._replace(days=plan.warm + judged, incidents=incidents))
    parts = [options.only] if options.only else list(PARTS)
    tasks = [(part, plan, options.seed + number) for part in parts for number, plan in enumerate(plans)]
    scores: dict[str, list[Score]] = {part: [] for part in parts}
    with ProcessPoolExecutor(options.jobs) as pool:
        for (part, plan, _), outcome in zip(tasks, pool.map(one, *zip(*tasks, strict=True)), strict=True):
            scores[part].append(outcome.score)
            print(f"without {part}, {plan.rate:g} orders/s: {outcome.score.figures()}", flush=True)
    print("| without | incidents | recall | false or repeated a day | precision | median delay / limit | F1 |")
    print("|---|---|---|---|---|---|---|")
    found = {}
    for part, several in scores.items():
        score = joined(several)
        found[part] = score.figures()["segment_f1"]
        print(f"| {part} | {score.incidents} | {' | '.join(map(str, score.figures().values()))} |")
    line = json.dumps({f"f1_without_{part}": value for part, value in found.items()})
    if not options.quick and not options.only:
        RESULTS.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
