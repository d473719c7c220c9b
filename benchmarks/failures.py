"""How well failures of gateways never met before are understood, and how fast.

Measured on real failure codes of 33 payment systems, which lie beside the checkout and are no part of it. The systems
are split in two halves by a hash of their names: on the development half wording, phrases and settings were chosen, so
its figures flatter; the report half is what to believe, and what the last line holds. Every row is judged by a model
that never saw its system. ``--codes FILE`` measures on other rows instead, all of which count.

The last line is one flat JSON object:

    accuracy, macro_f1     right category, of 20; the F1 score averaged over categories
    soft_hard_accuracy     right about whether the failure may pass later or elsewhere
    retry_accuracy         right about what to do next, of 10 policies
    unsafe_retry_share     advised to send again by itself what must never be sent again
    accuracy_surest_80     accuracy on the 80 % of rows with the highest confidence
    failures_per_s         failures with words never seen before per second of processor time, in batches of 500
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold

from ml.failures.classifier import FailureModel, FailureText, Verdict
from ml.failures.codes import KnownCode
from ml.failures.taxonomy import CATEGORIES, NEVER_AGAIN, RETRIES_BLINDLY, category_of

CHECKOUT: Final = Path(__file__).resolve().parents[1]
CODES: Final = CHECKOUT.parent / "shared" / "data" / "failures" / "codes.csv"
RESULTS: Final = CHECKOUT / "benchmarks" / "results" / "failures.json"
FOLDS: Final = 5
SEED: Final = 20261123
MEASURES: Final = (
    "accuracy",
    "macro_f1",
    "soft_hard_accuracy",
    "retry_accuracy",
    "unsafe_retry_share",
    "unasked_retry_share",
    "accuracy_surest_80",
    "calibration_error",
)
HEADLINE: Final = (
    "accuracy",
    "macro_f1",
    "soft_hard_accuracy",
    "retry_accuracy",
    "unsafe_retry_share",
    "accuracy_surest_80",
)


def main() -> None:
    """Measure, print the tables, write the results file, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description="quality and speed of the failure classifier")
    parser.add_argument("--quick", action="store_true", help="fewer bootstrap rounds and failures, within a minute")
    parser.add_argument("--codes", type=Path, help="measure on this file: columns system, code, message, category")
    chosen_options = parser.parse_args()
    quick, other = chosen_options.quick, chosen_options.codes
    path = other or CODES
    if not path.exists():
        print(f"nothing measured: {path} does not exist")
        print(json.dumps({"measured": False}))
        return
    rows = read_rows(path)
    report = np.array([other is not None or not is_development(row.system) for row in rows])
    shipped = judge(FailureModel.shipped(confidence_min=0.0), rows)
    grouped = judge_by_unseen_system(rows)
    rounds = 200 if quick else 2000
    tables = {
        "phrases and other systems, report half": (grouped, report),
        "phrases and other systems, development half": (grouped, ~report),
        "phrases and other systems, all": (grouped, np.ones(len(rows), dtype=bool)),
        "shipped phrases only, report half": (shipped, report),
        "shipped phrases only, all": (shipped, np.ones(len(rows), dtype=bool)),
    }
    print_measures(rows, {name: table for name, table in tables.items() if table[1].any()}, rounds)
    print_confusion(rows, grouped, report)
    print_worst_pairs(rows, grouped, report)
    found = measures(*chosen(rows, grouped, report))
    speed = speeds(rows, count=20_000 if quick else 200_000)
    print(f"failures per second of processor time as codes repeat in traffic: {speed['as in traffic']:,.0f}")
    result = {name: found[name] for name in HEADLINE} | {"failures_per_s": speed["never seen"]}
    flat = {name: round(value, 4) for name, value in result.items()}
    if other is None:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(flat, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(flat))


