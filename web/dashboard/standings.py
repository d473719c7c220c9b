"""Charts that are not over time: what fails most, what the router puts first, how the arms stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, FactorRange, HoverTool
from bokeh.models.annotations import LabelSet, Whisker

from messaging.contracts import ArmCount
from storage.read_models.live import LiveSnapshot
from storage.read_models.live_facts import AdviceCount, ExperimentStanding
from storage.read_models.live_series import MinuteCounts
from web.dashboard.appearance import FONT, Look, Marks, chart, empty_label, show_rows, thousands
from web.dashboard.figures_data import failure_categories

ADVICE_COLUMNS: Final = ("gateway", "decisions", "settled", "colour", "words", "exploring")


class ParetoChart:
    """The failures of some time by category, biggest first, with each one's share.

    Args:
        span: the time in words.
    """

    def __init__(self, look: Look, colour: Callable[[str], str], *, span: str, height: int = 300) -> None:
        self.root = chart(look, height=height, axis="", time=False, y_range=FactorRange())
        self.root.xaxis.axis_label = f"failures in the {span}"
        self.root.xaxis.formatter = thousands()
        self.root.xgrid.grid_line_color = look.grid
        self.root.ygrid.grid_line_color = None
        self._colour = colour
        self._empty = empty_label(look, self.root)
        self._source: Any = ColumnDataSource(data=_no_rows("category", "failures", "colour", "words", "upto"))
        bars = self.root.hbar(
            y="category", right="failures", height=0.66, source=self._source, fill_color="colour", line_color=None
        )
        self.root.add_layout(_labels(look, self._source, x="failures", y="category"))
        rows = [("category", "@category"), ("failures", "@words"), ("with the bigger ones", "@upto{0.0} %")]
        self.root.add_tools(HoverTool(renderers=[bars], tooltips=rows))
        self._drawn: MinuteCounts | None = None

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again what changed."""
        if snapshot.failures is self._drawn:
            return
        self._drawn = snapshot.failures
        lines = failure_categories(snapshot.failures)
        failures = lines.value.sum(axis=1)
        total = float(failures.sum())
        self._source.data = {
            "category": list(lines.names),
            "failures": failures,
            "colour": [self._colour(name) for name in lines.names],
            "words": [f"{count:,.0f} · {100 * count / total:.1f} %" for count in failures],
            "upto": 100 * np.cumsum(failures) / max(total, 1.0),
        }
        self.root.x_range.start, self.root.x_range.end = 0, 1.6 * max(1.0, float(failures.max(initial=0)))
        show_rows(self.root, self._empty, lines.names[::-1])


