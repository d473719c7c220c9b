"""Charts that follow by the second: rolling figures of what came in, one point a poll, streamed to the browser."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
from bokeh.models import ColumnDataSource

from storage.read_models.live import LiveSnapshot
from storage.read_models.live_arrivals import ARRIVALS_MINUTES, Arrivals
from storage.read_models.live_series import MINUTE_S, Series
from web.dashboard.appearance import Look, Marks, centre, chart, empty_label, thousands
from web.dashboard.figures_data import Lines
from web.dashboard.ranges import MS, ceiling, growing, share_range
from web.dashboard.series import banded_line, held_in_gaps, hover
from web.dashboard.spans import Shading

WIDTH_S_MIN: Final = 180.0
WIDTH_S_MAX: Final = ARRIVALS_MINUTES * MINUTE_S
POINTS_MAX: Final = 1_000
"""So many points a line stay in the browser."""

MARK_S: Final = 60.0
"""From marker to marker on a line."""

MARK_SHIFT_S: Final = 12.0
"""A line's markers do not stand where its neighbours have theirs."""


class Compute(Protocol):
    """Computes the lines from a row on."""

    def __call__(self, arrivals: Arrivals, row_from: int) -> Lines:
        """Lines of the rows from this index on."""
        ...


class RollingChart:
    """One line a gateway over the last minutes, with a band where there is an interval, and a marker at its head.

    Args:
        lines: computes what is drawn.
        axis: title of the vertical axis with its unit.
        unit: stands behind every value in the tooltip.
        share: a per cent scale that ends at 100, with bands.
        shaded: anomalies stand behind the lines.
    """

    def __init__(
        self,
        look: Look,
        marks: Marks,
        lines: Compute,
        *,
        axis: str,
        unit: str,
        share: bool = False,
        height: int = 300,
        shaded: bool = False,
    ) -> None:
        self.root = chart(look, height=height, axis=axis)
        self.root.yaxis.formatter = thousands()
        self._look, self._marks, self._compute, self._unit, self._share = look, marks, lines, unit, share
        self._source: Any = ColumnDataSource(data={"time": np.empty(0)})
        self._heads: Any = ColumnDataSource(data=_no_heads())
        self.root.scatter(
            x="time", y="value", marker="marker", color="colour", line_color=look.card, size=9, source=self._heads
        )
        self._names: tuple[str, ...] = ()
        self._drawn: set[str] = set()
        self._held: dict[int, float] = {}
        self._cursor = 0
        self._last_at = np.nan
        self._empty = empty_label(look, self.root)
        self._shading = Shading(look, marks, self.root) if shaded else None

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Stream the points that are new."""
        if self._shading:
            self._shading.update(snapshot, now)
        arrivals = snapshot.arrivals
        if not arrivals.serial:
            self._fit(arrivals, now)
        if arrivals.serial == self._cursor:
            return
        kept = max(0, len(arrivals.times) - POINTS_MAX)
        fresh = arrivals.names != self._names or not self._cursor
        row_from = kept if fresh else max(kept, len(arrivals.times) - (arrivals.serial - self._cursor))
        if fresh:
            self._names, self._held, self._last_at = arrivals.names, {}, np.nan
        lines = self._compute(arrivals, row_from)
        columns = self._columns(lines)
        if fresh:
            self._source.data = columns
        else:
            self._source.stream(columns, rollover=POINTS_MAX)
        self._cursor, self._last_at = arrivals.serial, float(lines.times[-1])
        for place in np.flatnonzero(np.isfinite(lines.value).any(axis=1)):
            if lines.names[place] not in self._drawn:
                self._add(lines.names[place], int(place))
        self._head(lines)
        self._fit(arrivals, now)

    def _columns(self, lines: Lines) -> dict[str, Series]:
        columns = {"time": lines.times * MS}
        before = np.concatenate(([self._last_at], lines.times[:-1]))
        for place, value in enumerate(lines.value):
            columns[f"value_{place}"], columns[f"n_{place}"] = value, lines.n[place]
            shift = MARK_SHIFT_S * place
            passed = (lines.times - shift) // MARK_S != (before - shift) // MARK_S
            columns[f"mark_{place}"] = np.where(passed, value, np.nan)
            if lines.low is not None and lines.high is not None:
                low, high = lines.low[place], lines.high[place]
                columns[f"low_{place}"], columns[f"high_{place}"] = low, high
                held = held_in_gaps(value, self._held.get(place, np.nan))
                self._held[place] = float(held[-1])
                gap = np.isnan(value)
                columns[f"bottom_{place}"] = np.where(gap, held, low)
                columns[f"top_{place}"] = np.where(gap, held, high)
        return columns

    def _add(self, name: str, place: int) -> None:
        self._drawn.add(name)
        line = banded_line(self.root, self._source, self._marks.of(name, self._look), place, band=self._share)
        interval = f" [@low_{place}{{0.0}} – @high_{place}{{0.0}}]" if self._share else ""
        rows = [
            (name, f"@value_{place}{{0,0.0}} {self._unit}{interval}"),
            ("n", f"@n_{place}{{0,0}} in 60 s"),
            ("at", "@time{%H:%M:%S} UTC"),
        ]
        self.root.add_tools(hover(line, rows))

    def _head(self, lines: Lines) -> None:
        """Put a marker at the newest point of every line that reaches up to it."""
        shown = [(lines.names[i], float(lines.value[i, -1])) for i in np.flatnonzero(np.isfinite(lines.value[:, -1]))]
        marks = [self._marks.of(name, self._look) for name, _ in shown]
        self._heads.data = {
            "time": np.full(len(shown), lines.times[-1] * MS),
            "value": np.array([value for _, value in shown], dtype=np.float64),
            "marker": [mark.marker for mark in marks],
            "colour": [mark.colour for mark in marks],
        }

    def _fit(self, arrivals: Arrivals, now: float) -> None:
        plot, end = self.root, float(arrivals.times[-1]) if len(arrivals.times) else now
        begin = end if arrivals.began_at is None else arrivals.began_at
        start, stop = growing(begin, end, width_s_min=WIDTH_S_MIN, width_s_max=WIDTH_S_MAX)
        data = self._source.data
        seen = np.asarray(data["time"]) >= start * MS
        values = np.array([np.asarray(data[f"value_{place}"])[seen] for place in range(len(self._names))])
        plot.x_range.start, plot.x_range.end = start * MS, stop * MS
        if self._share:
            plot.y_range.start, plot.y_range.end = share_range(values)
        else:
            plot.y_range.start, plot.y_range.end = 0, ceiling(values)
        self._empty.visible = not bool(np.isfinite(values).any())
        centre(plot, self._empty)


def _no_heads() -> dict[str, Any]:
    return {"time": np.empty(0), "value": np.empty(0), "marker": [], "colour": []}
