"""The courses of experiments for the live charts: how each difference and its bounds moved, read bit by bit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import numpy as np

from ml.experiments.metrics import METRICS
from storage.database import Database, Document
from storage.errors import translated
from storage.experiments import is_about
from storage.read_models.live_facts import ExperimentStanding, read_facts
from storage.read_models.live_series import Series

COURSES_MAX: Final = 8
"""More colours than these cannot be told apart; running experiments come first, then those reported last."""

COURSE_POINTS_MAX: Final = 500
"""Of one experiment, the newest: with points 2 % of the units apart they reach back to a twenty-thousandth of them."""

POINTS_MIN: Final = 2
"""Fewer are no course."""

QUERY_MS_MAX: Final = 10_000
METRIC_DEFAULT: Final = "authorization_rate"


class CoursePoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where an experiment stood at one moment; ``at`` in seconds since epoch, the others as shares.

    ``compared``: mature units that it rests on; None: not kept.
    """

    at: float
    challenger: str
    difference: float
    low: float
    high: float
    metric: str | None = None
    compared: int | None = None


class ExperimentCourse(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How the difference of challenger less control moved, oldest first, and where the last report has it.

    ``times``: seconds since epoch. ``difference``, ``low``, ``high``: shares. ``compared``: how many mature units the
    point rests on, NaN: not kept. All of shape (points,), at least ``POINTS_MIN``; at most one more than
    ``COURSE_POINTS_MAX``.
    """

    experiment: str
    challenger: str
    control: str
    times: Series
    difference: Series
    low: Series
    high: Series
    compared: Series


class CourseReader:
    """Remembers the points that it has read, and asks only for those that came after."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._points: dict[str, tuple[CoursePoint, ...]] = {}
        self._drawn: dict[str, tuple[tuple[CoursePoint, ...], ExperimentCourse]] = {}

    async def read(self, standings: Iterable[ExperimentStanding]) -> tuple[ExperimentCourse, ...]:
        """The courses of the experiments that are shown; one that did not change is the same object as before.

        Raises: StoreError: MongoDB did not answer or refused; what was read before is kept.
        """
        shown = shown_of(standings)
        with translated():
            fresh = await asyncio.gather(*(self._after(str(standing.phase)) for standing in shown))
        known = self._points
        self._points = {
            str(standing.phase): (*known.get(str(standing.phase), ()), *points)[-COURSE_POINTS_MAX:]
            for standing, points in zip(shown, fresh, strict=True)
        }
        courses = {}
        for standing in shown:
            points = course_points(standing, self._points[str(standing.phase)])
            before = self._drawn.get(standing.experiment)
            if before is not None and before[0] == points:
                courses[standing.experiment] = before
            elif len(points) >= POINTS_MIN:
                courses[standing.experiment] = points, _laid_out(standing, points)
        self._drawn = courses
        return tuple(course for _, course in courses.values())

    async def _after(self, phase: str) -> tuple[CoursePoint, ...]:
        known = self._points.get(phase)
        query: Document = {"phase": phase} | (
            {"at": {"$gt": datetime.fromtimestamp(known[-1].at, UTC)}} if known else {}
        )
        found = self._database["experiment_points"].find(query, limit=COURSE_POINTS_MAX, max_time_ms=QUERY_MS_MAX)
        return read_facts(await found.sort("at", -1).to_list(), CoursePoint)[::-1]


def shown_of(standings: Iterable[ExperimentStanding]) -> list[ExperimentStanding]:
    """The experiments whose course is shown, by name: those judged by a share, as other metrics have other scales."""
    shares = {name for name, metric in METRICS.items() if metric.is_share}
    told = [
        standing
        for standing in standings
        if standing.phase and standing.challenger and (standing.metric or METRIC_DEFAULT) in shares
    ]
    newest = sorted(told, key=lambda standing: (not standing.running, -standing.reported_at))[:COURSES_MAX]
    return sorted(newest, key=lambda standing: standing.experiment)


def course_points(standing: ExperimentStanding, points: Sequence[CoursePoint]) -> tuple[CoursePoint, ...]:
    """The points that are about the difference of the last report, and that report itself when it is newer."""
    kept = [point for point in points if is_about(point, standing.challenger, standing.metric)]
    bounds = standing.difference, standing.difference_low, standing.difference_high
    if None not in bounds and (not kept or kept[-1].at < standing.reported_at):
        difference, low, high = (float(bound or 0.0) for bound in bounds)
        kept.append(
            CoursePoint(
                at=standing.reported_at,
                challenger=standing.challenger or "",
                difference=difference,
                low=low,
                high=high,
                compared=standing.compared,
            )
        )
    return tuple(kept)


def _laid_out(standing: ExperimentStanding, points: Sequence[CoursePoint]) -> ExperimentCourse:
    columns: dict[str, Any] = {
        name: np.array([getattr(point, field) for point in points], dtype=np.float64)
        for name, field in (("times", "at"), *((each, each) for each in ("difference", "low", "high", "compared")))
    }
    return ExperimentCourse(
        experiment=standing.experiment, challenger=standing.challenger or "", control=standing.control or "", **columns
    )
