"""How everything looks: two themes, colours that colour-blind people can tell apart, and the frame of every chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from bokeh.models import DatetimeTickFormatter, NumeralTickFormatter, Range1d
from bokeh.models.annotations import Label
from bokeh.plotting import figure

from web.choosing import BEFORE

FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
EMPTY: Final = "not enough data yet"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The colours of one theme. ``series`` follows Okabe and Ito (2008), darkened or lightened to stand out."""

    name: str
    page: str
    card: str
    border: str
    text: str
    muted: str
    grid: str
    neutral: str
    good: str
    bad: str
    warn: str
    series: tuple[str, ...]
    categories: tuple[str, ...]


LIGHT: Final = Look(
    name="light",
    page="#f5f6f8",
    card="#ffffff",
    border="#dfe3e8",
    text="#1b2430",
    muted="#586474",
    grid="#e8ebef",
    neutral="#7a8594",
    good="#007a5a",
    bad="#b54708",
    warn="#8a6100",
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d", "#8a7a00"),
    categories=("#88ccee", "#cc6677", "#ddcc77", "#117733", "#332288", "#aa4499", "#44aa99", "#999933", "#9aa3ad"),
)
DARK: Final = Look(
    name="dark",
    page="#0f1419",
    card="#171d24",
    border="#2a323c",
    text="#e6eaf0",
    muted="#9aa6b4",
    grid="#262e38",
    neutral="#8a95a3",
    good="#3ecf9b",
    bad="#ff9c5a",
    warn="#f2c14e",
    series=("#3d9be0", "#f07a2b", "#1fbf8f", "#dd90bb", "#f0b429", "#8fd0f5", "#d6dbe1", "#f0e442"),
    categories=("#88ccee", "#e07b8b", "#ddcc77", "#4aa564", "#8f84e0", "#c76fc2", "#44bba9", "#b5b54a", "#7d8894"),
)
LOOKS: Final = {"light": LIGHT, "dark": DARK}

DASHES: Final = ("solid", "dashed", "dotted", "dotdash", "dashdot")
MARKERS: Final = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star", "plus")
SEVERITY_ORDER: Final = ("minor", "major", "critical")


TOGETHER: Final = "all together"
WHOLES: Final = {TOGETHER: ("text", "solid", "circle")} | dict.fromkeys(BEFORE.values(), ("muted", "dashed", "square"))
"""Lines of no single name: their colour in the look, dash and marker."""


class Mark(msgspec.Struct, frozen=True):
    """How one name is drawn everywhere: by colour and marker; the dash tells names apart that share a colour."""

    colour: str
    dash: str
    marker: str


class Marks:
    """Gives every name its own place in the palette, for as long as the process lives.

    Args:
        names: names known beforehand, in order; later ones follow as they are first seen.
    """

    PLACES_MAX: Final = 200

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._places = {name: place for place, name in enumerate(names)}

    def of(self, name: str, look: Look) -> Mark:
        """The mark of a name in a theme."""
        if name in WHOLES:
            colour_name, dash, marker = WHOLES[name]
            return Mark(getattr(look, colour_name), dash, marker)
        place = self._places.get(name)
        if place is None:
            place = len(self._places)
            if place < self.PLACES_MAX:
                self._places[name] = place
        rounds, colour = divmod(place, len(look.series))
        return Mark(look.series[colour], DASHES[rounds % len(DASHES)], MARKERS[place % len(MARKERS)])

    def in_order(self, names: Sequence[str]) -> list[str]:
        """The names in the order of their places, unknown ones last."""
        return sorted(names, key=lambda name: self._places.get(name, self.PLACES_MAX))

    def category(self, name: str, look: Look) -> str:
        """The fill colour of a failure category in a theme; grey is kept for what is added up as other."""
        if name == "other":
            return look.categories[-1]
        place = self._places.setdefault(name, len(self._places) % self.PLACES_MAX)
        return look.categories[place % (len(look.categories) - 1)]


def chart(look: Look, *, height: int, axis: str, time: bool = True, **settings: Any) -> Any:
    """An empty chart in the house style: as wide as its card, no toolbar, no zoom that would trap scrolling.

    Args:
        height: pixels.
        axis: title of the vertical axis, with its unit.
        time: the horizontal axis is time in UTC.
        settings: more properties of the figure.
    """
    settings.setdefault("y_range", Range1d(start=0, end=1))
    settings.setdefault("x_range", Range1d(start=0, end=1))
    plot: Any = figure(
        height=height,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        x_axis_type="datetime" if time else "linear",
        min_border_left=52,
        min_border_right=14,
        outline_line_color=None,
        background_fill_color=look.card,
        border_fill_color=look.card,
        **settings,
    )
    plot.yaxis.axis_label = axis
    for line in plot.axis:
        line.axis_line_color = look.border
        line.major_tick_line_color = look.border
        line.minor_tick_line_color = None
        line.major_label_text_color = look.muted
        line.major_label_text_font = FONT
        line.major_label_text_font_size = "12px"
        line.axis_label_text_color = look.muted
        line.axis_label_text_font = FONT
        line.axis_label_text_font_size = "12px"
        line.axis_label_text_font_style = "normal"
    plot.grid.grid_line_color = look.grid
    plot.xgrid.grid_line_color = None
    if time:
        plot.xaxis.axis_label = "time (UTC)"
        plot.xaxis.formatter = DatetimeTickFormatter(
            seconds="%H:%M:%S", minsec="%H:%M:%S", minutes="%H:%M", hourmin="%H:%M", hours="%H:%M", days="%d %b"
        )
        plot.xaxis.ticker.desired_num_ticks = 4
    if isinstance(plot.y_range, Range1d):
        plot.yaxis.ticker.desired_num_ticks = 5
    return plot


def empty_label(look: Look, plot: Any, words: str = EMPTY) -> Label:
    """The words that stand in the middle of a chart without data; ``centre`` keeps them there."""
    label = Label(
        x=0,
        y=0,
        text=words,
        text_color=look.muted,
        text_font=FONT,
        text_font_size="14px",
        text_align="center",
        text_baseline="middle",
    )
    plot.add_layout(label)
    return label


def centre(plot: Any, label: Label) -> None:
    """Move the words for an empty chart to the middle of its ranges."""
    label.x = (plot.x_range.start + plot.x_range.end) / 2
    label.y = (plot.y_range.start + plot.y_range.end) / 2


def show_rows(plot: Any, label: Label, rows: Sequence[Any], blank: Any = " ") -> None:
    """Give a chart of named rows its rows, or one blank row with the words for an empty chart in its middle.

    Args:
        rows: names from bottom to top.
        blank: a name for the row that is none.
    """
    plot.y_range.factors = list(rows) or [blank]
    label.visible = not rows
    label.x = (plot.x_range.start + plot.x_range.end) / 2
    label.y = 0.5


def thousands() -> NumeralTickFormatter:
    """Numbers with thousands separators."""
    return NumeralTickFormatter(format="0,0.[00]")
