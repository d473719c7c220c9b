"""Experiments: definitions and allocations with who and when, units, counts and sums by arm, reports and actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec
from pymongo import InsertOne, ReplaceOne, ReturnDocument, UpdateOne

from messaging.contracts import AllocationPublished, ExperimentActed, ExperimentReported, ExperimentsDefined
from messaging.line import Outgoing
from ml.experiments.rollout import Rollout
from ml.experiments.units import COUNT_NAMES, NO_COUNTS, NO_SUMS, SUM_NAMES, Unit
from storage.audit import audit_entry, record_audit
from storage.database import KEPT_SINCE, KEPT_TYPES, Database, Document
from storage.errors import StoreConflict, translated
from storage.outbox import mark_consumed, write_outbox

STAGE: Final = "experiment_allocator"
LEDGER: Final = "ledger"

ALLOCATIONS_READ: Final = 100
WAITING_READ_MAX: Final = 1_000_000
PLACES_READ_MAX: Final = 200_000
"""Arms times strata that are read at start, at most."""

POINTS_READ_MAX: Final = 2_000
"""Of one phase. Points lie 2 % of the units apart or more, so from 10 units to a billion there are 930."""


class ExperimentCounts(msgspec.Struct):
    """What some units add: they themselves, counts by (phase, experiment, arm), sums by (phase, arm, stratum)."""

    units: list[Unit] = []
    counts: dict[tuple[str, str, str], tuple[int, ...]] = {}
    sums: dict[tuple[str, str, str], tuple[float, ...]] = {}


class ExperimentPoint(msgspec.Struct, frozen=True, kw_only=True):
    """How an experiment stood at one moment: the line and the band of its history.

    ``metric`` is what ``difference`` is about; a phase goes on when the metric changes. None: not known. ``units``:
    all of all arms so far; ``compared``: the mature ones that the difference rests on, None: not kept.
    """

    experiment: str
    phase: str
    at: datetime
    units: int
    challenger: str
    difference: float
    low: float
    high: float
    metric: str | None = None
    compared: int | None = None

    @classmethod
    def of(cls, report: ExperimentReported) -> ExperimentPoint:
        """The point of a report that tells a difference."""
        assert report.difference is not None
        assert report.difference_low is not None
        assert report.difference_high is not None
        return cls(
            experiment=report.experiment,
            phase=report.phase or "",
            at=report.reported_at,
            units=report.units,
            challenger=report.challenger or "",
            difference=report.difference,
            low=report.difference_low,
            high=report.difference_high,
            metric=report.metric,
            compared=report.compared,
        )


class Compared(Protocol):
    """A point of a course."""

    @property
    def challenger(self) -> str:
        """The arm that is compared with the control."""
        ...

    @property
    def metric(self) -> str | None:
        """By what; None: not known."""
        ...


def is_about(point: Compared, challenger: str | None, metric: str | None) -> bool:
    """Whether a point is about the same difference as a report that compares this arm by this metric."""
    return point.challenger == (challenger or "") and point.metric in (None, metric)


Fact = (
    ExperimentsDefined
    | AllocationPublished
    | ExperimentCounts
    | ExperimentPoint
    | ExperimentReported
    | ExperimentActed
    | Rollout
)


async def ledger_revision(database: Database) -> int:
    """How often the allocator has written so far. Read it before the rest of the memory, and write with it."""
    with translated():
        document = await database["experiment_ledger"].find_one_and_update(
            {"_id": LEDGER}, {"$setOnInsert": {"revision": 0}}, upsert=True, return_document=ReturnDocument.AFTER
        )
    assert document is not None, "an upsert that returns what is there after it"
    return int(document["revision"])


async def record_experiments(  # where, what was heard and said, what follows, and what the writer believes
    database: Database,
    consumed: Sequence[str],
    facts: Sequence[Fact],
    outgoing: Sequence[Outgoing],
    *,
    now: datetime,
    revision: int | None = None,
) -> None:
    """Write everything that the allocator said, with the marks of what it heard and the outbox: all or nothing.

    Args:
        revision: of the ledger, as the writer knows it. Sums are added to, so a replica that woke up late, or one that
            does not know whether its last writing came through, must not add again. None: not asked for.
    Raises: StoreConflict: somebody else has written since, or had one of these messages first.
    """
    writes: dict[str, list[Any]] = {}
    for fact in facts:
        for collection, write in _writes(fact, now):
            writes.setdefault(collection, []).append(write)
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            if revision is not None:
                known = {"_id": LEDGER, "revision": revision}
                written = await database["experiment_ledger"].update_one(
                    known, {"$inc": {"revision": 1}}, session=session
                )
                if written.matched_count == 0:
                    raise StoreConflict("another allocator has written since")
            await mark_consumed(database, STAGE, consumed, now=now, session=session)
            for name, of_collection in writes.items():
                await database[name].bulk_write(of_collection, ordered=True, session=session)
            for fact in facts:
                if isinstance(fact, ExperimentActed):
                    entry = audit_entry(
                        now,
                        who=fact.who,
                        what=f"experiment.{fact.action}",
                        subject=f"experiment:{fact.experiment}",
                        reason=fact.reason,
                        automatic=fact.automatic,
                        details={"phase": fact.phase, "coverage": fact.coverage},
                    )
                    await record_audit(database, entry, session=session)
            if outgoing:
                await write_outbox(database, STAGE, outgoing, now=now, session=session)


def _writes(fact: Fact, now: datetime) -> Iterable[tuple[str, Any]]:
    """Where a fact is written, and how."""
    if isinstance(fact, ExperimentCounts):
        yield from _count_writes(fact, now)
        return
    document = msgspec.to_builtins(fact, builtin_types=KEPT_TYPES)
    match fact:
        case ExperimentsDefined():
            yield "experiment_definitions", InsertOne({KEPT_SINCE: now, **document})
        case AllocationPublished():
            yield "allocations", ReplaceOne({"_id": fact.version}, document, upsert=True)
        case ExperimentReported():
            yield "experiment_reports", ReplaceOne({"_id": fact.experiment}, document, upsert=True)
        case ExperimentActed():
            yield "experiment_actions", ReplaceOne({"_id": fact.change_id}, document, upsert=True)
        case ExperimentPoint():
            yield "experiment_points", InsertOne(document)
        case Rollout():
            yield "experiment_rollouts", ReplaceOne({"_id": fact.phase}, document, upsert=True)


def _count_writes(fact: ExperimentCounts, now: datetime) -> Iterable[tuple[str, Any]]:
    for unit in fact.units:
        document = msgspec.to_builtins(unit, builtin_types=KEPT_TYPES)
        document |= {"waiting": unit.next_ms is not None, KEPT_SINCE: now}
        yield "experiment_units", ReplaceOne({"_id": unit.unit}, document, upsert=True)
    for (phase, experiment, arm), counts in fact.counts.items():
        gained = {name: count for name, count in zip(COUNT_NAMES, counts, strict=True) if count}
        key = {"phase": phase, "experiment": experiment, "arm": arm}
        yield "experiment_counts", UpdateOne({"_id": key}, {"$inc": gained}, upsert=True)
    for (phase, arm, stratum), sums in fact.sums.items():
        added = {_field(name): total for name, total in zip(SUM_NAMES, sums, strict=True) if total}
        key = {"phase": phase, "arm": arm, "stratum": stratum}
        yield "experiment_sums", UpdateOne({"_id": key}, {"$inc": added}, upsert=True)


async def last_allocation(database: Database) -> AllocationPublished | None:
    """Read the allocation in force; None when none was ever published."""
    found = await last_allocations(database, limit=1)
    return found[0] if found else None


async def last_allocations(database: Database, *, limit: int = ALLOCATIONS_READ) -> list[AllocationPublished]:
    """Read the last allocations, newest first."""
    with translated():
        cursor = database["allocations"].find().sort("published_at", -1).limit(limit)
        return [msgspec.convert(document, AllocationPublished) async for document in cursor]


async def last_definition(database: Database) -> ExperimentsDefined | None:
    """Read what was defined last; None when nothing ever was."""
    with translated():
        document = await database["experiment_definitions"].find_one(sort=[(KEPT_SINCE, -1), ("_id", -1)])
    return None if document is None else msgspec.convert(document, ExperimentsDefined)


async def rollouts(database: Database, *, limit: int = 10_000) -> list[Rollout]:
    """Read how far every phase has come."""
    with translated():
        cursor = database["experiment_rollouts"].find().limit(limit)
        return [msgspec.convert(document, Rollout) async for document in cursor]


async def waiting_units(database: Database) -> list[Unit]:
    """Read the units that still mature."""
    with translated():
        cursor = database["experiment_units"].find({"waiting": True}).limit(WAITING_READ_MAX)
        return [msgspec.convert(document, Unit) async for document in cursor]


async def find_units(database: Database, keys: Iterable[str]) -> dict[str, Unit]:
    """Read units by key; see ``ml.experiments.counting.unit_keys``."""
    with translated():
        cursor = database["experiment_units"].find({"_id": {"$in": list(set(keys))}})
        return {document["_id"]: msgspec.convert(document, Unit) async for document in cursor}


async def arm_counts(
    database: Database, phases: Sequence[str] | None = None
) -> dict[tuple[str, str, str], tuple[int, ...]]:
    """Read counts, in the order of ``COUNT_NAMES``, by (phase, experiment, arm); ``phases`` None: of all."""
    query: Document = {"_id.phase": {"$exists": True} if phases is None else {"$in": list(phases)}}
    with translated():
        cursor = database["experiment_counts"].find(query).limit(PLACES_READ_MAX)
        return {
            (document["_id"]["phase"], document["_id"]["experiment"], document["_id"]["arm"]): tuple(
                document.get(name, empty) for name, empty in zip(COUNT_NAMES, NO_COUNTS, strict=True)
            )
            async for document in cursor
        }


async def arm_sums(
    database: Database, phases: Sequence[str] | None = None
) -> dict[tuple[str, str, str], tuple[float, ...]]:
    """Read sums of mature units, in the order of ``SUM_NAMES``, by (phase, arm, stratum); ``phases`` None: of all."""
    query: Document = {} if phases is None else {"_id.phase": {"$in": list(phases)}}
    with translated():
        cursor = database["experiment_sums"].find(query).limit(PLACES_READ_MAX)
        return {
            (document["_id"]["phase"], document["_id"]["arm"], document["_id"]["stratum"]): tuple(
                document.get(_field(name), empty) for name, empty in zip(SUM_NAMES, NO_SUMS, strict=True)
            )
            async for document in cursor
        }


async def points_of(database: Database, phase: str) -> list[ExperimentPoint]:
    """Read how a phase stood over time, oldest first."""
    with translated():
        cursor = database["experiment_points"].find({"phase": phase}).sort("at", 1).limit(POINTS_READ_MAX)
        return [msgspec.convert(document, ExperimentPoint) async for document in cursor]


async def newest_points(database: Database, phase: str, *, limit: int) -> list[ExperimentPoint]:
    """Read where a phase stood last, newest first."""
    with translated():
        cursor = database["experiment_points"].find({"phase": phase}).sort("at", -1).limit(limit)
        return [msgspec.convert(document, ExperimentPoint) async for document in cursor]


async def units_at_last_points(database: Database) -> Mapping[str, int]:
    """The units of each phase at its last point."""
    group: list[Document] = [{"$group": {"_id": "$phase", "units": {"$max": "$units"}}}]
    with translated():
        cursor = await database["experiment_points"].aggregate(group)
        return {document["_id"]: document["units"] async for document in cursor}


def _field(name: str) -> str:
    """A sum's name as a field: MongoDB takes a dot for a path."""
    return name.replace(".", "_")
