"""What people and automatic actions did, on the charts: thin vertical lines, and a list that has them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC
from html import escape
from typing import Any, Final, Protocol

import msgspec
from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import LabelSet

from storage.read_models.annotations import Annotation
from storage.read_models.live import LiveSnapshot
from web.dashboard.appearance import FONT, Look
from web.dashboard.ranges import MS

DRAWN_MAX: Final = 6
"""Lines in one chart, the newest; more hide what they are about."""

APART: Final = 1 / 24
"""Of a chart's width; what happened closer together shares a line, so that labels do not cover one another."""

LABEL_CHARS_MAX: Final = 24
LISTED_MAX: Final = 20
NOTHING: Final = "nobody paused, promoted, overrode or changed anything in the last hour"


class Moment(msgspec.Struct, frozen=True):
    """One line: when, seconds since epoch, what it is called, and everything that happened there in words."""

    at: float
    label: str
    words: str


class TimeChart(Protocol):
    """A component whose root is a figure over time, in milliseconds."""

    root: Any

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again what changed."""
        ...


class Annotated:
    """A chart with what was done meanwhile drawn into it; it stands in the page as before.

    Args:
        labelled: a few words stand at each line; in a low chart they would hide what is drawn.
    """

    def __init__(self, chart: TimeChart, look: Look, *, labelled: bool = True) -> None:
        self.root = chart.root
        self._chart = chart
        self._source: Any = ColumnDataSource(data=_columns(()))
        lines = self.root.vspan(x="at", source=self._source, line_color=look.text, line_alpha=0.55, line_width=1.5)
        if labelled:
            self.root.add_layout(_labels(look, self._source))
        hover = HoverTool(
            renderers=[lines],
            tooltips=[("done", "@words"), ("at", "@at{%H:%M:%S} UTC")],
            formatters={"@at": "datetime"},
        )
        self.root.add_tools(hover)
        self._drawn: tuple[Moment, ...] = ()

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again what changed."""
        self._chart.update(snapshot, now)
        start, end = self.root.x_range.start / MS, self.root.x_range.end / MS
        shown = moments(snapshot.actions, start, end)
        if shown != self._drawn:
            self._drawn = shown
            self._source.data = _columns(shown)


def moments(actions: Sequence[Annotation], start: float, end: float) -> tuple[Moment, ...]:
    """The lines of a chart, oldest first: what happened close together shares one, at the first of it.

    Args:
        actions: oldest first.
        start, end: of the chart, seconds since epoch.
    """
    groups: list[list[Annotation]] = []
    for action in actions:
        at = action.at.timestamp()
        if not start <= at <= end:
            continue
        if groups and at - groups[-1][0].at.timestamp() < APART * (end - start):
            groups[-1].append(action)
        else:
            groups.append([action])
    return tuple(map(_moment, groups[-DRAWN_MAX:]))


def action_list(snapshot: LiveSnapshot) -> str:
    """What was done in the last hour, the newest first: for those who do not see the lines, and what they leave out."""
    actions = snapshot.actions[::-1]
    if not actions:
        return f'<p class="quiet">{NOTHING}</p>'
    rows = "".join(f"<li>{_listed(action)}</li>" for action in actions[:LISTED_MAX])
    more = len(actions) - LISTED_MAX
    rest = f'<p class="quiet">and {more} before; the page Trends has them</p>' if more > 0 else ""
    return f'<ul class="actions">{rows}</ul>{rest}'


def _listed(action: Annotation) -> str:
    at = action.at.astimezone(UTC)
    clock = f'<time datetime="{at.isoformat(timespec="milliseconds")}">{at:%H:%M:%S}</time>'
    link = f'<a href="{escape(action.link)}" target="_top">{escape(action.words)}</a>'
    return f"{clock} {link} <small>{escape(action.who)}</small>"


def _moment(group: Sequence[Annotation]) -> Moment:
    first = group[0]
    more = f" + {len(group) - 1}" if len(group) > 1 else ""
    label = first.words if len(first.words) <= LABEL_CHARS_MAX else f"{first.words[: LABEL_CHARS_MAX - 1]}…"
    return Moment(first.at.timestamp(), label + more, "; ".join(f"{one.words} ({one.who})" for one in group))


def _labels(look: Look, source: ColumnDataSource) -> LabelSet:
    return LabelSet(
        x="at",
        y=6,
        y_units="screen",
        text="label",
        source=source,
        angle=math.pi / 2,
        x_offset=3,
        text_baseline="top",
        text_color=look.text,
        background_fill_color=look.card,
        background_fill_alpha=0.75,
        text_font=value(FONT),
        text_font_size="11px",
    )


def _columns(shown: Sequence[Moment]) -> dict[str, list[Any]]:
    return {
        "at": [moment.at * MS for moment in shown],
        "label": [moment.label for moment in shown],
        "words": [moment.words for moment in shown],
    }
