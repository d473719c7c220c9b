"""Charts of whole steps of time: lines with bands minute by minute, and stacked bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from bokeh.models import ColumnDataSource, HoverTool

from storage.read_models.live import LiveSnapshot
from storage.read_models.live_series import MINUTE_S, WINDOW_MINUTES, Series
from web.choosing import BEFORE
from web.dashboard.appearance import WHOLES, Look, Mark, Marks, centre, chart, empty_label, thousands
from web.dashboard.figures_data import Lines
from web.dashboard.ranges import MS, ceiling, growing, share_range
from web.dashboard.spans import Shading

MARKED_STEPS: Final = 10
"""From marker to marker on a line; one at every point hides it."""

BAR_WIDTH: Final = 0.86
"""Of a step; the rest is the gap that tells bars apart."""

FAINT: Final = 0.5
"""How much is left of the lines of single names where all together is compared with before."""

STEPS_MIN: Final = 5
WIDTH_S_MIN: Final = 180.0
"""A chart is at least 3 minutes and five steps wide."""


def banded_line(  # what a line is made of
    root: Any, source: Any, mark: Mark, place: int, *, band: bool = True, alpha: float = 1.0
) -> Any:
    """Draw one line with its markers and, unless told otherwise, its band; returns the line, for a tooltip.

    The source has columns ``time``, ``value_N`` and ``mark_N``, and for the band ``bottom_N`` and ``top_N``.
    """
    if band:
        root.varea(
            x="time",
            y1=f"bottom_{place}",
            y2=f"top_{place}",
            source=source,
            fill_color=mark.colour,
            fill_alpha=0.10,
            level="underlay",
        )
    line = root.line(
        x="time",
        y=f"value_{place}",
        source=source,
        line_color=mark.colour,
        line_dash=mark.dash,
        line_width=2,
        line_alpha=alpha,
        line_join="round",
    )
    root.scatter(x="time", y=f"mark_{place}", source=source, marker=mark.marker, size=7, color=mark.colour, alpha=alpha)
    return line


class LineChart:
    """One line a name, minute by minute.

    Args:
        lines: computes what is drawn; minutes that are not known yet are left out.
        axis: title of the vertical axis with its unit.
        unit: stands behind every value in the tooltip.
        share: a per cent scale that ends at 100, with bands, and anomalies behind the lines.
    """

    def __init__(
        self,
        look: Look,
        marks: Marks,
        lines: Callable[[LiveSnapshot], Lines],
        *,
        axis: str,
        unit: str = "%",
        share: bool = True,
        height: int = 260,
    ) -> None:
        self.root = chart(look, height=height, axis=axis)
        self.root.yaxis.formatter = thousands()
        self._look, self._marks, self._compute, self._unit, self._share = look, marks, lines, unit, share
        self._source: Any = ColumnDataSource(data={"time": np.empty(0)})
        self._names: tuple[str, ...] = ()
        self._empty = empty_label(look, self.root)
        self._shading = Shading(look, marks, self.root) if share else None
        self._drawn: Lines | None = None

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again what changed."""
        if self._shading:
            self._shading.update(snapshot, now)
        lines = self._compute(snapshot)
        if self._drawn is not None and same(lines, self._drawn):
            return
        self._drawn = lines
        self._source.data = self._columns(lines)
        for name in lines.names:
            if name not in self._names:
                stands_back = name not in WHOLES and not WHOLES.keys().isdisjoint(lines.names)
                self._add(name, len(self._names), stands_back=stands_back)
                self._names = (*self._names, name)
        plot = self.root
        plot.x_range.start, plot.x_range.end = steps_ms(lines, MINUTE_S, now)
        plot.y_range.start, plot.y_range.end = share_range(lines.value) if self._share else (0, ceiling(lines.value))
        self._empty.visible = not bool(np.isfinite(lines.value).any())
        centre(plot, self._empty)

    def _columns(self, lines: Lines) -> dict[str, Series]:
        known = {name: index for index, name in enumerate(lines.names)}
        order = (*self._names, *(name for name in lines.names if name not in self._names))
        columns = {"time": (lines.times + MINUTE_S / 2) * MS}
        blank = np.full(len(lines.times), np.nan)
        parts = {"value": lines.value, "n": lines.n, "low": lines.low, "high": lines.high}
        for place, name in enumerate(order):
            for part, values in parts.items():
                if values is not None:
                    columns[f"{part}_{place}"] = values[known[name]] if name in known else blank
            value = columns[f"value_{place}"]
            if self._share:
                held = held_in_gaps(value, np.nan)
                columns[f"bottom_{place}"] = np.where(np.isnan(value), held, columns[f"low_{place}"])
                columns[f"top_{place}"] = np.where(np.isnan(value), held, columns[f"high_{place}"])
            columns[f"mark_{place}"] = np.where(marked(lines.times, MINUTE_S, place), value, np.nan)
        return columns

    def _add(self, name: str, place: int, *, stands_back: bool) -> None:
        mark, band, alpha = self._marks.of(name, self._look), self._share, 1.0
        if stands_back:
            band, alpha = False, FAINT
        line = banded_line(self.root, self._source, mark, place, band=band, alpha=alpha)
        interval = f" [@low_{place}{{0.0}} – @high_{place}{{0.0}}]" if self._share else ""
        rows = [
            (name, f"@value_{place}{{0,0.0}} {self._unit}{interval}"),
            ("n", f"@n_{place}{{0,0}}"),
            ("beside" if name in BEFORE.values() else "minute", "@time{%H:%M} UTC"),
        ]
        self.root.add_tools(hover(line, rows))


