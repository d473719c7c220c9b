"""How each experiment stands, and what is wrong with the file of them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

import msgspec

from messaging.contracts import Anomaly, ExperimentReported
from ml.experiments.design import Experiment
from storage.database import Database
from storage.errors import translated
from storage.experiments import ExperimentPoint, is_about, newest_points
from storage.read_models.measures import QUERY_MS_MAX, read_as

EXPERIMENTS_MAX: Final = 50
ANOMALIES_MAX: Final = 200
"""Anomalies looked at, the newest; an experiment with more of them in its time is not told all."""

POINTS_SHOWN: Final = 12
"""Of each experiment, the newest; its own resource has them all."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment: its last report, its definition when it is still in force, and the anomalies that fell into it.

    Attributes:
        disturbed_by: anomalies since its start in payments that it may take, the newest first.
        newest_points: where the difference of the report stood before, the newest first, ``POINTS_SHOWN`` at most.
    """

    report: ExperimentReported
    definition: Experiment | None
    disturbed_by: list[Anomaly] = []
    newest_points: list[ExperimentPoint] = []


class Experiments(msgspec.Struct, frozen=True, kw_only=True):
    """All experiments that were reported, and the allocation in force.

    Attributes:
        file_error: why the experiments file was refused when it was last read; None: it was not, or is mended.
    """

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
        reports, newest, judged, unwell = await asyncio.gather(
            database["experiment_reports"].find().sort("_id", 1).limit(EXPERIMENTS_MAX).to_list(),
            database["allocations"].find_one({}, sort=[("published_at", -1)], max_time_ms=QUERY_MS_MAX),
            database["heartbeats"].find_one(
                {"stage": "experiment_allocator", "file_judged_at": {"$ne": None}},
                sort=[("file_judged_at", -1)],
                max_time_ms=QUERY_MS_MAX,
            ),
            database["anomalies"].find({}).sort("detected_at", -1).limit(ANOMALIES_MAX).to_list(),
        )
    anomalies = [read_as({"anomaly_id": each["_id"], **each}, Anomaly, "anomalies") for each in unwell]
    allocation = None if newest is None else _allocation(newest)
    defined = {} if allocation is None else {experiment.name: experiment for experiment in allocation.experiments}
    told = [read_as(document, ExperimentReported, "experiment_reports") for document in reports]
    points = await asyncio.gather(*(_newest_points(database, report) for report in told))
    standings = [
        Standing(
            report=report,
            definition=defined.get(report.experiment),
            disturbed_by=[one for one in anomalies if _disturbs(one, report, defined.get(report.experiment))],
            newest_points=newest,
        )
        for report, newest in zip(told, points, strict=True)
    ]
    reported = {standing.report.experiment for standing in standings}
    file_error = None if judged is None else judged.get("file_error")
    return Experiments(
        standings=sorted(standings, key=lambda standing: standing.definition is None),
        allocation_version=None if allocation is None else allocation.version,
        allocation_published_at=None if allocation is None else allocation.published_at,
        allocation_published_by=None if allocation is None else allocation.published_by,
        allocation_cause=None if allocation is None else allocation.cause,
        default_policy=None if allocation is None else allocation.default_policy,
        waiting=[experiment for name, experiment in defined.items() if name not in reported],
        file_error=file_error,
        file_error_at=None if file_error is None or judged is None else judged["file_judged_at"],
    )


async def _newest_points(database: Database, report: ExperimentReported) -> list[ExperimentPoint]:
    if report.phase is None or report.difference is None:
        return []
    points = await newest_points(database, report.phase, limit=POINTS_SHOWN)
    return [point for point in points if is_about(point, report.challenger, report.metric)]


def _disturbs(anomaly: Anomaly, report: ExperimentReported, definition: Experiment | None) -> bool:
    """Whether an anomaly fell into the time and the payments of an experiment."""
    if report.started_at is None or (anomaly.closed_at is not None and anomaly.closed_at <= report.started_at):
        return False
    if not report.running and anomaly.started_at >= report.reported_at:
        return False
    if definition is None:
        return True
    segment = anomaly.segment
    pairs = ((segment.method, definition.methods), (segment.issuer, definition.issuers),
             (segment.country, definition.countries))  # fmt: skip
    return all(value is None or not wanted or value in wanted for value, wanted in pairs)


def _allocation(document: dict[str, Any]) -> _Allocation:
    return read_as({"version": str(document["_id"]), **document}, _Allocation, "allocations")
