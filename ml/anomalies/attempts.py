"""Attempts as columns: what every count begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from ml.anomalies.channels import FAULTS
from ml.anomalies.segments import CellKey, Floats, Integers, SegmentTable

LATENCY_LOG_MIN: Final = 0.0
LATENCY_LOG_MAX: Final = float(np.log(600_000.0))
"""ln(latency in ms) is cut to 1 ms .. 10 min: one broken clock must not move a mean."""

NO_FAULT: Final = -1
FAULT_PLACE: Final[dict[str, int]] = {fault: place for place, fault in enumerate(FAULTS)}


class Attempts(NamedTuple):
    """What was reported, one row each; every array has shape (n,).

    ``at``: when it was reported, seconds. ``cell``: number in the segment table, >= 0. ``settled`` is 1 for an attempt
    that succeeded or failed, -1 for one that a correction takes back, else 0; ``failed`` and ``succeeded`` likewise.
    ``fault``: place in FAULTS of a failure whose reason is known, else -1, and ``fault_count`` 1 or -1. ``latency``: ln
    ms of a success, ``amount``: ln minor units of an order's first attempt; NaN when there is none. ``order``: 1 for
    an order's first report. ``retry``: 1 for the first report of a later attempt. ``reversed``: 1 for a success taken
    back.
    """

    at: Floats
    cell: Integers
    settled: Floats
    succeeded: Floats
    failed: Floats
    fault: Integers
    fault_count: Floats
    latency: Floats
    amount: Floats
    order: Floats
    retry: Floats
    reversed: Floats

    def take(self, rows: np.ndarray | slice) -> Attempts:
        """Some of the rows."""
        return Attempts(*(column[rows] for column in self))  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        return len(self.at) > 0


def nothing() -> Attempts:
    """No rows at all."""
    return Attempts(*(np.zeros(0, dtype=np.int64 if name in ("cell", "fault") else float) for name in Attempts._fields))


def joined(parts: Sequence[Attempts]) -> Attempts:
    """Put rows end to end."""
    if len(parts) == 1:
        return parts[0]
    return Attempts(*map(np.concatenate, zip(*parts, strict=True))) if parts else nothing()


class Observation(NamedTuple):
    """One report of an attempt as it now stands. ``was`` is the status it replaces, None for a new attempt.

    ``reported_at``: when it became known, seconds; what is watched is when news came, not what they are about.
    """

    reported_at: float
    gateway: str
    method: str
    issuer: str
    status: str
    was: str | None
    latency_ms: float | None
    amount_minor: int
    currency: str = ""
    network: str | None = None
    country: str | None = None
    number: int = 1

    @property
    def key(self) -> CellKey:
        """The cell it lies in."""
        return (self.gateway, self.method, self.issuer, self.network or "", self.country or "", self.number > 1)


class Reason(NamedTuple):
    """Whose fault a failure was, as it became known; ``sign`` is -1 when that is withdrawn."""

    reported_at: float
    gateway: str
    method: str
    issuer: str
    fault: str
    network: str | None = None
    country: str | None = None
    number: int = 1
    sign: int = 1


def rows_of(observations: Sequence[Observation], table: SegmentTable) -> Attempts:
    """Turn reports into rows; what the full table refuses is left out."""
    rows = []
    nan = float("nan")
    for seen in observations:
        if seen.status == seen.was:
            continue
        cell = table.cell(seen.key)
        if cell < 0:
            continue
        is_first, is_retry = seen.was is None, seen.number > 1
        now = (seen.status == "succeeded", seen.status == "failed")
        before = (seen.was == "succeeded", seen.was == "failed")
        taken_back = seen.status == "reversed" and before[0]
        succeeded = 0 if taken_back else now[0] - before[0]
        failed = now[1] - before[1]
        latency = np.log(max(seen.latency_ms, 1e-3)) if now[0] and seen.latency_ms is not None else nan
        amount = np.log(seen.amount_minor) if is_first and not is_retry and seen.amount_minor > 0 else nan
        order, retry = float(is_first and not is_retry), float(is_first and is_retry)
        rows.append((seen.reported_at, cell, succeeded + failed, succeeded, failed, NO_FAULT, 0.0,
                     latency, amount, order, retry, float(taken_back)))  # fmt: skip
    return _columns(rows)


def reasons_of(reasons: Sequence[Reason], table: SegmentTable) -> Attempts:
    """Turn reasons of failures into rows; the failures themselves were counted when they were reported."""
    rows = []
    nan = float("nan")
    for seen in reasons:
        key = (seen.gateway, seen.method, seen.issuer, seen.network or "", seen.country or "", seen.number > 1)
        cell, fault = table.cell(key), FAULT_PLACE.get(seen.fault, NO_FAULT)
        if cell >= 0 and fault >= 0:
            rows.append((seen.reported_at, cell, 0, 0, 0, fault, seen.sign, nan, nan, 0, 0, 0))
    return _columns(rows)


def _columns(rows: Sequence[tuple[float, ...]]) -> Attempts:
    if not rows:
        return nothing()
    matrix = np.array(rows, dtype=np.float64).T
    named = dict(zip(Attempts._fields, matrix, strict=True))
    whole = {name: named[name].astype(np.int64) for name in ("cell", "fault")}
    bounded = {"latency": named["latency"].clip(LATENCY_LOG_MIN, LATENCY_LOG_MAX)}
    return Attempts(**named | whole | bounded)
