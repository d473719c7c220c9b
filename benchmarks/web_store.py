"""A store as large as wanted, for `make bench-web`: a base written through the real code, then copied by the server.

The base is a stretch of made-up payments; the server lays copies of it one after another into the past, with sums,
failures and decisions. Only ids and times differ between the copies, which is what the size of a store is about.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from config.settings import StoreSettings
from messaging.contracts import (
    Anomaly,
    FailureClassified,
    FailuresClassified,
    RankedGateway,
    RecordedAttempt,
    RouteAdvised,
    RouteRequested,
    Segment,
)
from storage.anomalies import record_anomalies
from storage.attempts import AttemptChange, AttemptState, ReportEntry, record_changes
from storage.database import Database, declare, indexes
from storage.decisions import write_decisions
from storage.failures import FailuresKnown, record_failures
from storage.rollups import SLOTS

GATEWAYS: Final = {"alpha": 0.94, "bravo": 0.92, "charlie": 0.91, "delta": 0.89, "echo": 0.86}
METHODS: Final = ("card", "upi", "wallet", "netbanking")
ISSUERS: Final = ("harbour_bank", "meadow_bank", "lantern_bank", "river_trust")
CATEGORIES: Final = (
    "insufficient_funds",
    "issuer_unavailable",
    "authentication_failed",
    "expired_card",
    "gateway_error",
)
BATCH: Final = 500
DECISIONS_MAX: Final = 200_000
"""Decisions are large and no page looks further back than the newest few thousand."""

COPIED: Final = {
    # collection: the fields that are times
    "attempts": ("attempted_at", "occurred_at"),
    "failures": ("attempted_at",),
    "decisions": ("decided_at",),
    "attempt_rollups": ("minute",),
    "failure_rollups": ("minute",),
}


class Stream:
    """Made-up payments, always the same for the same seed."""

    def __init__(self, seed: int, prefix: str) -> None:
        self._random = random.Random(seed)
        self._prefix = prefix
        self._count = 0

    def attempts(self, count: int, newest: datetime, span_s: float) -> Iterator[AttemptState]:
        """So many attempts, evenly over a span that ends at ``newest``, oldest first."""
        for place in range(count):
            yield self._attempt(newest - timedelta(seconds=span_s * (1 - (place + 1) / count)))

    def _attempt(self, at: datetime) -> AttemptState:
        draw, number = self._random, self._count
        self._count += 1
        gateway = draw.choice(tuple(GATEWAYS))
        succeeded = draw.random() < GATEWAYS[gateway]
        latency_ms = round(draw.lognormvariate(6, 0.5), 1)
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)
        attempt = RecordedAttempt(
            attempt_id=f"att_{self._prefix}{number:07d}",
            order_id=f"ord_{self._prefix}{number:07d}",
            gateway=gateway,
            method=draw.choice(METHODS),
            issuer=draw.choice(ISSUERS),
            country="IN",
            customer_id=f"cus_{draw.randrange(50_000)}",
            status="succeeded" if succeeded else "failed",
            amount_minor=int(draw.lognormvariate(11, 0.8)),
            currency="INR",
            attempted_at=at,
            occurred_at=at + timedelta(milliseconds=int(latency_ms)),
            latency_ms=latency_ms,
            failure_code=None if succeeded else str(draw.randrange(1, 60)),
            failure_message=None if succeeded else "Declined",
            decision_id=f"dec_{self._prefix}{number:07d}",
        )
        report = ReportEntry(
            event_id=f"evt_{self._prefix}{number:07d}",
            status=attempt.status,
            occurred_at=attempt.occurred_at,
            received_at=datetime.now(at.tzinfo),
        )
        return AttemptState(attempt=attempt, history=(report,), revision=1)


async def write(database: Database, states: list[AttemptState], *, slot: int, now: datetime) -> None:
    """Store attempts with sums, verdicts and decisions through the code that the workers use."""
    for start in range(0, len(states), BATCH):
        batch = states[start : start + BATCH]
        await record_changes(database, [AttemptChange(before=None, after=s) for s in batch], [], now=now, slot=slot)
        failed = [state.attempt for state in batch if state.attempt.status == "failed"]
        verdicts = [_verdict(attempt) for attempt in failed]
        said = (
            FailuresClassified(batch_id=f"bat_{failed[0].attempt_id}", classified_at=now, failures=verdicts)
            if failed
            else None
        )
        if said:
            await record_failures(
                database, [said.batch_id], failed, [said], [], [], FailuresKnown(), now=now, slot=slot
            )
        await write_decisions(database, [_decision(state.attempt) for state in batch])


async def fill(database: Database, settings: StoreSettings, *, attempts: int, base: int, now: datetime) -> int:
    """Fill an empty database; returns how many attempts it holds.

    Args:
        attempts: wanted; rounded to whole copies.
        base: attempts written through the real code.
        now: the newest attempt.
    """
    copies = max(1, round(attempts / base))
    span_min = max(5, 7 * 24 * 60 // copies)
    states = list(Stream(7, "b").attempts(base, now, span_min * 60))
    await declare(database, settings)
    await write(database, states, slot=3, now=now)
    for name, times in COPIED.items():
        of_this = min(copies, DECISIONS_MAX // base) if name == "decisions" else copies
        began = time.monotonic()
        await _copy(database, settings, name, times, of_this, span_min)
        print(f"    {name:<16} {time.monotonic() - began:6.1f} s")
    await record_anomalies(database, [_anomaly(number, now) for number in range(60)], [], now=now)
    return await database["attempts"].estimated_document_count()


async def _copy(  # what to copy, and how often
    database: Database, settings: StoreSettings, name: str, times: tuple[str, ...], copies: int, span_min: int
) -> None:
    """Let the server write copies, each ``span_min`` further in the past; indexes are built once at the end."""
    if copies == 1:
        return
    collection = database[name]
    await collection.drop_indexes()
    shifted: dict[str, Any] = {
        field: {
            "$dateSubtract": {"startDate": f"${field}", "unit": "minute", "amount": {"$multiply": ["$copy", span_min]}}
        }
        for field in times
    }
    if name.endswith("_rollups"):
        # Neighbouring copies meet in a minute; like two replicas of a worker they write to slots of their own.
        shifted["slot"] = {"$mod": [{"$add": ["$slot", "$copy"]}, SLOTS]}
        own_id: Any = {"$mergeObjects": ["$_id", {"minute": "$minute", "slot": "$slot"}]}
    else:
        own_id = {"$concat": ["$_id", "_", {"$toString": "$copy"}]}
    pipeline: list[dict[str, Any]] = [
        {"$set": {"copy": {"$range": [0, copies]}}},
        {"$unwind": "$copy"},
        {"$set": shifted},
        {"$set": {"_id": {"$cond": [{"$eq": ["$copy", 0]}, "$_id", own_id]}}},
        {"$unset": "copy"},
        {"$out": f"{name}_copied"},
    ]
    await (await collection.aggregate(pipeline, allowDiskUse=True)).to_list()
    await database[f"{name}_copied"].rename(name, dropTarget=True)
    await collection.create_indexes(indexes(settings)[name])


def _verdict(attempt: RecordedAttempt) -> FailureClassified:
    return FailureClassified(
        attempt_id=attempt.attempt_id,
        order_id=attempt.order_id,
        gateway=attempt.gateway,
        method=attempt.method,
        issuer=attempt.issuer,
        attempted_at=attempt.attempted_at,
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        category=CATEGORIES[int(attempt.failure_code or 0) % len(CATEGORIES)],
        hardness="soft",
        fault="issuer",
        retry="other_gateway",
        confidence=0.9,
        evidence="code_table",
        shopper_message="Please try again.",
        failure_code=attempt.failure_code,
        failure_message=attempt.failure_message,
    )


def _decision(attempt: RecordedAttempt) -> tuple[RouteRequested, RouteAdvised]:
    asked = RouteRequested(
        request_id=f"req_{attempt.attempt_id}",
        order_id=attempt.order_id,
        method=attempt.method,
        issuer=attempt.issuer,
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        requested_at=attempt.attempted_at,
    )
    order = [attempt.gateway, *(name for name in GATEWAYS if name != attempt.gateway)]
    ranking = [
        RankedGateway(
            gateway=name,
            expected_success=GATEWAYS[name],
            success_low=GATEWAYS[name] - 0.03,
            success_high=GATEWAYS[name] + 0.03,
            propensity=[0.9, 0.04, 0.03, 0.02, 0.01][place],
            reason="expected success",
        )
        for place, name in enumerate(order)
    ]
    advised = RouteAdvised(
        decision_id=attempt.decision_id or "dec_none",
        request_id=asked.request_id,
        order_id=attempt.order_id,
        advised_at=attempt.attempted_at,
        ranking=ranking,
        policy="adaptive",
        reason="best expected success",
    )
    return asked, advised


def _anomaly(number: int, now: datetime) -> Anomaly:
    started_at = now - timedelta(hours=2 * number, minutes=9)
    return Anomaly(
        anomaly_id=f"ano_{number}",
        segment=Segment(gateway=tuple(GATEWAYS)[number % 5], method=METHODS[number % 4] if number % 3 else None),
        signal="success_rate",
        severity=("minor", "major", "critical")[number % 3],  # type: ignore[arg-type]
        started_at=started_at,
        detected_at=started_at + timedelta(seconds=20),
        updated_at=started_at + timedelta(minutes=5),
        observed=0.5,
        expected=0.9,
        expected_low=0.85,
        expected_high=0.95,
        attempts_seen=400,
        score=9.0,
        closed_at=None if number < 2 else started_at + timedelta(minutes=20),
    )
