"""Anomalies on the charts: shaded spans behind the lines, and a timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from bokeh.models import ColumnDataSource, FactorRange, HoverTool

from messaging.contracts import Segment
from storage.read_models.live import LiveSnapshot
from storage.read_models.live_facts import AnomalySpan
from web.dashboard.appearance import Look, Marks, chart, empty_label, show_rows
from web.dashboard.ranges import MS, sliding_from

TIMELINE_ROWS_MAX: Final = 20
TIMELINE_S_MIN: Final = 600.0
"""The timeline shows at least so much time, and an hour at most."""

HATCHES: Final = {"minor": "dot", "major": "right_diagonal_line", "critical": "cross"}
SIGNALS: Final = {
    "success_rate": "success rate", "latency": "latency", "volume": "volume", "failure_mix": "mix of failures",
    "amount_mix": "amounts", "retries": "retries", "card_testing": "card testing", "reversals": "reversals",
    "unnamed": "unusual",
}  # fmt: skip
SHARES: Final = frozenset({"success_rate", "failure_mix", "card_testing", "reversals", "unnamed"})
UNITS: Final = {"latency": " ms", "volume": " / min", "retries": " per failure", "amount_mix": " minor units"}
SHADED_SIGNALS: Final = frozenset({"success_rate"})

Columns = dict[str, Any]


def segment_words(segment: Segment) -> str:
    """Name a part of the traffic.

    >>> segment_words(Segment(gateway="bravo", method="upi")), segment_words(Segment(network="none", country="NP"))
    ('bravo · upi', 'no network · NP')
    """
    parts = msgspec.structs.asdict(segment).items()
    return " · ".join(f"no {name}" if part == "none" else part for name, part in parts if part) or "all traffic"


def observed_words(anomaly: AnomalySpan) -> str:
    """What was seen against what was expected, in the unit of the signal, with its interval and n."""
    if anomaly.signal in SHARES:
        scale, unit = 100.0, " %"
    else:
        scale, unit = 1.0, UNITS.get(anomaly.signal, "")
    seen, low, high = (scale * value for value in (anomaly.observed, anomaly.expected_low, anomaly.expected_high))
    return f"{seen:,.1f}{unit}, expected {low:,.1f} – {high:,.1f}{unit} (n {anomaly.attempts_seen:,})"


def span_columns(anomalies: Sequence[AnomalySpan], now: float, colours: Sequence[str]) -> Columns:
    """The columns of the spans; an open anomaly lasts until now."""
    ends = [now if anomaly.closed_at is None else anomaly.closed_at for anomaly in anomalies]
    return {
        "start": np.array([anomaly.started_at * MS for anomaly in anomalies], dtype=np.float64),
        "end": np.array(ends, dtype=np.float64) * MS,
        "segment": [segment_words(anomaly.segment) for anomaly in anomalies],
        "signal": [SIGNALS.get(anomaly.signal, anomaly.signal) for anomaly in anomalies],
        "severity": [anomaly.severity for anomaly in anomalies],
        "seen": [observed_words(anomaly) for anomaly in anomalies],
        "state": ["open" if anomaly.closed_at is None else "closed" for anomaly in anomalies],
        "colour": list(colours),
        "hatch": [HATCHES.get(anomaly.severity, "dot") for anomaly in anomalies],
    }


class Shading:
    """The spans of anomalies behind a chart's lines, in the colour of the gateway that is unwell."""

    def __init__(self, look: Look, marks: Marks, plot: Any) -> None:
        self._look, self._marks = look, marks
        self._source: Any = ColumnDataSource(data=span_columns((), 0.0, ()))
        strips = plot.vstrip(
            x0="start",
            x1="end",
            source=self._source,
            fill_color="colour",
            fill_alpha=0.07,
            hatch_pattern="hatch",
            hatch_color="colour",
            hatch_alpha=0.16,
            hatch_scale=10,
            line_color="colour",
            line_alpha=0.45,
            level="underlay",
        )
        plot.add_tools(span_hover(strips))
        self._drawn: tuple[tuple[AnomalySpan, ...], int] | None = None

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again when an anomaly changed, and every second while one is open."""
        shown = tuple(anomaly for anomaly in snapshot.anomalies if anomaly.signal in SHADED_SIGNALS)
        tick = int(now) if any(anomaly.closed_at is None for anomaly in shown) else 0
        if (shown, tick) == self._drawn:
            return
        self._drawn = (shown, tick)
        self._source.data = span_columns(shown, now, [colour_of(a.segment, self._marks, self._look) for a in shown])


class Timeline:
    """One row a segment and signal, one bar an anomaly, as far back as there was one, an hour at most."""

    def __init__(self, look: Look, marks: Marks, *, height: int = 300) -> None:
        self.root = chart(look, height=height, axis="", y_range=FactorRange())
        self.root.ygrid.grid_line_color = look.grid
        # The names beside the rows leave little width on a phone.
        self.root.xaxis.ticker.desired_num_ticks = 3
        self._look, self._marks = look, marks
        self._empty = empty_label(look, self.root, "no anomaly in the last hour")
        self._source: Any = ColumnDataSource(data=span_columns((), 0.0, ()) | {"row": []})
        bars = self.root.hbar(
            y="row",
            left="start",
            right="end",
            height=0.6,
            source=self._source,
            fill_color="colour",
            fill_alpha=0.75,
            line_color="colour",
            hatch_pattern="hatch",
            hatch_color=look.card,
            hatch_alpha=0.6,
            hatch_scale=9,
        )
        self.root.add_tools(span_hover(bars))
        self._drawn: tuple[tuple[AnomalySpan, ...], int] | None = None

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again when an anomaly changed, and every few seconds so that the time goes on."""
        tick = int(now // 5)
        if (snapshot.anomalies, tick) == self._drawn:
            return
        self._drawn = (snapshot.anomalies, tick)
        hour_ago = float(snapshot.attempts.minutes[0])
        oldest = max(hour_ago, min((a.started_at for a in snapshot.anomalies), default=now))
        begin = sliding_from(oldest, now, width_s_min=TIMELINE_S_MIN)
        names = [f"{segment_words(a.segment)} — {SIGNALS.get(a.signal, a.signal)}" for a in snapshot.anomalies]
        rows = list(dict.fromkeys(names))[:TIMELINE_ROWS_MAX]
        kept = [(a, name) for a, name in zip(snapshot.anomalies, names, strict=True) if name in rows]
        columns = span_columns(
            [a for a, _ in kept], now, [colour_of(a.segment, self._marks, self._look) for a, _ in kept]
        )
        columns["start"] = np.maximum(columns["start"], begin * MS)
        self._source.data = columns | {"row": [name for _, name in kept]}
        self.root.x_range.start, self.root.x_range.end = begin * MS, now * MS
        show_rows(self.root, self._empty, rows[::-1])
        self.root.height = 80 + 34 * max(1, len(rows))


def colour_of(segment: Segment, marks: Marks, look: Look) -> str:
    """The gateway's colour; grey for what is no single gateway's."""
    return marks.of(segment.gateway, look).colour if segment.gateway else look.neutral


def span_hover(renderer: Any) -> HoverTool:
    """The tooltip of a span."""
    rows = [
        ("segment", "@segment"),
        ("signal", "@signal, @severity, @state"),
        ("observed", "@seen"),
        ("since", "@start{%H:%M:%S} UTC"),
    ]
    return HoverTool(renderers=[renderer], tooltips=rows, formatters={"@start": "datetime"})
