"""The single facts that the live charts show beside the sums: anomalies, experiments, workers, recent advice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from messaging.contracts import ArmCount, GoalReported, Segment, units_compared

Fact = TypeVar("Fact", bound=msgspec.Struct)


class AnomalySpan(msgspec.Struct, frozen=True, kw_only=True):
    """What was unwell from when to when; times in seconds since epoch, ``closed_at`` None while it is open."""

    anomaly_id: str = msgspec.field(name="_id")
    segment: Segment
    signal: str
    severity: str
    started_at: float
    detected_at: float
    observed: float
    expected: float
    expected_low: float
    expected_high: float
    attempts_seen: int
    closed_at: float | None = None
    currency: str | None = None
    loss_minor_per_minute: float | None = None
    reason: str = ""


class ExperimentStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How an experiment stands; ``reported_at`` in seconds since epoch, ``difference`` as a share."""

    experiment: str = msgspec.field(name="_id")
    reported_at: float
    arms: list[ArmCount]
    verdict: str
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    challenger: str | None = None
    control: str | None = None
    phase: str | None = None
    metric: str | None = None
    running: bool = True
    goals: list[GoalReported] = []

    @property
    def compared(self) -> int | None:
        """Mature units of the two arms that ``difference`` rests on; None: it is not told."""
        return units_compared(self.goals, self.challenger, self.metric)


class WorkerBeat(msgspec.Struct, frozen=True, kw_only=True):
    """The last sign of life of one worker; times in seconds since epoch, counts since it started."""

    stage: str
    host: str
    pid: int
    started_at: float
    at: float
    batches: int = 0
    messages: int = 0
    instance: str = msgspec.field(default="", name="_id")
    last_batch_at: float | None = None
    lag: int | None = None
    last_error: str | None = None
    last_error_at: float | None = None


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's last sign of life, and how fast it worked between its last two (None: only one was seen)."""

    beat: WorkerBeat
    batches_per_s: float | None = None
    messages_per_s: float | None = None


class AdviceCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the newest decisions put a gateway first, under one policy, for payments of one kind."""

    gateway: str
    method: str
    issuer: str
    currency: str
    policy: str
    exploring: bool
    decisions: int


def read_facts(documents: Iterable[Mapping[str, Any]], fact: type[Fact]) -> tuple[Fact, ...]:
    """Read documents as facts; one that does not fit (an older writer, a broken one) is passed over."""
    facts = []
    for document in documents:
        try:
            facts.append(msgspec.convert(_plain(document), fact, strict=False))
        except msgspec.ValidationError:
            continue
    return tuple(facts)


def paced(beat: WorkerBeat, earlier: WorkerBeat | None) -> Worker:
    """Say how fast a worker worked between two signs of life of the same process."""
    if earlier is None or beat.at <= earlier.at or beat.started_at != earlier.started_at:
        return Worker(beat=beat)
    elapsed_s = beat.at - earlier.at
    return Worker(
        beat=beat,
        batches_per_s=max(0, beat.batches - earlier.batches) / elapsed_s,
        messages_per_s=max(0, beat.messages - earlier.messages) / elapsed_s,
    )


def lag_of(workers: Iterable[Worker]) -> dict[str, float]:
    """Messages that wait for each stage; workers of one stage share a queue, each tells its whole depth."""
    lag: dict[str, float] = {}
    for beat in (worker.beat for worker in workers):
        if beat.lag is not None:
            lag[beat.stage] = max(lag.get(beat.stage, 0.0), float(beat.lag))
    return lag


def pace_of(workers: Iterable[Worker]) -> dict[str, float]:
    """Messages per second that each stage handled, its workers together."""
    pace: dict[str, float] = {}
    for worker in workers:
        if worker.messages_per_s is not None:
            pace[worker.beat.stage] = pace.get(worker.beat.stage, 0.0) + worker.messages_per_s
    return pace


def _plain(value: Any) -> Any:
    """Turn every moment inside a document into seconds since epoch; a moment without an offset is UTC."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value