def read_rows(path: Path) -> list[KnownCode]:
    """Read the systems' codes with the category each one means."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            KnownCode(system=row["system"], code=row["code"], message=row["message"], category=row["category"])
            for row in csv.DictReader(file)
        ]


def is_development(system: str) -> bool:
    """Tell whether a system belongs to the half on which settings and phrases were chosen."""
    return hashlib.sha256(system.encode()).digest()[0] % 2 == 0


def judge(model: FailureModel, rows: list[KnownCode]) -> list[Verdict]:
    """Let a model judge what the rows say; their systems stand in no code table."""
    return model.classify_many([FailureText(f"unseen {row.system}", row.code, row.message) for row in rows])


def judge_by_unseen_system(rows: list[KnownCode]) -> list[Verdict]:
    """Let each row be judged by a model that learned from the phrases and from other systems only."""
    verdicts: dict[int, Verdict] = {}
    for learn, ask in GroupKFold(FOLDS).split(rows, groups=[row.system for row in rows]):
        model = FailureModel.trained_on([rows[at] for at in learn], confidence_min=0.0)
        verdicts |= zip(ask.tolist(), judge(model, [rows[at] for at in ask]), strict=True)
    return [verdicts[at] for at in range(len(rows))]


def chosen(rows: list[KnownCode], verdicts: list[Verdict], which: np.ndarray) -> tuple[list[str], list[Verdict]]:
    """Pick the true categories and the verdicts of some rows."""
    places = np.flatnonzero(which)
    return [rows[at].category for at in places], [verdicts[at] for at in places]


def measures(truth: list[str], verdicts: list[Verdict]) -> dict[str, float]:
    """Compare verdicts with the truth.

    A retry is unsafe when the truth forbids sending the payment again and the verdict would send it again by itself. It
    is unasked when the truth forbids it, or wants a person or the status asked first, and the verdict would not wait.
    """
    judged = [verdict.category for verdict in verdicts]
    right = np.array(judged) == np.array(truth)
    true = [category_of(category) for category in truth]
    pairs = list(zip(verdicts, true, strict=True))
    confidence = np.array([verdict.confidence for verdict in verdicts])
    surest = np.argsort(-confidence, kind="stable")[: int(0.8 * len(verdicts))]
    return {
        "accuracy": float(right.mean()),
        "macro_f1": float(f1_score(truth, judged, average="macro", zero_division=0)),
        "soft_hard_accuracy": float(np.mean([verdict.hardness == category.hardness for verdict, category in pairs])),
        "retry_accuracy": float(np.mean([verdict.retry == category.retry for verdict, category in pairs])),
        "unsafe_retry_share": float(
            np.mean([category.retry in NEVER_AGAIN and verdict.retry in RETRIES_BLINDLY for verdict, category in pairs])
        ),
        "unasked_retry_share": float(
            np.mean(
                [
                    category.retry not in RETRIES_BLINDLY and verdict.retry in RETRIES_BLINDLY
                    for verdict, category in pairs
                ]
            )
        ),
        "accuracy_surest_80": float(right[surest].mean()),
        "calibration_error": calibration_error(confidence, right),
    }


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Say how far stated confidence lies from accuracy: the mean over ten equal ranges, weighted by their rows."""
    ranges = np.minimum((confidence * 10).astype(int), 9)
    gaps = [
        abs(confidence[ranges == place].mean() - right[ranges == place].mean()) * (ranges == place).mean()
        for place in np.unique(ranges)
    ]
    return float(np.sum(gaps))


def intervals(
    rows: list[KnownCode], verdicts: list[Verdict], which: np.ndarray, rounds: int
) -> dict[str, tuple[float, float]]:
    """Give 95 % intervals of every measure by redrawing whole systems, since rows of one system are kin."""
    generator = np.random.default_rng(SEED)
    systems = sorted({rows[at].system for at in np.flatnonzero(which)})
    places = {name: [at for at, row in enumerate(rows) if row.system == name] for name in systems}
    drawn = []
    for _ in range(rounds):
        picked = [at for name in generator.choice(systems, len(systems)) for at in places[name]]
        drawn.append(measures([rows[at].category for at in picked], [verdicts[at] for at in picked]))
    return {
        name: (
            float(np.quantile([round_[name] for round_ in drawn], 0.025)),
            float(np.quantile([round_[name] for round_ in drawn], 0.975)),
        )
        for name in MEASURES
    }


