"""Legends beside the charts, so that they never cover data, and the style of everything in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

from bokeh.models.css import InlineStyleSheet
from bokeh.models.widgets.markups import Div

from storage.read_models.live import LiveSnapshot
from web.dashboard.appearance import FONT, Look, Mark, Marks

SHAPES: Final = {
    "circle": '<circle cx="17" cy="6" r="3.2"/>',
    "square": '<rect x="14" y="3" width="6" height="6"/>',
    "triangle": '<path d="M17 2.4 20.6 9 13.4 9z"/>',
    "diamond": '<path d="M17 1.8 20 6 17 10.2 14 6z"/>',
    "inverted_triangle": '<path d="M17 9.6 20.6 3 13.4 3z"/>',
    "hex": '<path d="M15.4 3h3.2L20.4 6 18.6 9h-3.2L13.6 6z"/>',
    "star": '<path d="M17 1.6 18.2 4.8 21.4 5 18.9 7 19.8 10.2 17 8.4 14.2 10.2 15.1 7 12.6 5l3.2-.2z"/>',
    "plus": '<path d="M16 2.5h2V5h2.5v2H18v2.5h-2V7h-2.5V5H16z"/>',
}
STROKES: Final = {"solid": "", "dashed": "6 3", "dotted": "2 3", "dotdash": "2 3 6 3", "dashdot": "6 3 2 3"}


class HtmlPanel:
    """A piece of HTML that is sent only when it changed."""

    def __init__(self, look: Look, compute: Callable[[LiveSnapshot], str]) -> None:
        self._compute = compute
        self.root = Div(
            text="", margin=0, sizing_mode="stretch_width", stylesheets=[InlineStyleSheet(css=stylesheet(look))]
        )

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Write again what changed."""
        html = self._compute(snapshot)
        if html != self.root.text:
            self.root.text = html


def gateway_legend(marks: Marks, look: Look, note: str, others: Sequence[str], snapshot: LiveSnapshot) -> str:
    """Which line is whose: colour, dash, and marker of every gateway that has attempts.

    Args:
        note: what else is to be known, after the gateways; empty: nothing.
        others: lines of no single gateway, after them; with one gateway the first of them is not drawn.
    """
    seen = snapshot.attempts.values[..., 0].sum(axis=(0, 2))
    names = [name for name, attempts in zip(snapshot.attempts.first, seen, strict=True) if attempts > 0]
    more = others if len(names) > 1 else others[1:]
    return line_legend([*names, *more] if names else [], marks, look, note)


def line_legend(names: Iterable[str], marks: Marks, look: Look, note: str = "") -> str:
    """Which line is whose."""
    return _legend(((name, line_sample(marks.of(name, look))) for name in names), note)


def labelled_lines(lines: Iterable[tuple[str, Mark]]) -> str:
    """Which line is whose, where a line is called otherwise than what it was marked by."""
    return _legend((label, line_sample(mark)) for label, mark in lines)


def colour_legend(names: Iterable[str], colour: Callable[[str], str]) -> str:
    """Which fill is whose."""
    box = '<svg width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" fill="{}"/></svg>'
    return _legend((name, box.format(colour(name))) for name in names)


def line_sample(mark: Mark) -> str:
    """A piece of the line of a mark, as it is drawn in the charts."""
    return (
        f'<svg width="34" height="12" viewBox="0 0 34 12" aria-hidden="true" style="vertical-align:-1px" '
        f'fill="{mark.colour}"><path d="M0 6H34" stroke="{mark.colour}" stroke-width="2" '
        f'stroke-dasharray="{STROKES[mark.dash]}"/>{SHAPES[mark.marker]}</svg>'
    )


def stylesheet(look: Look) -> str:
    """The style of everything in words; it holds inside the panel only."""
    return f"""
:host {{ display: block; width: 100%; min-width: 0; font: 14px/1.45 {FONT}; color: {look.text}; }}
.bk-clearfix {{ display: block; width: 100%; }}
* {{ box-sizing: border-box; }}
small {{ color: {look.muted}; font-size: 12px; }}
.legend {{ display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0; padding: 0; list-style: none; font-size: 13px; }}
.legend li {{ display: flex; align-items: center; gap: 6px; min-width: 0; }}
.legend li span {{ min-width: 0; overflow-wrap: anywhere; }} .legend li svg {{ flex: none; }}
.actions {{ margin: 0; padding: 0; list-style: none; }} .actions li {{ padding: 2px 0; overflow-wrap: anywhere; }}
a {{ color: {look.series[0]}; }} time {{ font-variant-numeric: tabular-nums; margin-right: 6px; }} p {{ margin: 0; }}
.state {{ font-weight: 600; }} .good {{ color: {look.good}; }} .bad {{ color: {look.bad}; }}
.warn {{ color: {look.warn}; }} .quiet {{ color: {look.muted}; }}
"""


def _legend(items: Iterable[tuple[str, str]], note: str = "") -> str:
    listed = "".join(f"<li>{sample}<span>{escape(name)}</span></li>" for name, sample in items)
    more = f"<li><small>{escape(note)}</small></li>" if note else ""
    return f'<ul class="legend">{listed}{more}</ul>' if listed else ""
