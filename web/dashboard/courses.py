"""How the difference of each experiment moved: one line and band an experiment, around zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from bokeh.models import ColumnDataSource
from bokeh.models.annotations import Span

from storage.read_models.live import LiveSnapshot
from storage.read_models.live_courses import COURSES_MAX, ExperimentCourse
from storage.read_models.live_series import Series
from web.dashboard.appearance import Look, Mark, Marks, centre, chart, empty_label
from web.dashboard.legends import labelled_lines
from web.dashboard.ranges import MS
from web.dashboard.series import banded_line, hover

COURSE_NOTE: Final = (
    f"challenger − control, with the interval that holds at any time; {COURSES_MAX} experiments at most, running ones "
    "first, and only those judged by a share"
)
STEPS_DRAWN_MAX: Final = 240
"""Points of one line closer together than this part of its time are left out; more cannot be seen."""

MARKED: Final = 10
"""Markers on a line, about; one at every point hides it."""

WIDTH_S_MIN: Final = 180.0
REACH: Final = 3.0
"""The picture holds so many times the half of the newest interval; the wider ones of the first units run out of it."""


class CourseChart:
    """The difference of challenger less control over time, percentage points, with a line at zero."""

    def __init__(self, look: Look, marks: Marks, *, height: int = 300) -> None:
        self.root = chart(look, height=height, axis="difference, points")
        self.root.add_layout(
            Span(location=0, dimension="width", line_color=look.neutral, line_dash="dashed", line_width=1.5)
        )
        self._look, self._marks = look, marks
        self._sources: dict[str, Any] = {}
        self._empty = empty_label(look, self.root)
        self._drawn: tuple[ExperimentCourse, ...] | None = None

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again what changed."""
        courses = snapshot.courses
        if courses is self._drawn:
            return
        known = set(map(id, self._drawn or ()))
        gone = self._sources.keys() - {course.experiment for course in courses}
        for name in gone:
            self._sources[name].data = {column: np.empty(0) for column in self._sources[name].data}
        for course in courses:
            if course.experiment not in self._sources:
                self._sources[course.experiment] = self._add(course)
            if id(course) not in known:
                self._sources[course.experiment].data = columns_of(course, self._place(course.experiment))
        self._drawn = courses
        plot = self.root
        start, end = time_range(courses, now)
        plot.x_range.start, plot.x_range.end = start * MS, end * MS
        plot.y_range.start, plot.y_range.end = difference_range(courses)
        self._empty.visible = not courses
        centre(plot, self._empty)

    def _place(self, name: str) -> int:
        return [*self._sources].index(name)

    def _add(self, course: ExperimentCourse) -> ColumnDataSource:
        source = ColumnDataSource(data={"time": np.empty(0)})
        mark = self._marks.of(course.experiment, self._look)
        for edge in ("bottom_0", "top_0"):
            self.root.line(x="time", y=edge, source=source, line_color=mark.colour, line_alpha=0.5, line_width=1)
        line = banded_line(self.root, source, mark, 0)
        rows = [
            (course.experiment, "@value_0{+0.00} points [@bottom_0{+0.00} – @top_0{+0.00}]"),
            ("mature n", "@n_0{0,0}"),
            ("at", "@time{%d %b %H:%M:%S} UTC"),
        ]
        self.root.add_tools(hover(line, rows))
        return source


def course_legend(marks: Marks, look: Look, snapshot: LiveSnapshot) -> str:
    """Which line is whose, and which arms it compares."""

    def named(course: ExperimentCourse) -> tuple[str, Mark]:
        compared = f"{course.experiment}: {course.challenger} − {course.control}"
        return compared, marks.of(course.experiment, look)

    return labelled_lines(map(named, snapshot.courses))


def columns_of(course: ExperimentCourse, place: int) -> dict[str, Series]:
    """The columns of one line, in percentage points.

    Args:
        place: of the line among the others, >= 0; its markers do not stand where theirs do.
    """
    kept = thinned(course.times)
    times, value = course.times[kept], 100 * course.difference[kept]
    return {
        "time": times * MS,
        "value_0": value,
        "bottom_0": 100 * course.low[kept],
        "top_0": 100 * course.high[kept],
        "n_0": course.compared[kept],
        "mark_0": np.where(_marked(times, place), value, np.nan),
    }


def thinned(times: Series) -> npt.NDArray[np.int_]:
    """The indices of the points that are drawn: the last, and of the others one in each step of time.

    >>> thinned(np.array([0.0, 0.1, 1.0, 240.0])).tolist()
    [1, 2, 3]
    """
    steps = np.floor((times - times[0]) / max(float(times[-1] - times[0]), 1e-9) * STEPS_DRAWN_MAX)
    return np.flatnonzero(np.append(steps[1:] != steps[:-1], True))


def difference_range(courses: Sequence[ExperimentCourse]) -> tuple[float, float]:
    """The vertical range, percentage points: zero, and ``REACH`` times every newest interval around its value."""
    if not courses:
        return -1.0, 1.0
    newest = np.array([(course.difference[-1], course.low[-1], course.high[-1]) for course in courses])
    value, low, high = 100 * newest.T
    bottom, top = (value - REACH * (value - low)).min(), (value + REACH * (high - value)).max()
    low_end, high_end = min(0.0, float(bottom)), max(0.0, float(top))
    room = max(0.1, 0.05 * (high_end - low_end))
    return low_end - room, high_end + room


def time_range(courses: Sequence[ExperimentCourse], now: float) -> tuple[float, float]:
    """From the oldest point to the newest, seconds since epoch; at least three minutes."""
    start = min((float(course.times[0]) for course in courses), default=now)
    end = max((float(course.times[-1]) for course in courses), default=now)
    return start, max(end, start + WIDTH_S_MIN)


def _marked(times: Series, place: int) -> npt.NDArray[np.bool_]:
    step = max(float(times[-1] - times[0]), 1e-9) / MARKED
    passed = np.floor((times - times[0]) / step + 0.37 * place)
    return np.append(passed[1:] != passed[:-1], True)