def print_measures(rows: list[KnownCode], tables: dict[str, tuple[list[Verdict], np.ndarray]], rounds: int) -> None:
    """Print one row per model and half of the systems; intervals for the first, which is the figure to believe."""
    table = Table(title="failures of unseen systems")
    for column in ("learned from", "systems", "rows", *MEASURES):
        table.add_column(column, justify="left" if column == "learned from" else "right")
    for name, (verdicts, which) in tables.items():
        systems = len({rows[at].system for at in np.flatnonzero(which)})
        values = measures(*chosen(rows, verdicts, which))
        table.add_row(name, str(systems), str(which.sum()), *(f"{values[measure]:.3f}" for measure in MEASURES))
        if name.endswith("report half"):
            spans = intervals(rows, verdicts, which, rounds)
            cells = (f"{low:.3f}–{high:.3f}" for low, high in spans.values())
            table.add_row("  95 % interval, systems redrawn", "", "", *cells)
    Console(width=170).print(table)


def print_worst_pairs(rows: list[KnownCode], verdicts: list[Verdict], which: np.ndarray) -> None:
    """Print the categories most often mistaken for each other."""
    truth, judged = chosen(rows, verdicts, which)
    totals = Counter(truth)
    mistaken = Counter(
        (category, verdict.category)
        for category, verdict in zip(truth, judged, strict=True)
        if category != verdict.category
    )
    table = Table(title="most frequent mistakes, report half")
    for column in ("truth", "taken for", "rows", "of"):
        table.add_column(column)
    for (category, taken_for), count in mistaken.most_common(12):
        table.add_row(category, taken_for, str(count), str(totals[category]))
    Console(width=170).print(table)


def print_confusion(rows: list[KnownCode], verdicts: list[Verdict], which: np.ndarray) -> None:
    """Print how often each category (a row) was taken for each (a column, by its number)."""
    truth, judged = chosen(rows, verdicts, which)
    names = [category.name for category in CATEGORIES]
    counts = Counter(zip(truth, (verdict.category for verdict in judged), strict=True))
    table = Table(title="what was taken for what: rows are the truth", padding=(0, 1), show_lines=False)
    for column in ("#", "truth", *(str(number) for number in range(1, len(names) + 1))):
        table.add_column(column, justify="left" if column == "truth" else "right")
    for number, name in enumerate(names, start=1):
        cells = (str(counts[name, other] or "·") for other in names)
        table.add_row(str(number), name, *cells)
    Console(width=170).print(table)


def speeds(rows: list[KnownCode], *, count: int) -> dict[str, float]:
    """Measure failures per second in batches of 500: as codes repeat in traffic, and with no text seen twice."""
    model = FailureModel.shipped()
    generator = np.random.default_rng(SEED)
    # Few codes make most of the traffic (Zipf).
    places = np.minimum(generator.zipf(1.3, count) - 1, len(rows) - 1)
    repeated = [FailureText(rows[at].system, rows[at].code, rows[at].message) for at in places]
    turns = max(1, min(count, 20_000) // len(rows))
    never_seen = [FailureText(row.system, row.code, f"{row.message} {turn}") for turn in range(turns) for row in rows]
    model.classify_many(never_seen[:500])  # the words of these gateways are met once, as in the first second of traffic
    return {"as in traffic": _per_second(model, repeated), "never seen": _per_second(model, never_seen[500:])}


def _per_second(model: FailureModel, failures: list[FailureText]) -> float:
    """Time a model on batches as the worker gets them, by processor time: what one core does in a second."""
    started = time.process_time()
    for start in range(0, len(failures), 500):
        model.classify_many(failures[start : start + 500])
    return len(failures) / (time.process_time() - started)


if __name__ == "__main__":
    main()