class BarChart:
    """Stacked bars, one a step, in the order of the lines from bottom to top.

    Args:
        lines: computes what is drawn; ``times`` are the starts of the steps, and steps not over are left out.
        step_s: length of a step, seconds.
        colour: the fill of a name.
        unit: stands behind every value in the tooltip.
        share: the bars add up to 100 per cent.
    """

    def __init__(
        self,
        look: Look,
        lines: Callable[[LiveSnapshot], Lines],
        *,
        step_s: float,
        colour: Callable[[str], str],
        axis: str,
        unit: str,
        share: bool = False,
        height: int = 260,
    ) -> None:
        self.root = chart(look, height=height, axis=axis)
        self.root.yaxis.formatter = thousands()
        self._look, self._compute, self._step_s, self._colour = look, lines, step_s, colour
        self._unit, self._share = unit, share
        self._bars: dict[str, Any] = {}
        self._empty = empty_label(look, self.root)
        self._drawn: Lines | None = None

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again what changed."""
        lines = self._compute(snapshot)
        if self._drawn is not None and same(lines, self._drawn):
            return
        self._drawn = lines
        base = np.zeros(len(lines.times))
        middle = (lines.times + self._step_s / 2) * MS
        for index, name in enumerate(lines.names):
            value = np.nan_to_num(lines.value[index])
            if name not in self._bars:
                self._bars[name] = self._add(name)
            columns = {"time": middle, "step": lines.times * MS, "bottom": base, "top": base + value, "value": value}
            self._bars[name].data = {**columns, "n": lines.n[index]}
            base = base + value
        for name in self._bars.keys() - set(lines.names):
            self._bars[name].data = _no_bars()
        plot = self.root
        plot.x_range.start, plot.x_range.end = steps_ms(lines, self._step_s, now)
        plot.y_range.start, plot.y_range.end = 0, 100 if self._share else ceiling(base)
        self._empty.visible = not bool(base.any())
        centre(plot, self._empty)

    def _add(self, name: str) -> ColumnDataSource:
        source = ColumnDataSource(data=_no_bars())
        bars = self.root.vbar(
            x="time",
            bottom="bottom",
            top="top",
            width=BAR_WIDTH * self._step_s * MS,
            source=source,
            fill_color=self._colour(name),
            line_color=None,
        )
        at = "%H:%M" if self._step_s >= MINUTE_S else "%H:%M:%S"
        rows = [(name, f"@value{{0,0.[0]}} {self._unit}"), ("n", "@n{0,0}"), ("from", f"@step{{{at}}} UTC")]
        self.root.add_tools(hover(bars, rows))
        return source


def steps_ms(lines: Lines, step_s: float, now: float) -> tuple[float, float]:
    """The horizontal range that shows every step that holds something, milliseconds since epoch."""
    filled = np.flatnonzero((lines.n > 0).any(axis=0)) if lines.n.size else np.empty(0, dtype=int)
    begin, end = (float(lines.times[filled[0]]), float(lines.times[-1]) + step_s) if len(filled) else (now, now)
    width_s_min = max(WIDTH_S_MIN, STEPS_MIN * step_s)
    start, stop = growing(begin, end, width_s_min=width_s_min, width_s_max=WINDOW_MINUTES * MINUTE_S)
    return start * MS, stop * MS


def same(lines: Lines, drawn: Lines) -> bool:
    """Whether two drawings show the same."""
    return (
        lines.names == drawn.names
        and np.array_equal(lines.times, drawn.times)
        and np.array_equal(lines.n, drawn.n)
        and np.array_equal(lines.value, drawn.value, equal_nan=True)
    )


def marked(times: Series, step_s: float, place: int) -> npt.NDArray[np.bool_]:
    """Where a line carries its marker: the newest point, and every few, not where its neighbours have theirs."""
    chosen = (times // step_s + 2 * place) % MARKED_STEPS == 0
    chosen[-1:] = True
    return np.asarray(chosen)


def held_in_gaps(values: Series, before: float) -> Series:
    """Put the last known value into each gap: the browser draws a band straight across one, here it is thin there.

    Args:
        values: NaN in gaps, shape (points,).
        before: what stands in a gap at the beginning.

    >>> held_in_gaps(np.array([np.nan, 1.0, np.nan, np.nan, 2.0]), 7.0).tolist()
    [7.0, 1.0, 1.0, 1.0, 2.0]
    """
    newest = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), -1))
    return np.where(newest >= 0, values[np.maximum(newest, 0)], before)


def hover(renderer: Any, rows: Sequence[tuple[str, str]]) -> HoverTool:
    """The tooltip of one renderer: labels and what stands behind them; times are in UTC."""
    return HoverTool(
        renderers=[renderer],
        tooltips=list(rows),
        formatters={"@time": "datetime", "@step": "datetime"},
        point_policy="snap_to_data",
        attachment="horizontal",
    )


def _no_bars() -> dict[str, Series]:
    return {name: np.empty(0) for name in ("time", "step", "bottom", "top", "value", "n")}
