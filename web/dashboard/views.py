"""The live views: which panels stand on which page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from storage.read_models.live import ADVICE_DECISIONS, LiveSnapshot
from storage.read_models.live_arrivals import ARRIVALS_MINUTES
from storage.read_models.live_series import MINUTE_S
from web.dashboard import legends
from web.dashboard.courses import COURSE_NOTE, CourseChart, course_legend
from web.dashboard.figures_data import (
    ROLLING_N_MIN,
    ROLLING_S,
    arrival_pace,
    arrival_shares,
    authorization_rates,
    category_pace,
    failure_categories,
    mature,
    minute_latencies,
    rolling_latencies,
    rolling_rates,
    volumes,
)
from web.dashboard.legends import HtmlPanel
from web.dashboard.moments import Annotated, action_list
from web.dashboard.panels import Palette, Panel
from web.dashboard.readings import ReadingChart
from web.dashboard.rolling import RollingChart
from web.dashboard.series import BarChart, LineChart
from web.dashboard.spans import Timeline
from web.dashboard.standings import AdviceChart, ArmChart, ParetoChart

SPAN_S: Final = ARRIVALS_MINUTES * MINUTE_S
PACE_STEP_S: Final = 5.0
SHARE_STEP_S: Final = 10.0
GAP_NOTE: Final = f"gap: fewer than {ROLLING_N_MIN} in {ROLLING_S:.0f} s"


def overview(palette: Palette) -> list[Panel]:
    """How the payments do now."""
    look, marks = palette.look, palette.gateways
    per_cent = "% of settled attempts"
    rate = RollingChart(look, marks, rolling_rates, axis=per_cent, unit="%", share=True, height=320, shaded=True)
    p50 = RollingChart(look, marks, partial(rolling_latencies, share=0.5), axis="ms", unit="ms", height=220)
    p95 = RollingChart(look, marks, partial(rolling_latencies, share=0.95), axis="ms", unit="ms", height=220)
    pace = BarChart(
        look,
        lambda snapshot: arrival_pace(snapshot.arrivals, step_s=PACE_STEP_S, span_s=SPAN_S),
        step_s=PACE_STEP_S,
        colour=palette.gateway_colour,
        axis="attempts per second",
        unit="attempts/s",
        height=240,
    )
    minutes = LineChart(look, marks, palette.by_minute(authorization_rates), axis=per_cent, height=240)
    volume = LineChart(
        look, marks, palette.by_minute(volumes), axis="attempts", unit="attempts", share=False, height=220
    )
    latency = LineChart(
        look, marks, palette.by_minute(partial(minute_latencies, share=0.95)), axis="ms", unit="ms", share=False,
        height=220,
    )  # fmt: skip
    return [
        _gateway_legend(palette, GAP_NOTE, palette.wholes if palette.compare else ()),
        Panel(
            name="rate",
            component=Annotated(rate, look),
            title="Authorization rate per gateway",
            note=f"of the last {ROLLING_S:.0f} s, as results come in; band: 95 % interval; hatched: anomaly",
            wide=True,
        ),
        Panel(
            name="activity",
            component=Annotated(pace, look, labelled=False),
            title="Attempts per second",
            note=f"mean of {PACE_STEP_S:.0f} s",
        ),
        _split(palette, height=240),
        Panel(
            name="p50",
            component=Annotated(p50, look, labelled=False),
            title="Latency p50",
            note="half are faster; of the last 60 s",
        ),
        Panel(
            name="p95",
            component=Annotated(p95, look, labelled=False),
            title="Latency p95",
            note="19 of 20 are faster; of the last 60 s",
        ),
        Panel(
            name="minutes",
            component=Annotated(minutes, look),
            title="Authorization rate per minute",
            note=palette.mature_note,
            wide=True,
        ),
        Panel(
            name="volume",
            component=Annotated(volume, look, labelled=False),
            title="Attempts per minute",
            note=palette.span,
        ),
        Panel(
            name="latency",
            component=Annotated(latency, look, labelled=False),
            title="Latency p95 per minute",
            note=palette.span,
        ),
        _meanwhile(palette),
    ]


def failures(palette: Palette) -> list[Panel]:
    """Why payments fail."""
    look = palette.look
    now = BarChart(
        look,
        lambda snapshot: category_pace(
            snapshot.failure_arrivals, snapshot.failures, step_s=SHARE_STEP_S, span_s=SPAN_S
        ),
        step_s=SHARE_STEP_S,
        colour=palette.category_colour,
        axis=f"failures in {SHARE_STEP_S:.0f} s",
        unit="failures",
        height=300,
    )
    minutes = BarChart(
        look,
        lambda snapshot: mature(failure_categories(snapshot.failures), snapshot.polled_at or 0.0),
        step_s=MINUTE_S,
        colour=palette.category_colour,
        axis="failures per minute",
        unit="failures",
        height=300,
    )

    def legend(snapshot: LiveSnapshot) -> str:
        return legends.colour_legend(failure_categories(snapshot.failures).names, palette.category_colour)

    pareto = ParetoChart(look, palette.category_colour, span=palette.span, height=300)
    return [
        Panel(name="legend", component=HtmlPanel(look, legend), wide=True, bare=True),
        Panel(
            name="now",
            component=Annotated(now, look),
            title="Failures by category",
            note=f"as they come in, {SHARE_STEP_S:.0f} s a bar",
            wide=True,
        ),
        Panel(
            name="minutes", component=Annotated(minutes, look), title="Failures per minute", note=palette.mature_note
        ),
        Panel(name="pareto", component=pareto, title="What fails most", note=palette.span),
        _meanwhile(palette),
    ]


def routing(palette: Palette) -> list[Panel]:
    """Where payments go."""
    look, marks = palette.look, palette.gateways
    volume = BarChart(
        look,
        lambda snapshot: mature(volumes(snapshot.attempts), snapshot.polled_at or 0.0),
        step_s=MINUTE_S,
        colour=palette.gateway_colour,
        axis="attempts per minute",
        unit="attempts",
    )
    return [
        _gateway_legend(palette),
        _split(palette, height=300, wide=True),
        Panel(name="volume", component=Annotated(volume, look), title="Attempts per minute", note=palette.mature_note),
        Panel(
            name="advice",
            component=AdviceChart(look, marks),
            title="What the router puts first",
            note=f"of the newest {ADVICE_DECISIONS:,} decisions; hatched: to explore",
        ),
        _meanwhile(palette),
    ]


def anomalies(palette: Palette) -> list[Panel]:
    """What is unwell, and since when."""
    return [
        _gateway_legend(palette),
        Panel(
            name="timeline",
            component=Annotated(Timeline(palette.look, palette.gateways), palette.look, labelled=False),
            title="Timeline of anomalies",
            note="at most one hour back; dots: minor, lines: major, crosses: critical",
            wide=True,
        ),
        _meanwhile(palette),
    ]


def experiments(palette: Palette) -> list[Panel]:
    """Which arm does better, how sure that is, and how it came to be."""
    return [
        Panel(
            name="arms",
            component=ArmChart(palette.look),
            title="Authorization rate per arm",
            note="with its interval as reported",
            wide=True,
        ),
        Panel(
            name="legend",
            component=HtmlPanel(palette.look, partial(course_legend, palette.experiments, palette.look)),
            wide=True,
            bare=True,
        ),
        Panel(
            name="courses",
            component=CourseChart(palette.look, palette.experiments),
            title="Difference over time",
            note=COURSE_NOTE,
            wide=True,
        ),
    ]


def system(palette: Palette) -> list[Panel]:
    """Whether the workers keep up."""
    look, stages = palette.look, palette.stages
    lag = ReadingChart(
        look, stages, lambda snapshot: snapshot.lag, axis="waiting messages", unit="waiting", top_min=10, height=260
    )
    pace = ReadingChart(
        look,
        stages,
        lambda snapshot: snapshot.pace,
        axis="messages per second",
        unit="messages/s",
        top_min=1,
        height=260,
    )

    def legend(snapshot: LiveSnapshot) -> str:
        return legends.line_legend(stages.in_order(snapshot.lag.names), stages, look)

    note = "as told by heartbeats; gap: stopped"
    return [
        Panel(name="legend", component=HtmlPanel(look, legend), wide=True, bare=True),
        Panel(name="pace", component=pace, title="Messages per second", note=note),
        Panel(name="lag", component=lag, title="Messages waiting per stage", note=note),
    ]


BUILDERS: Final[dict[str, tuple[str, Callable[[Palette], list[Panel]]]]] = {
    "overview": ("Overview", overview),
    "failures": ("Failures", failures),
    "routing": ("Routing", routing),
    "anomalies": ("Anomalies", anomalies),
    "experiments": ("Experiments", experiments),
    "system": ("System", system),
}
"""Title and builder of every view, by the last part of its path."""


def _gateway_legend(palette: Palette, note: str = "", others: Sequence[str] = ()) -> Panel:
    compute = partial(legends.gateway_legend, palette.gateways, palette.look, note, others)
    return Panel(name="legend", component=HtmlPanel(palette.look, compute), wide=True, bare=True)


def _meanwhile(palette: Palette) -> Panel:
    return Panel(
        name="meanwhile",
        component=HtmlPanel(palette.look, action_list),
        title="What was done meanwhile",
        note="last hour; vertical lines in the charts over time",
        wide=True,
    )


def _split(palette: Palette, *, height: int, wide: bool = False) -> Panel:
    split = BarChart(
        palette.look,
        lambda snapshot: arrival_shares(snapshot.arrivals, step_s=SHARE_STEP_S, span_s=SPAN_S),
        step_s=SHARE_STEP_S,
        colour=palette.gateway_colour,
        axis="% of the attempts",
        unit="%",
        share=True,
        height=height,
    )
    note = f"share of each gateway in the attempts of {SHARE_STEP_S:.0f} s; {ARRIVALS_MINUTES} minutes at most"
    return Panel(name="split", component=Annotated(split, palette.look), title="Routing split", note=note, wide=wide)
