"""Learning from stored sums, so that a restart begins with what was normal before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from ml.anomalies.counting import (
    FAILED_HITS,
    LATENCY_N,
    LATENCY_SQUARES,
    LATENCY_SUM,
    ORDERS,
    SETTLED,
    STATISTICS,
    SUCCEEDED,
)
from ml.anomalies.findings import Finding
from ml.anomalies.ledger import Ledger
from ml.anomalies.segments import Floats, overlap

BUCKET_START_MS: Final = 10.0
BUCKET_RATIO: Final = 1.25
"""Latency bucket i covers 10 * 1.25**i to 10 * 1.25**(i + 1) ms; everything below 10 ms lies in bucket 0."""


class HistoryCell(NamedTuple):
    """Some stored time of one gateway, method and issuer.

    ``at``: its first second since 1970; ``seconds``: how long it is; ``orders``: first attempts; latencies per bucket.
    """

    at: float
    seconds: float
    gateway: str
    method: str
    issuer: str
    succeeded: int
    failed: int
    orders: int
    latency_histogram: Mapping[int, int]


def replay(ledger: Ledger, cells: Iterable[HistoryCell], findings: Sequence[Finding], *, now: float) -> int:
    """Teach what is normal from stored sums, without the time of known anomalies. Returns how many cells were learnt.

    Sums do not tell network, country and retries apart; what these add is learnt from the traffic that follows.
    """
    buckets: dict[tuple[float, float], list[tuple[int, HistoryCell, bool]]] = defaultdict(list)
    learnt = 0
    for cell in cells:
        number = ledger.table.cell((cell.gateway, cell.method, cell.issuer, "", "", False))
        if number >= 0 and cell.at + cell.seconds <= now + cell.seconds:
            spoilt = any(_spoilt(cell, finding) for finding in findings)
            buckets[cell.at, cell.seconds].append((number, cell, spoilt))
            learnt += not spoilt
    times = sorted(buckets)
    for at, seconds in times:
        sums, exposed = _sums(ledger, buckets[at, seconds])
        lasted = min(seconds, max(now - at, 1.0))
        ledger.baseline.learn(ledger.table, sums, at=at + lasted / 2, seconds=lasted, exposed=exposed)
        if exposed.all():
            ledger.clock.learn(at + lasted / 2, lasted, float(sums[:, ORDERS].sum()))
    ledger.baseline.begin_to_live()
    if times:
        ledger.baseline.refit(ledger.table, now)
        for at, seconds in times:
            sums, exposed = _sums(ledger, buckets[at, seconds])
            ledger.baseline.learn_hour(ledger.table, sums * exposed[:, None], at + seconds / 2, seconds)
        ledger.baseline.seasons.solve(ledger.table)
        ledger.refresh(now)
    return learnt


def _sums(ledger: Ledger, found: Sequence[tuple[int, HistoryCell, bool]]) -> tuple[Floats, Floats]:
    sums, exposed = np.zeros((len(ledger.table.cells), STATISTICS)), np.ones(len(ledger.table.cells))
    for number, cell, spoilt in found:
        sums[number] += _statistics(cell)
        if spoilt:
            exposed[number] = 0.0
    return sums, exposed


def _spoilt(cell: HistoryCell, finding: Finding) -> bool:
    inside = overlap(finding.segment, (cell.gateway, cell.method, cell.issuer, None, None))
    over = finding.closed_at is not None and finding.closed_at <= cell.at
    return inside and not over and cell.at + cell.seconds > finding.started_at


def _statistics(cell: HistoryCell) -> Floats:
    """The histogram holds all attempts with a latency; scaled down, it is taken for that of the succeeded ones."""
    row = np.zeros(STATISTICS)
    row[ORDERS], row[SUCCEEDED], row[FAILED_HITS] = cell.orders, cell.succeeded, cell.failed
    row[SETTLED] = cell.succeeded + cell.failed
    total = sum(cell.latency_histogram.values())
    if total and cell.succeeded:
        scale = min(1.0, cell.succeeded / total)
        for bucket, count in cell.latency_histogram.items():
            middle = np.log(BUCKET_START_MS) + (bucket + 0.5) * np.log(BUCKET_RATIO)
            row[LATENCY_N] += scale * count
            row[LATENCY_SUM] += scale * count * middle
            row[LATENCY_SQUARES] += scale * count * middle**2
    return row