class AdviceChart:
    """Which gateway the newest decisions put first, and how many of them were made to explore."""

    def __init__(self, look: Look, marks: Marks, *, height: int = 260) -> None:
        self.root = chart(look, height=height, axis="", time=False, y_range=FactorRange())
        self.root.xaxis.axis_label = "newest decisions that put the gateway first"
        self.root.xaxis.formatter = thousands()
        self.root.xgrid.grid_line_color = look.grid
        self.root.ygrid.grid_line_color = None
        self._look, self._marks = look, marks
        self._empty = empty_label(look, self.root)
        self._source: Any = ColumnDataSource(data=_no_rows(*ADVICE_COLUMNS))
        known = self.root.hbar(
            y="gateway", right="settled", height=0.66, source=self._source, fill_color="colour", line_color="colour"
        )
        exploring = self.root.hbar(
            y="gateway",
            left="settled",
            right="decisions",
            height=0.66,
            source=self._source,
            fill_color=look.card,
            hatch_pattern="right_diagonal_line",
            hatch_color="colour",
            hatch_scale=7,
            line_color="colour",
        )
        self.root.add_layout(_labels(look, self._source, x="decisions", y="gateway"))
        rows = [("gateway", "@gateway"), ("put first", "@words"), ("exploring", "@exploring")]
        self.root.add_tools(HoverTool(renderers=[known, exploring], tooltips=rows))
        self._drawn: tuple[AdviceCount, ...] | None = None

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again what changed."""
        if snapshot.advice is self._drawn:
            return
        self._drawn = snapshot.advice
        counted: dict[str, list[int]] = {}
        for count in snapshot.advice:
            both = counted.setdefault(count.gateway, [0, 0])
            both[count.exploring] += count.decisions
        order = sorted(counted, key=lambda name: -sum(counted[name]))
        total = max(1, sum(map(sum, counted.values())))
        sums = np.array([sum(counted[name]) for name in order], dtype=np.float64)
        self._source.data = {
            "gateway": order,
            "decisions": sums,
            "settled": np.array([counted[name][0] for name in order], dtype=np.float64),
            "colour": [self._marks.of(name, self._look).colour for name in order],
            "words": [f"{100 * sum(counted[name]) / total:.1f} %  (n {sum(counted[name]):,})" for name in order],
            "exploring": [f"{counted[name][1]:,} of them to explore" for name in order],
        }
        self.root.x_range.start, self.root.x_range.end = 0, 1.7 * max(1.0, float(sums.max(initial=0)))
        show_rows(self.root, self._empty, order[::-1])


class ArmChart:
    """The authorization rate of every arm with its interval, experiment by experiment."""

    def __init__(self, look: Look, *, height: int = 240) -> None:
        self.root = chart(look, height=height, axis="", time=False, y_range=FactorRange())
        self.root.xaxis.axis_label = "authorization rate, % of settled attempts"
        self.root.xgrid.grid_line_color = look.grid
        self.root.y_range.group_padding = 0.6
        self._look = look
        self._empty = empty_label(look, self.root)
        self._source: Any = ColumnDataSource(data=_no_rows("arm", "rate", "low", "high", "words", "colour"))
        whisker: Any = Whisker(
            base="arm",
            lower="low",
            upper="high",
            source=self._source,
            dimension="width",
            line_color="colour",
            line_width=2,
        )
        whisker.upper_head.line_color = whisker.lower_head.line_color = "colour"
        whisker.upper_head.size = whisker.lower_head.size = 10
        self.root.add_layout(whisker)
        points = self.root.scatter(x="rate", y="arm", source=self._source, size=10, marker="diamond", color="colour")
        self.root.add_tools(HoverTool(renderers=[points], tooltips=[("arm", "@arm"), ("rate", "@words")]))
        self.root.yaxis.group_text_color = look.text
        self.root.yaxis.group_text_font = FONT
        self.root.yaxis.group_text_font_size = "12px"
        self.root.yaxis.separator_line_color = look.border
        self._drawn: tuple[ExperimentStanding, ...] | None = None

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again what changed."""
        if snapshot.experiments is self._drawn:
            return
        self._drawn = snapshot.experiments
        known = [
            (standing.experiment, index, arm)
            for standing in snapshot.experiments
            for index, arm in enumerate(standing.arms)
            if arm.rate is not None and arm.rate_low is not None and arm.rate_high is not None
        ]
        factors = [(experiment, arm.arm) for experiment, _, arm in known]
        low = 100 * np.array([arm.rate_low for _, _, arm in known], dtype=np.float64)
        high = 100 * np.array([arm.rate_high for _, _, arm in known], dtype=np.float64)
        self._source.data = {
            "arm": factors,
            "rate": 100 * np.array([arm.rate for _, _, arm in known], dtype=np.float64),
            "low": low,
            "high": high,
            "words": [_rate_words(arm) for _, _, arm in known],
            "colour": [self._look.series[index % len(self._look.series)] for _, index, _ in known],
        }
        margin = max(1.0, 0.1 * float(high.max(initial=0) - low.min(initial=100)))
        self.root.x_range.start = max(0.0, float(low.min(initial=100)) - margin) if known else 0
        self.root.x_range.end = min(100.0, float(high.max(initial=0)) + margin) if known else 100
        show_rows(self.root, self._empty, factors[::-1], (" ", " "))
        self.root.height = 90 + 44 * max(2, len(known))


def _rate_words(arm: ArmCount) -> str:
    if arm.rate is None or arm.rate_low is None or arm.rate_high is None:
        return "not known yet"
    rate, low, high = (100 * share for share in (arm.rate, arm.rate_low, arm.rate_high))
    return f"{rate:.2f} % [{low:.2f} – {high:.2f}], n {arm.settled:,}"


def _no_rows(*columns: str) -> dict[str, list[Any]]:
    return {name: [] for name in columns}


def _labels(look: Look, source: ColumnDataSource, *, x: str, y: str) -> LabelSet:
    return LabelSet(
        x=x,
        y=y,
        text="words",
        source=source,
        x_offset=7,
        text_baseline="middle",
        text_color=look.text,
        text_font=value(FONT),
        text_font_size="12px",
    )
