"""How each experiment stands, and what went wrong when its file was last read."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

import msgspec

from messaging.contracts import ExperimentReported
from ml.experiments.design import Experiment
from storage.database import Database
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX, read_as

EXPERIMENTS_MAX: Final = 50


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment: its last report, and its definition when it is still in force."""

    report: ExperimentReported
    definition: Experiment | None


class Experiments(msgspec.Struct, frozen=True, kw_only=True):
    """All experiments that were reported, and the allocation in force."""

    standings: list[Standing]
    allocation_version: str | None
    allocation_published_at: datetime | None
    allocation_published_by: str | None
    allocation_cause: str | None
    default_policy: str | None
    waiting: list[Experiment]
    file_error: str | None
    file_error_at: datetime | None


class _Allocation(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    published_at: datetime
    experiments: list[Experiment]
    default_policy: str
    published_by: str = "unknown"
    cause: str = ""


async def read_experiments(database: Database) -> Experiments:
    """The standing of each experiment; those without a report yet are listed as waiting."""
    with translated():
        reports, newest, heartbeat = await asyncio.gather(
            database["experiment_reports"].find().sort("_id", 1).limit(EXPERIMENTS_MAX).to_list(),
            database["allocations"].find_one({}, sort=[("published_at", -1)], max_time_ms=QUERY_MS_MAX),
            database["heartbeats"].find_one(
                {"stage": "experiment_allocator"}, sort=[("at", -1)], max_time_ms=QUERY_MS_MAX
            ),
        )
    allocation = None if newest is None else _allocation(newest)
    defined = {} if allocation is None else {experiment.name: experiment for experiment in allocation.experiments}
    standings = [
        Standing(report=report, definition=defined.get(report.experiment))
        for report in (read_as(document, ExperimentReported, "experiment_reports") for document in reports)
    ]
    reported = {standing.report.experiment for standing in standings}
    return Experiments(
        standings=sorted(standings, key=lambda standing: standing.definition is None),
        allocation_version=None if allocation is None else allocation.version,
        allocation_published_at=None if allocation is None else allocation.published_at,
        allocation_published_by=None if allocation is None else allocation.published_by,
        allocation_cause=None if allocation is None else allocation.cause,
        default_policy=None if allocation is None else allocation.default_policy,
        waiting=[experiment for name, experiment in defined.items() if name not in reported],
        file_error=None if heartbeat is None else heartbeat.get("last_error"),
        file_error_at=None if heartbeat is None else heartbeat.get("last_error_at"),
    )


def _allocation(document: dict[str, Any]) -> _Allocation:
    return read_as({"version": str(document["_id"]), **document}, _Allocation, "allocations")
