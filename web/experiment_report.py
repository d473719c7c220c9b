"""The report of one experiment as one HTML document that needs nothing else: to read, to print, to send on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import jinja2

from ml.experiments.metrics import METRICS
from ml.experiments.units import MATURE
from storage.experiments import is_about
from storage.read_models.experiment_report import ExperimentStory
from web.rendering import iso

REPORTS: Final = Path(__file__).parent / "reports"
"""Templates of documents that stand alone, with their style inside; pages never use them."""

WIDTH: Final = 720
HEIGHT: Final = 260
LEFT: Final = 110
BOTTOM: Final = 30
REACH_SHOWN: Final = 6.0
"""The plot shows so many times the last band's width; wider ones of the first orders are cut off."""


def render_report(story: ExperimentStory) -> str:
    """Write the report. Everything that came from outside is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(REPORTS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(iso=iso)
    metric = METRICS[story.report.metric or "authorization_rate"]
    mature = MATURE[story.definition.unit] if story.definition else "mature units"

    def value(of: float | None, name: str | None = None) -> str:
        return "–" if of is None else METRICS[name or metric.name].shown(of)

    def change(of: float | None, name: str | None = None) -> str:
        return "–" if of is None else METRICS[name or metric.name].shown(of, signed=True)

    return environment.get_template("experiment.html").render(
        story=story,
        report=story.report,
        metric=metric,
        metrics=METRICS,
        mature=mature,
        value=value,
        change=change,
        plot=_plot(story),
    )


def _plot(story: ExperimentStory) -> dict[str, Any] | None:
    """Where line and band run in the picture, units on a logarithmic axis; None: there are too few points."""
    report = story.report
    points = [point for point in story.points if is_about(point, report.challenger, report.metric)]
    if len(points) < 2 or points[-1].units <= points[0].units:
        return None
    last = points[-1]
    reach = max(REACH_SHOWN * (last.high - last.low) / 2, abs(last.difference) * 1.2)
    first_log, span = math.log(points[0].units), math.log(last.units / points[0].units)

    def place(units: int, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - 10) * (math.log(units) - first_log) / span
        y = (HEIGHT - BOTTOM) * (0.5 - max(-1.0, min(1.0, value / reach)) / 2)
        return f"{x:.1f},{y:.1f}"

    metric = METRICS[story.report.metric or "authorization_rate"]
    marks = [(level * reach, f"{(HEIGHT - BOTTOM) * (0.5 - level / 2):.1f}") for level in (-0.8, -0.4, 0.0, 0.4, 0.8)]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "zero": f"{(HEIGHT - BOTTOM) / 2:.1f}",
        "line": " ".join(place(point.units, point.difference) for point in points),
        "band": " ".join(
            [place(point.units, point.high) for point in points]
            + [place(point.units, point.low) for point in reversed(points)]
        ),
        "marks": [(metric.shown(level, signed=True), y) for level, y in marks],
        "first_units": points[0].units,
        "last_units": last.units,
    }
