"""Charts of past time as SVG: geometry only, in a box of 1000 by 100; the template and the stylesheet draw it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from storage.read_models.annotations import Annotation
from storage.read_models.history import Figures, Line, Point

WIDTH: Final = 1000.0
HEIGHT: Final = 100.0
TICKS: Final = 5

Value = Callable[[Figures], float | None]


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One line: ``path`` and ``band`` in SVG's words; ``place`` chooses colour and dash."""

    name: str
    place: int
    path: str
    band: str


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: from ``x`` on, ``width`` long; 0: at a moment."""

    kind: str
    x: float
    width: float
    words: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A chart without its colours: curves, evenly spaced labels of both axes from top and from left, and marks."""

    title: str
    note: str
    unit: str
    curves: list[Curve]
    y_labels: list[str]
    x_labels: list[str]
    marks: list[Mark]
    columns: list[tuple[float, float, str]]
    is_empty: bool


def draw(  # what a chart consists of
    title: str,
    note: str,
    unit: str,
    lines: Sequence[tuple[str, int, Sequence[Point]]],
    value: Value,
    since: datetime,
    until: datetime,
    *,
    step_s: int,
    annotations: Sequence[Annotation] = (),
    band: Callable[[Figures], tuple[float | None, float | None]] | None = None,
    share: bool = False,
) -> Chart:
    """Lay a chart out.

    Args:
        lines: name, place in the palette, and points, oldest first.
        value: what is drawn of a point; None: a gap.
        step_s: points are so far apart; a larger distance is a gap.
        band: bounds around the line.
        share: values are shares; the axis ends at 100 %.
    """
    values = [shown for _, _, points in lines for point in points if (shown := value(point.figures)) is not None]
    low, high = _axis(values, share=share)
    scale = _Scale(since, until, low, high)
    curves = [
        Curve(
            name=name,
            place=place,
            path=_path(points, value, scale, step_s),
            band="" if band is None else _band(points, band, scale, step_s),
        )
        for name, place, points in lines
    ]
    return Chart(
        title=title,
        note=note,
        unit=unit,
        curves=curves,
        y_labels=[_label(high - (high - low) * tick / (TICKS - 1), share) for tick in range(TICKS)],
        x_labels=[_time(since + (until - since) * tick / (TICKS - 1), until - since) for tick in range(TICKS)],
        marks=[mark for one in annotations if (mark := _mark(one, scale))],
        columns=_columns(lines, value, scale, step_s, unit, share=share),
        is_empty=not values,
    )


class _Scale:
    def __init__(self, since: datetime, until: datetime, low: float, high: float) -> None:
        self._since, self._length_s = since, (until - since).total_seconds()
        self._low, self._height = low, high - low

    def x(self, at: datetime) -> float:
        return round(min(WIDTH, max(0.0, WIDTH * (at - self._since).total_seconds() / self._length_s)), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT * (1 - min(1.0, max(0.0, (value - self._low) / self._height))), 2)

    def width(self, seconds: float) -> float:
        return WIDTH * seconds / self._length_s


def _axis(values: Sequence[float], *, share: bool) -> tuple[float, float]:
    """Round bounds around the values: shares from a multiple of ten up to 1, everything else from 0."""
    if share:
        return (max(0.0, math.floor((min(values) - 0.02) * 10) / 10) if values else 0.0), 1.0
    largest = max(values, default=0.0) * 1.05
    if largest <= 0:
        return 0.0, 4.0
    power = 10.0 ** math.floor(math.log10(largest))
    return 0.0, next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= largest)


def _label(value: float, share: bool) -> str:
    if share:
        return f"{100 * value:.0f} %" if abs(100 * value - round(100 * value)) < 0.05 else f"{100 * value:.1f} %"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _time(at: datetime, length: object) -> str:
    return at.strftime("%d %b %H:%M") if getattr(length, "days", 0) else at.strftime("%H:%M")


def _runs(points: Sequence[Point], value: Value, step_s: int) -> list[list[Point]]:
    """Split where something is missing."""
    runs: list[list[Point]] = []
    before: Point | None = None
    for point in points:
        if value(point.figures) is None:
            before = None
            continue
        if before is None or (point.at - before.at).total_seconds() > 1.5 * step_s:
            runs.append([])
        runs[-1].append(point)
        before = point
    return runs


def _path(points: Sequence[Point], value: Value, scale: _Scale, step_s: int) -> str:
    parts = []
    for run in _runs(points, value, step_s):
        places = [(scale.x(point.at), scale.y(value(point.figures) or 0.0)) for point in run]
        if len(places) == 1:  # a lone point is a short stroke
            places.append((places[0][0] + 3, places[0][1]))
        parts.append("M" + "L".join(f"{x} {y}" for x, y in places))
    return "".join(parts)


def _band(
    points: Sequence[Point], band: Callable[[Figures], tuple[float | None, float | None]], scale: _Scale, step_s: int
) -> str:
    parts = []
    for run in _runs(points, lambda figures: band(figures)[0], step_s):
        bounds = [(scale.x(point.at), *band(point.figures)) for point in run]
        there = [f"{x} {scale.y(high or 0.0)}" for x, _, high in bounds]
        back = [f"{x} {scale.y(low or 0.0)}" for x, low, _ in reversed(bounds)]
        parts.append("M" + "L".join([*there, *back]) + "Z")
    return "".join(parts)


def _mark(one: Annotation, scale: _Scale) -> Mark | None:
    x = scale.x(one.at)
    end = x if one.until is None and one.kind != "anomaly" else (WIDTH if one.until is None else scale.x(one.until))
    return Mark(kind=one.kind, x=x, width=max(0.0, end - x), words=one.words)


def _columns(  # what the tooltips need
    lines: Sequence[tuple[str, int, Sequence[Point]]],
    value: Value,
    scale: _Scale,
    step_s: int,
    unit: str,
    *,
    share: bool,
) -> list[tuple[float, float, str]]:
    """One invisible column a step, with the values in words."""
    said: dict[datetime, list[str]] = {}
    for name, _, points in lines:
        for point in points:
            shown = value(point.figures)
            if shown is not None:
                words = f"{100 * shown:.1f} %" if share else f"{shown:,.0f} {unit}"
                said.setdefault(point.at, []).append(f"{name}: {words}, n {point.figures.attempts:,}")
    width = round(scale.width(step_s), 1)
    return [
        (max(0.0, scale.x(at) - width / 2), width, f"{at:%d %b %H:%M} UTC\n" + "\n".join(words))
        for at, words in sorted(said.items())
    ]


def named(lines: Sequence[Line]) -> list[tuple[str, int, Sequence[Point]]]:
    """Lines with their places in the palette."""
    return [(line.name, place, line.points) for place, line in enumerate(lines)]
