"""How a router that starts comes to know what the others know: it learns what the store holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from actors.router_knowledge import RouterKnowledge, teach
from messaging.contracts import AllocationPublished, Anomaly, RecordedAttempt
from ml.routing.context import Outcome
from ml.routing.learners import DEFAULT
from ml.routing.reliability import Reliability


class EvidenceMinute(NamedTuple):
    """One minute of history: how the payments of one gateway, method and issuer ended. ``minute`` in epoch seconds."""

    minute: float
    gateway: str
    method: str
    issuer: str
    succeeded: int
    failed: int


class History(NamedTuple):
    """What the store holds of the time before a router started.

    ``minutes``: oldest first; reversed payments count as failed. ``anomalies``: those that are open. ``allocation``:
    the last one; None: there never was one. ``reliability``: the model in force, whose rates are what learners begin
    with; None: none is. ``newest``: the newest attempts, oldest first: which gateways fail together.
    """

    minutes: Sequence[EvidenceMinute] = ()
    anomalies: Sequence[Anomaly] = ()
    allocation: AllocationPublished | None = None
    reliability: Reliability | None = None
    newest: Sequence[RecordedAttempt] = ()


def learned_from(history: History, fresh: RouterKnowledge, now: datetime) -> RouterKnowledge:
    """Fill fresh knowledge with what a history teaches; returns it.

    Sums per minute do not say which arm a payment was in, nor which attempts were first, so they warm the learners of
    all arms alike; from then on each arm learns from its own. It takes seconds and touches nothing that is in force, so
    payments may be answered meanwhile, from another thread.
    """
    fresh.reliability = history.reliability
    if history.allocation is not None:
        fresh.learners.put_in_force(history.allocation.allocation(), now.timestamp())
    for anomaly in history.anomalies:
        fresh.unwell.heed(anomaly)
    if history.reliability is not None:
        begin = min((entry.minute for entry in history.minutes), default=now.timestamp())
        evidence = [each for each in history.reliability.evidence(begin) if each.gateway in fresh.gateways]
        for learner in fresh.learners.all():
            learner.inherit(evidence, now.timestamp())
    for entry in history.minutes:
        if entry.gateway in fresh.gateways:
            teach(fresh.learners.all(), _outcome_of(entry), now)
    known = fresh.learners.learner(DEFAULT)
    for attempt in history.newest:
        fresh.later.learn(attempt, lambda each: fresh.expected(each, known, now))
    return fresh


def _outcome_of(entry: EvidenceMinute) -> Outcome:
    return Outcome(
        gateway=entry.gateway,
        method=entry.method,
        issuer=entry.issuer,
        at=entry.minute + 30.0,
        succeeded=entry.succeeded,
        failed=entry.failed,
    )
