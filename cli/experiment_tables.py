"""How experiments look on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from cli.tables import print_table

if TYPE_CHECKING:
    from ml.experiments.planning import Plan
    from storage.read_models.experiment_report import ExperimentStory


def show_plan(made: Plan) -> None:
    """What an experiment needs, for each way to look at it."""
    rows = {
        "one look at the end": made.units_one_look,
        "five planned looks": made.units_planned_looks,
        "any look, half of the experiments": made.units_any_time_median,
        f"any look, {100 * made.power:g} % of the experiments": made.units_any_time,
    }
    table = Table("when it is looked at", "orders in both arms", "days", title=(
        f"{100 * made.rate:.4g} % and {100 * made.effect:+g} points, error {100 * made.alpha:g} %"
    ))  # fmt: skip
    for told, units in rows.items():
        days = made.days(units)
        shown = "unknown: give --per-day" if days is None else f"{days:.1f}" if days >= 0.1 else "less than 0.1"
        table.add_row(told, f"{units:,}", shown)
    print_table(table)
    click.echo("Run whole weeks, and not less than one: a week has all its days.")


def show_results(story: ExperimentStory) -> None:
    """What an experiment says so far, and what to do next."""
    from ml.experiments.metrics import METRICS

    report, console = story.report, Console(highlight=False)
    metric = METRICS[report.metric or "authorization_rate"]
    console.print(f"[bold]{report.standing}[/]", soft_wrap=True)
    console.print(report.verdict, markup=False, soft_wrap=True)
    table = Table("arm", "policy", "units", "mature", metric.title, "± one look")
    for arm in report.arms:
        value = "" if arm.value is None else metric.shown(arm.value)
        error = "" if arm.standard_error is None else metric.shown(1.96 * arm.standard_error, signed=True)[1:]
        table.add_row(arm.arm, arm.policy, f"{arm.units:,}", f"{arm.mature:,}", value, error)
    print_table(table, console)
    for guardrail in report.guardrails:
        console.print(f"{guardrail.state}: {guardrail.words}", markup=False, soft_wrap=True)
    for part in (part for part in story.segments if part.differs):
        told = f"{metric.shown(part.shrunken, signed=True)}, {metric.shown(part.low, signed=True)} to "
        told += metric.shown(part.high, signed=True)
        console.print(f"unlike the whole: {part.dimension} {part.value}: {told}, n {part.units:,} mature", markup=False)
    for action in story.actions:
        console.print(f"{action.at:%Y-%m-%d %H:%M:%S} {action.action} by {action.who}: {action.reason}", markup=False)
    console.print(story.next_step, markup=False, soft_wrap=True)
