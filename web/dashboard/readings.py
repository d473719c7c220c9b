"""Charts of what the workers tell of themselves with every sign of life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource

from storage.read_models.live import LiveSnapshot
from storage.read_models.live_series import ReadingRing
from web.dashboard.appearance import Look, Marks, centre, chart, empty_label, thousands
from web.dashboard.ranges import MS, ceiling, growing
from web.dashboard.series import hover

WIDTH_S_MIN: Final = 180.0
WIDTH_S_MAX: Final = 600.0
MARK_EVERY: Final = 30
"""From marker to marker on a line."""


class ReadingChart:
    """One line a stage; a gap where none of its workers lives.

    Args:
        part: the readings that are drawn.
        axis: title of the vertical axis with its unit.
        unit: stands behind every value in the tooltip.
        top_min: the vertical axis reaches at least so high.
    """

    def __init__(
        self,
        look: Look,
        marks: Marks,
        part: Callable[[LiveSnapshot], ReadingRing],
        *,
        axis: str,
        unit: str,
        top_min: float,
        height: int = 240,
    ) -> None:
        self.root = chart(look, height=height, axis=axis)
        self.root.yaxis.formatter = thousands()
        self.root.xaxis.ticker.desired_num_ticks = 3
        self._look, self._marks, self._part, self._unit, self._top_min = look, marks, part, unit, top_min
        self._source: Any = ColumnDataSource(data={"time": np.empty(0)})
        self._names: tuple[str, ...] = ()
        self._drawn = -1
        self._empty = empty_label(look, self.root)

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again what changed."""
        ring = self._part(snapshot)
        if ring.appended == self._drawn:
            return
        self._drawn = ring.appended
        times, values = ring.rows()
        columns = {f"value_{place}": column for place, column in enumerate(values.T)}
        serial = np.arange(ring.appended - len(times), ring.appended)
        for place, column in enumerate(values.T):
            shown = (serial + MARK_EVERY // 6 * place) % MARK_EVERY == 0
            columns[f"mark_{place}"] = np.where(shown, column, np.nan)
        self._source.data = {"time": times * MS, **columns}
        for place, name in enumerate(ring.names[len(self._names) :], start=len(self._names)):
            self._add(name, place)
        self._names = ring.names
        plot = self.root
        known = times[np.isfinite(values).any(axis=1)] if values.size else times[:0]
        begin, end = (float(known[0]), float(known[-1])) if len(known) else (now, now)
        start, stop = growing(begin, end, width_s_min=WIDTH_S_MIN, width_s_max=WIDTH_S_MAX)
        plot.x_range.start, plot.x_range.end = start * MS, stop * MS
        plot.y_range.start, plot.y_range.end = 0, max(self._top_min, ceiling(values))
        self._empty.visible = len(known) < 2
        centre(plot, self._empty)

    def _add(self, name: str, place: int) -> None:
        mark = self._marks.of(name, self._look)
        line = self.root.line(
            x="time",
            y=f"value_{place}",
            source=self._source,
            line_color=mark.colour,
            line_dash=mark.dash,
            line_width=2,
        )
        self.root.scatter(
            x="time", y=f"mark_{place}", source=self._source, marker=mark.marker, size=7, color=mark.colour
        )
        rows = [(name, f"@value_{place}{{0,0.[0]}} {self._unit}"), ("at", "@time{%H:%M:%S} UTC")]
        self.root.add_tools(hover(line, rows))
