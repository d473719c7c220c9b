"""A small payments world in arrays, so that many seeds take seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ml.anomalies.attempts import Attempts, joined
from ml.anomalies.channels import FAULTS
from ml.anomalies.detector import AnomalyDetector
from ml.anomalies.findings import Change

GATEWAYS = ("alpha", "bravo", "charlie", "delta", "echo")
METHODS = ("card", "upi", "wallet", "netbanking")
ISSUERS = tuple(f"bank_{letter}" for letter in "abcdefghijklmnopqrst")
BEGIN = 1_700_000_000
EQUAL = np.full(5, 0.2)
TIMEOUT_MS = 12_000.0

Effect = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(gateway, method, issuer, failure rate or latency in ms) to the new failure rate or latency."""


class Stream:
    """Attempts at five gateways whose normal differs by gateway, method and issuer; each arrives when it is settled.

    ``timeouts``: the share of failures that take twelve seconds, and are the network's.
    """

    def __init__(
        self, seed: int, *, per_second: float = 60.0, step: int = 1, timeouts: float = 0.0, **settings: Any
    ) -> None:
        self.random = np.random.default_rng(seed)
        self.per_second = per_second
        self.step = step
        self.timeouts = timeouts
        self.now = BEGIN
        self.detector = AnomalyDetector(**settings)
        self.issuer_share = self.random.dirichlet(np.full(20, 6.0))
        self.gateway_effect = self.random.normal(0, 0.2, 5)
        self.issuer_effect = self.random.normal(0, 0.3, 20)
        self.pair_effect = self.random.normal(0, 0.15, (5, 4))
        self.method_effect = np.array([0.0, -0.3, -0.2, 0.5])
        self.latency = np.array([7.0, 7.4, 6.5, 7.8]) + self.random.normal(0, 0.25, (5, 1))
        self.faults = np.array([0.5, 0.2, 0.15, 0.1, 0.02, 0.03])
        self.waiting: list[Attempts] = []
        self._cells: dict[tuple[int, int, int], int] = {}

    def run(  # the ways in which one second may differ from another
        self,
        seconds: int,
        *,
        failing: Effect | None = None,
        slow: Effect | None = None,
        share: np.ndarray = EQUAL,
        busy: float = 1.0,
        faults: np.ndarray | None = None,
        amount: float = 1.0,
        probes: float = 0.0,
        methods: np.ndarray | None = None,
    ) -> list[Change]:
        """Let time pass. Returns what the detector told.

        ``share``: each gateway's part of the traffic; ``busy``: times the usual traffic; ``faults``: shares of the
        sides; ``amount``: times the usual amounts; ``probes``: small declined cards a second on top;
        ``methods``: the share of each method's payments that come at all.
        """
        told: list[Change] = []
        for second in range(seconds):
            rows = self._second(failing, slow, share, busy, faults, amount)
            if methods is not None:
                method_of = {cell: method for (_, method, _), cell in self._cells.items()}
                comes = methods[[method_of[cell] for cell in rows.cell.tolist()]]
                rows = rows.take(self.random.random(len(rows.at)) < comes)
            self.waiting.append(joined([rows, self._probes(probes)]) if probes else rows)
            self.now += 1
            if second % self.step == self.step - 1 or second == seconds - 1:
                rows = joined(self.waiting)
                due = rows.at <= self.now
                self.waiting = [rows.take(~due)]
                self.detector.observe_columns(rows.take(due))
                told += self.detector.tick(self.now)
        return told

    def _second(  # as in run
        self,
        failing: Effect | None,
        slow: Effect | None,
        share: np.ndarray,
        busy: float,
        faults: np.ndarray | None,
        amount: float,
    ) -> Attempts:
        count = self.random.poisson(self.per_second * busy)
        gateway = self.random.choice(5, count, p=share)
        method = self.random.choice(4, count, p=(0.35, 0.45, 0.1, 0.1))
        issuer = self.random.choice(20, count, p=self.issuer_share)
        odds = self.gateway_effect[gateway] + self.method_effect[method] + self.issuer_effect[issuer]
        rate = 1 / (1 + np.exp(2.4 - odds - self.pair_effect[gateway, method]))
        rate = rate if failing is None else failing(gateway, method, issuer, rate)
        failed = self.random.random(count) < rate
        latency = np.exp(self.latency[gateway, method] + self.random.normal(0, 0.45, count))
        latency = np.where(failed, 0.6 * latency, latency)
        if self.timeouts:
            latency[failed & (self.random.random(count) < self.timeouts)] = TIMEOUT_MS
        latency = latency if slow is None else slow(gateway, method, issuer, latency)
        side = self.random.choice(len(FAULTS), count, p=self.faults if faults is None else faults)
        side[latency == TIMEOUT_MS] = FAULTS.index("network")
        amounts = self.random.normal(11, 1, count) + np.log(amount)
        at = self.now + self.random.random(count) + latency / 1000
        cells = [self._cell(*place) for place in zip(gateway, method, issuer, strict=True)]
        return rows_of(at, np.array(cells, dtype=np.int64), failed, side, np.log(latency), amounts)

    def _probes(self, per_second: float) -> Attempts:
        count = self.random.poisson(per_second)
        cells = [self._cell(g, 0, i) for g, i in zip(*self.random.integers(0, (5, 20), (count, 2)).T, strict=True)]
        at, amounts = self.now + self.random.random(count), np.full(count, 7.0)
        side = np.full(count, FAULTS.index("customer"))
        failed = self.random.random(count) < 0.85
        return rows_of(at, np.array(cells, dtype=np.int64), failed, side, np.full(count, 6.5), amounts)

    def _cell(self, gateway: int, method: int, issuer: int) -> int:
        key = (gateway, method, issuer)
        if key not in self._cells:
            named = (GATEWAYS[gateway], METHODS[method], ISSUERS[issuer], "", "", False)
            self._cells[key] = self.detector.ledger.table.cell(named)
        return self._cells[key]


def rows_of(  # one column each
    at: np.ndarray, cell: np.ndarray, failed: np.ndarray, side: np.ndarray, latency: np.ndarray, amount: np.ndarray
) -> Attempts:
    """First attempts that were settled."""
    size, ones = len(at), np.ones(len(at))
    return Attempts(
        at=at,
        cell=cell,
        settled=ones,
        succeeded=(~failed).astype(float),
        failed=failed.astype(float),
        fault=np.where(failed, side, -1),
        fault_count=failed.astype(float),
        latency=np.where(failed, np.nan, latency),
        amount=amount,
        order=ones,
        retry=np.zeros(size),
        reversed=np.zeros(size),
    )


@pytest.fixture
def stream() -> type[Stream]:
    """The world, to be made with a seed."""
    return Stream
