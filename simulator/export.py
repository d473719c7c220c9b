"""Writes simulated attempts to files: what could be observed, the truth apart from it, and the plan of incidents."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import pandas as pd
from msgspec import Meta
from numpy.typing import NDArray

from simulator.offline import BEGAN_AT, AttemptColumns, Offline, TruthColumns
from simulator.scenario import load_scenario
from simulator.world import facts
from simulator.world.draws import Floats
from simulator.world.failures import CATEGORIES, CodeRow
from simulator.world.orders import DEVICES
from simulator.world.outcomes import CAUSES
from simulator.world.outcomes_many import STATUSES
from simulator.world.plan import IncidentPlan, Label

ATTEMPTS_MAX: Final = 20_000_000
"""More do not fit into the memory of a common machine at once."""

CHANCE_DECIMALS: Final = 6
"""Chances are rounded to this, so that the last bit of a processor's arithmetic cannot change a file."""

Format = Literal["csv", "parquet"]


class ExportError(Exception):
    """Files could not be written; the text says why and how to mend it."""


class SimulateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to simulate. ``rate`` is orders per second of the world's time; ``began_at`` seconds since epoch."""

    out: Path
    scenario: str = "demo"
    seed: int = 7
    attempts: Annotated[int, Meta(ge=1, le=ATTEMPTS_MAX)] = 100_000
    rate: Annotated[float, Meta(gt=0, le=100_000)] = 50.0
    began_at: float = BEGAN_AT
    format: Format = "csv"


class WrittenFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file: how many rows, how many bytes, and its SHA-256."""

    name: str
    rows: int
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and from what; written as ``manifest.json`` beside the files."""

    scenario: str
    seed: int
    attempts: int
    rate: float
    began_at: float
    files: list[WrittenFile]


def simulate(options: SimulateOptions) -> Manifest:
    """Simulate attempts under uniform routing and write them: attempts, truth, incidents, manifest.

    Args:
        options: what, and the directory to write into; it is made when missing, files of the same name are replaced.
    Returns: the manifest.
    Raises:
        ConfigError: the scenario does not fit.
        ExportError: the directory cannot be written, or Parquet is asked for and pyarrow is missing.
    """
    if options.format == "parquet":
        _require_pyarrow()
    scenario = load_scenario(options.scenario)
    offline = Offline(scenario, seed=options.seed, rate=options.rate, began_at=options.began_at)
    chunk = offline.take(options.attempts)
    tables = {
        "attempts": attempts_table(chunk.attempts, offline.codes),
        "truth": truth_table(chunk.attempts, chunk.truth, offline.plan),
        "incidents": incidents_table(offline.plan, until=float(chunk.attempts.at[-1])),
    }
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        files = [_written(options.out, name, table, options.format) for name, table in tables.items()]
        manifest = Manifest(
            scenario=options.scenario,
            seed=options.seed,
            attempts=len(chunk),
            rate=options.rate,
            began_at=options.began_at,
            files=files,
        )
        shown = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        (options.out / "manifest.json").write_bytes(shown + b"\n")
    except OSError as error:
        raise ExportError(f"{options.out}: cannot be written: {error}; name another directory") from None
    return manifest


def attempts_table(attempts: AttemptColumns, codes: Sequence[CodeRow]) -> pd.DataFrame:
    """What could be observed, one row an attempt; columns as in the data dictionary (docs/data-dictionary.md)."""
    failed = np.array([STATUSES[code] == "failed" for code in range(len(STATUSES))])[attempts.status_last]
    answered = attempts.at + attempts.latency_ms / 1000
    no_code = len(codes)
    place = np.where(failed, attempts.code, no_code)
    reversed_at = answered + attempts.reversed_after_s
    taken_back = np.isfinite(reversed_at)
    last = _names(STATUSES, attempts.status_last)
    last[taken_back] = "reversed"
    return pd.DataFrame(
        {
            "attempt_id": _attempt_ids(attempts),
            "order_id": _ids("ord", attempts.order),
            "attempt_number": attempts.number,
            "attempted_at": _instants(attempts.at),
            "answered_at": _instants(answered),
            "settled_at": _instants(answered + attempts.settle_after_s),
            "reversed_at": _instants(reversed_at),
            "customer_id": _ids("cus", attempts.customer),
            "device": _names(DEVICES, attempts.device),
            "gateway": _names(facts.GATEWAYS, attempts.gateway),
            "method": _names(facts.METHODS, attempts.method),
            "issuer": _names(facts.ISSUER_NAMES, attempts.issuer),
            "network": _names((*facts.NETWORKS[:-1], ""), attempts.network),
            "country": _names(facts.COUNTRIES, attempts.country),
            "three_ds": attempts.three_ds.astype(np.int8),
            "amount_minor": attempts.amount_minor,
            "currency": facts.CURRENCY,
            "status_first": _names(STATUSES, attempts.status),
            "status_last": last,
            "latency_ms": attempts.latency_ms,
            "failure_code": _names([*(row.code for row in codes), ""], place),
            "failure_message": _names([*(row.message for row in codes), ""], place),
            "reported_twice": attempts.reported_twice.astype(np.int8),
        }
    )


