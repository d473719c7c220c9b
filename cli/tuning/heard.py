"""Simulated streams as the anomaly watcher would hear them, for tuning and for benchmarks.

An attempt becomes known when its answer comes, not when it began; late outcomes and reversals come as corrections. Of
the reason of a failure the failure classifier's verdict on its code and message is heard, not the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ml.anomalies.attempts import Attempts, joined, nothing
from ml.anomalies.channels import FAULTS
from ml.anomalies.segments import SegmentTable
from ml.failures.classifier import FailureModel, FailureText
from simulator.offline import AttemptColumns, Chunk, Offline
from simulator.scenario import Scenario
from simulator.world import facts
from simulator.world.outcomes_many import FAILED, PENDING, STATUSES, SUCCEEDED
from simulator.world.plan import Label

UNKNOWN = STATUSES.index("unknown")


class Piece(NamedTuple):
    """What was reported up to a moment, in order; ``cell`` numbers (gateway, method, issuer, network, country, retry).
    ``chunk``: the attempts that began meanwhile, with the truth."""

    attempts: Attempts
    until: float
    chunk: Chunk


class Stream:
    """One simulated stream.

    Args:
        scenario: what happens.
        seed: of the world.
        rate: mean orders a second.
        seconds: how long.
    """

    def __init__(self, scenario: Scenario, *, seed: int, rate: float, seconds: float) -> None:
        self._offline = Offline(scenario, seed=seed, rate=rate)
        self.began_at = self._offline.plan.began_at
        self.until = self.began_at + seconds
        self._fault = _faults(self._offline)
        self.count = 0

    def labels(self) -> list[Label]:
        """The truth."""
        return self._offline.plan.labels(self.until)

    def pieces(self) -> Iterator[Piece]:
        """Everything reported, in order of its coming."""
        waiting = nothing()
        for chunk in self._offline.chunks():
            first = chunk.attempts.at[chunk.attempts.number == 1]
            upto = min(float(first.max()), self.until)
            rows = joined([waiting, *self._reports(chunk.attempts)])
            rows = rows.take(np.argsort(rows.at, kind="stable"))
            end = int(rows.at.searchsorted(upto))
            waiting = rows.take(slice(end, None))
            self.count += len(chunk)
            yield Piece(rows.take(slice(0, end)), upto, chunk)
            if upto >= self.until:
                return

    def _reports(self, seen: AttemptColumns) -> list[Attempts]:
        cell = cell_code(seen)
        answered = seen.at + seen.latency_ms / 1000
        first = _reported(seen, cell, answered, seen.status, self._fault, first=True)
        rows = np.flatnonzero((seen.status == PENDING) & ~np.isnan(seen.settle_after_s))
        late = _taken(seen, rows)
        settled = _reported(
            late, cell[rows], answered[rows] + late.settle_after_s, late.status_last, self._fault, first=False
        )
        rows = np.flatnonzero(~np.isnan(seen.reversed_after_s))
        size = len(rows)
        zeros, nan = np.zeros(size), np.full(size, np.nan)
        back = Attempts(
            answered[rows] + seen.reversed_after_s[rows], cell[rows], zeros, zeros, zeros, np.full(size, -1), zeros,
            nan, nan, zeros, zeros, np.ones(size),
        )  # fmt: skip
        return [first, settled, back]


def cell_code(seen: AttemptColumns) -> np.ndarray:
    """One number for gateway, method, issuer, network, country and whether it is a retry."""
    code = seen.gateway.astype(np.int64)
    for column, names in (
        (seen.method, facts.METHODS),
        (seen.issuer, facts.ISSUER_NAMES),
        (seen.network, facts.NETWORKS),
        (seen.country, facts.COUNTRIES),
    ):
        code = code * len(names) + column
    return code * 2 + (seen.number > 1)


class Cells:
    """Turns the streams' numbers of cells into those of a detector's table."""

    def __init__(self, table: SegmentTable) -> None:
        self._table = table
        size = len(facts.GATEWAYS) * len(facts.METHODS) * len(facts.ISSUER_NAMES) * len(facts.NETWORKS)
        self._known = np.full(size * len(facts.COUNTRIES) * 2, -1)

    def numbered(self, attempts: Attempts) -> Attempts:
        """The same attempts with the table's numbers."""
        number = self._known[attempts.cell]
        for code in np.unique(attempts.cell[number < 0]).tolist():
            self._known[code] = self._table.cell(key_of(code))
        return attempts._replace(cell=self._known[attempts.cell])


def key_of(code: int) -> tuple[str, str, str, str, str, bool]:
    """The values behind a number."""
    code, retry = divmod(code, 2)
    values = []
    for names in (facts.COUNTRIES, facts.NETWORKS, facts.ISSUER_NAMES, facts.METHODS):
        code, place = divmod(code, len(names))
        values.append(names[place])
    country, network, issuer, method = values
    return facts.GATEWAYS[code], method, issuer, "" if network == "none" else network, country, bool(retry)


def _reported(
    seen: AttemptColumns, cell: np.ndarray, at: np.ndarray, status: np.ndarray, fault: np.ndarray, *, first: bool
) -> Attempts:
    succeeded, failed = status == SUCCEEDED, status == FAILED
    known = failed & (seen.code >= 0)
    side = np.where(known, fault[np.maximum(seen.code, 0)], -1)
    begins = (seen.number == 1) & first
    nan = np.full(len(at), np.nan)
    return Attempts(
        at=at,
        cell=cell,
        settled=(succeeded | failed).astype(float),
        succeeded=succeeded.astype(float),
        failed=failed.astype(float),
        fault=side,
        fault_count=(side >= 0).astype(float),
        latency=np.where(succeeded, np.log(np.maximum(seen.latency_ms, 1.0)), nan) if first else nan,
        amount=np.where(begins, np.log(np.maximum(seen.amount_minor, 1)), nan),
        order=begins.astype(float),
        retry=((seen.number > 1) & first).astype(float),
        reversed=np.zeros(len(at)),
    )


def _taken(seen: AttemptColumns, rows: np.ndarray) -> AttemptColumns:
    return AttemptColumns(*(getattr(seen, name)[rows] for name in AttemptColumns.__struct_fields__))


def _faults(offline: Offline) -> np.ndarray:
    """The place in FAULTS of what the failure classifier says of each code; -1 where it does not know."""
    model = FailureModel.shipped(0.35)
    texts = [FailureText(row.system, row.code, row.message) for row in offline.codes]
    faults = [verdict.fault for verdict in model.classify_many(texts)]
    return np.array([FAULTS.index(fault) if fault in FAULTS else -1 for fault in faults])
