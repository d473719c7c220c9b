"""The plots of the simulator's report; each is made from the figures in ``report_figures``."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, FactorRange, HoverTool
from bokeh.models.annotations import Whisker
from bokeh.plotting import figure
from bokeh.transform import dodge

from simulator.offline import Chunk, Offline
from simulator.report_figures import (
    Calibration,
    Rate,
    Retries,
    amount_groups,
    failures_by_category,
    latency_densities,
    local_hour,
    orders_by_hour,
    rates_by,
    success_by_time,
)
from simulator.scenario import load_scenario
from simulator.world import facts

COLOURS: Final = ("#0b6e99", "#d9730d", "#448361", "#9065b0", "#c14c8a")
WIDTH, HEIGHT = 560, 330
DAYS: Final = 31
DEMO_BIN_S: Final = 5
DEMO_BINS: Final = 72
DEMO_RATE: Final = 200

TIPS: Final = [("", "@gateway @group"), ("rate", "@rate{0.0%}"), ("95 %", "@low{0.0%}-@high{0.0%}"), ("n", "@n{0,0}")]


def _rate_figure(title: str, names: list[str], table: list[list[Rate]], *, bars: bool) -> Any:
    """Success by gateway over named groups, with intervals."""
    shown = figure(
        title=title,
        x_range=FactorRange(factors=names),
        width=WIDTH,
        height=HEIGHT,
        y_axis_label="success rate",
        tools="pan,wheel_zoom,reset,save",
    )
    shown.xaxis.major_label_orientation = 0.7 if len(names) > 6 else 0
    for place, (gateway, rates) in enumerate(zip(facts.GATEWAYS, table, strict=True)):
        kept = [(name, rate) for name, rate in zip(names, rates, strict=True) if rate.rate is not None]
        source = ColumnDataSource(
            {
                "group": [name for name, _ in kept],
                "rate": [rate.rate for _, rate in kept],
                "low": [rate.low for _, rate in kept],
                "high": [rate.high for _, rate in kept],
                "n": [rate.n for _, rate in kept],
                "gateway": [gateway] * len(kept),
            }
        )
        where = dodge("group", (place - 2) * 0.15, range=shown.x_range)
        if bars:
            whisker = Whisker(source=source, base=where, lower="low", upper="high", line_color=COLOURS[place])
            shown.add_layout(whisker)
            shown.scatter(where, "rate", source=source, color=COLOURS[place], size=7, legend_label=gateway)
        else:
            shown.line("group", "rate", source=source, color=COLOURS[place], line_width=2, legend_label=gateway)
    shown.add_tools(HoverTool(tooltips=TIPS))
    shown.legend.click_policy = "hide"
    shown.legend.label_text_font_size = "9px"
    shown.add_layout(shown.legend[0], "right")
    return shown


def contexts(chunk: Chunk) -> list[Any]:
    """Four plots: success by gateway and method, issuer, amount, hour."""
    attempts = chunk.attempts
    amounts, amount_names = amount_groups(attempts.amount_minor)
    hours = [f"{hour:02d}" for hour in range(24)]
    issuers = list(facts.ISSUER_NAMES[:8])
    return [
        _rate_figure("By method", list(facts.METHODS), rates_by(chunk, attempts.method.astype(np.int64), 4), bars=True),
        _rate_figure(
            "By issuer (eight largest)", issuers, rates_by(chunk, attempts.issuer.astype(np.int64), 8), bars=True
        ),
        _rate_figure("By amount, rupees", amount_names, rates_by(chunk, amounts, len(amount_names)), bars=True),
        _rate_figure("By local hour", hours, rates_by(chunk, local_hour(attempts.at), 24), bars=False),
    ]


def latency(chunk: Chunk) -> Any:
    """How long answers take, by gateway."""
    edges = np.geomspace(25, 13_000, 90)
    shown = figure(
        title="Time to an answer",
        width=WIDTH,
        height=HEIGHT,
        x_axis_type="log",
        x_axis_label="milliseconds",
        y_axis_label="share of attempts",
    )
    for place, density in enumerate(latency_densities(chunk, edges)):
        shown.line(edges[:-1], density, color=COLOURS[place], line_width=2, legend_label=facts.GATEWAYS[place])
    return shown


def rhythm(chunk: Chunk) -> Any:
    """Orders by hour over the run."""
    counts = orders_by_hour(chunk, DAYS)
    shown = figure(
        title="Orders by hour over a month",
        width=WIDTH,
        height=HEIGHT,
        x_axis_label="day of the run",
        y_axis_label="orders per hour",
    )
    shown.line(np.arange(len(counts)) / 24, counts, color=COLOURS[0])
    return shown


def failures(chunk: Chunk) -> Any:
    """How often each true category fails payments, by gateway."""
    rows = [(name, counts) for name, counts in failures_by_category(chunk) if sum(counts)]
    names = [name for name, _ in rows][::-1]
    data: dict[str, Any] = {"category": names}
    for place, gateway in enumerate(facts.GATEWAYS):
        data[gateway] = [counts[place] for _, counts in rows][::-1]
    names_range = FactorRange(factors=names)
    shown = figure(title="Failures by true category", y_range=names_range, width=WIDTH, height=HEIGHT + 90)
    shown.hbar_stack(
        list(facts.GATEWAYS),
        y="category",
        height=0.8,
        color=list(COLOURS),
        source=ColumnDataSource(data),
        legend_label=list(facts.GATEWAYS),
    )
    return shown


def attempts_of_orders(found: Retries) -> Any:
    """Success by the number of the attempt."""
    names = [f"attempt {place}" for place in range(1, len(found.success_by_number) + 1)]
    rates = found.success_by_number
    shown = figure(
        title="Success by attempt of an order", x_range=FactorRange(factors=names), width=WIDTH, height=HEIGHT + 90
    )
    shown.vbar(names, top=[rate.rate or 0.0 for rate in rates], width=0.6, color=COLOURS[0])
    source = ColumnDataSource(
        {"x": names, "low": [r.low or 0.0 for r in rates], "high": [r.high or 0.0 for r in rates]}
    )
    shown.add_layout(Whisker(source=source, base="x", lower="low", upper="high"))
    return shown


def banks(rows: list[Calibration], kind: str) -> Any:
    """Public against simulated shares, one point a bank, with the diagonal on which they agree."""
    public = [getattr(row, f"{kind}_public") for row in rows]
    rates: list[Rate] = [getattr(row, kind) for row in rows]
    data: dict[str, Any] = {
        "public": public,
        "rate": [rate.rate for rate in rates],
        "low": [rate.low for rate in rates],
        "high": [rate.high for rate in rates],
        "bank": [row.issuer for row in rows],
        "n": [rate.n for rate in rates],
    }
    source = ColumnDataSource(data)
    shown = figure(
        title=f"{kind.title()} declines over UPI, by bank",
        width=WIDTH,
        height=HEIGHT,
        x_axis_label="public share",
        y_axis_label="simulated share",
    )
    most = max(public) * 1.1
    shown.line([0, most], [0, most], color="#999999", line_dash="dashed")
    shown.add_layout(Whisker(source=source, base="public", lower="low", upper="high"))
    points = shown.scatter("public", "rate", source=source, size=8, color=COLOURS[1])
    tips = [("bank", "@bank"), ("public", "@public{0.00%}"), ("simulated", "@rate{0.00%}"), ("n", "@n{0,0}")]
    shown.add_tools(HoverTool(renderers=[points], tooltips=tips))
    return shown


def demo(seed: int) -> Any:
    """Success by gateway through the demo's scenario."""
    offline = Offline(load_scenario("demo"), seed=seed, rate=DEMO_RATE)
    chunk = offline.take(int(DEMO_RATE * DEMO_BINS * DEMO_BIN_S * 1.2))
    table = success_by_time(chunk, offline.plan.began_at, DEMO_BIN_S, DEMO_BINS)
    shown = figure(
        title="Scenario demo at 200 orders a second",
        width=2 * WIDTH,
        height=HEIGHT,
        x_axis_label="seconds",
        y_axis_label="success rate",
    )
    at = np.arange(DEMO_BINS) * float(DEMO_BIN_S)
    for place, rates in enumerate(table):
        shown.line(
            at,
            [np.nan if r.rate is None else r.rate for r in rates],
            color=COLOURS[place],
            line_width=2,
            legend_label=facts.GATEWAYS[place],
        )
        shown.varea(at, [r.low or 0.0 for r in rates], [r.high or 0.0 for r in rates], color=COLOURS[place], alpha=0.15)
    shown.legend.location = "bottom_right"
    return shown