def truth_table(attempts: AttemptColumns, truth: TruthColumns, plan: IncidentPlan) -> pd.DataFrame:
    """What only the world knows, one row an attempt in the same order as ``attempts_table``."""
    incidents = [f"inc_{one.place}" for one in plan.planned]
    columns: dict[str, Any] = {
        "attempt_id": _attempt_ids(attempts),
        "category": _names((*CATEGORIES, ""), truth.category),
        "cause": _names(CAUSES, truth.cause),
        "incident": _names([*incidents, ""], truth.incident),
        "card_testing": truth.fraud.astype(np.int8),
        "best_gateway": _names(facts.GATEWAYS, truth.success.argmax(axis=1)),
    }
    for place, gateway in enumerate(facts.GATEWAYS):
        columns[f"success_{gateway}"] = np.round(truth.success[:, place], CHANCE_DECIMALS)
    return pd.DataFrame(columns)


def incidents_table(plan: IncidentPlan, until: float) -> pd.DataFrame:
    """Every occurrence of every incident that began before ``until`` (seconds since epoch)."""
    rows = []
    for label in plan.labels(until):
        row = {name: value or "" for name, value in msgspec.to_builtins(label).items()}
        row["anomaly"] = int(label.anomaly)
        row["starts_at"] = _instants(np.array([label.starts_at.timestamp()]))[0]
        row["ends_at"] = _instants(np.array([label.ends_at.timestamp()]))[0]
        rows.append(row)
    return pd.DataFrame(rows, columns=list(Label.__struct_fields__))


def _names(names: Sequence[str], places: NDArray[Any]) -> NDArray[Any]:
    """Spell out codes; -1 is the last name."""
    spelled: NDArray[Any] = np.array(names, dtype=object)[places]
    return spelled


def _ids(prefix: str, numbers: NDArray[Any]) -> NDArray[Any]:
    return np.array([f"{prefix}_{number}" for number in numbers.tolist()], dtype=object)


def _attempt_ids(attempts: AttemptColumns) -> NDArray[Any]:
    pairs = zip(attempts.order.tolist(), attempts.number.tolist(), strict=True)
    return np.array([f"att_{order}.{number}" for order, number in pairs], dtype=object)


def _instants(at: Floats) -> NDArray[Any]:
    """RFC 3339 in UTC with milliseconds; empty where there is none."""
    known = np.isfinite(at)
    milliseconds = np.floor(np.where(known, at, 0.0) * 1000 + 0.5).astype(np.int64).astype("datetime64[ms]")
    text = np.datetime_as_string(milliseconds, unit="ms").astype(object) + "Z"
    text[~known] = ""
    return np.asarray(text, dtype=object)


def _require_pyarrow() -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise ExportError(
            "Parquet needs pyarrow, which is not installed: pip install pyarrow, or write CSV (--format csv)"
        )


def _written(out: Path, name: str, table: pd.DataFrame, kind: Format) -> WrittenFile:
    path = out / f"{name}.{kind}"
    if kind == "csv":
        table.to_csv(path, index=False, lineterminator="\n")
    else:
        table.to_parquet(path, index=False)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return WrittenFile(name=path.name, rows=len(table), size_bytes=len(content), sha256=digest)
