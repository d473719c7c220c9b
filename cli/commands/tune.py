"""``ipa tune``: chooses what cannot be known in advance by measurement, and stores the choice with its reason."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.known_store import with_store
from cli.tables import print_table

if TYPE_CHECKING:
    from config.settings import Settings
    from ml.anomalies.tuning import Choice, LabelledMinutes, TradeOff
    from storage.database import Database
    from storage.models import ModelVersion

FIRST_SEED: Final = 7_000
HOURS: Final = 9.0
WARM_HOURS: Final = 2.0
INCIDENTS: Final = 8


@click.group()
def tune() -> None:
    """Choose by measurement, and store the choice with its reason."""


@tune.command()
@click.option("--streams", type=click.IntRange(1, 50), default=4, show_default=True, help="Streams to choose on.")
@click.option("--held-back", type=click.IntRange(1, 50), default=4, show_default=True, help="Streams to judge on.")
@click.option("--rate", type=click.FloatRange(1, 200), default=20.0, show_default=True, help="Orders a second.")
@click.option("--seed", type=int, default=FIRST_SEED, show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the trade-off into this HTML file.")
@click.option("--hold", is_flag=True, help="Store the choice as a candidate, however good it is.")
@click.option("--dry-run", is_flag=True, help="Store nothing; needs no store.")
def anomalies(
    streams: int, held_back: int, rate: float, seed: int, plot: Path | None, hold: bool, dry_run: bool
) -> None:
    """Choose the Isolation Forest's contamination rate on simulated streams with labelled incidents.

    The rate with the fewest false alerts, and of those the one that finds most, is judged on other streams beside the
    rate now in use, and put in force if it is better there. Running watchers take it over when they start anew. Takes
    half a minute for each stream.
    """
    from actors.anomaly_tuning import contamination_in_force
    from config.settings import load_settings

    usual = load_settings().anomalies.contamination

    async def in_use(database: Database, _: Settings) -> float:
        return await contamination_in_force(database, usual)

    now_used = usual if dry_run else with_store(in_use)
    began = datetime.now(UTC)
    choice = _chosen(streams, held_back, rate=rate, seed=seed, now_used=now_used)
    _show(choice, now_used)
    if plot is not None:
        _draw(choice, plot)
        click.echo(f"the trade-off is drawn in {plot}")
    if not dry_run:
        version, is_promoted = _stored(choice, now_used, began, hold=hold)
        standing = "in force" if is_promoted else "a candidate, not in force"
        click.echo(f"{version.kind} version {version.version} stored, {standing}: {version.note}")


def _chosen(streams: int, held_back: int, *, rate: float, seed: int, now_used: float) -> Choice:
    """Watch the streams, showing how far it is, and choose."""
    from cli.tuning.labelled import labelled_minutes
    from ml.anomalies.tuning import tune as choose

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    watched: list[LabelledMinutes] = []
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("watching streams", total=streams + held_back)

        def advanced(share: float) -> None:
            shown.update(task, completed=len(watched) + share)

        for number in range(streams + held_back):
            minutes = labelled_minutes(
                seed=seed + number, rate=rate, hours=HOURS, warm_hours=WARM_HOURS, incidents=INCIDENTS,
                advanced=advanced,
            )  # fmt: skip
            watched.append(minutes)
    try:
        return choose(watched[:streams], watched[streams:], now_used=now_used)
    except ValueError as error:
        raise click.ClickException(f"{error}; take a higher --rate") from None


def _stored(choice: Choice, now_used: float, began: datetime, *, hold: bool) -> tuple[ModelVersion, bool]:
    """Store the choice. Returns: its version, and whether it is in force."""
    from actors.anomaly_tuning import trained_of
    from storage.models import add_candidate, promote

    async def work(database: Database, _: Settings) -> tuple[ModelVersion, bool]:
        now = datetime.now(UTC)
        trained = trained_of(choice, now_used=now_used, began=began, now=now)
        version = await add_candidate(database, trained, now)
        if hold or not trained.better:
            return version, False
        return await promote(database, trained.kind, version.version, reason=trained.note, now=now), True

    return with_store(work)


def _show(choice: Choice, now_used: float) -> None:
    table = Table("contamination", "found", "false alerts", "days", "median delay", "")
    for one in choice.trade_off:
        table.add_row(*_cells(one), "chosen" if one.contamination == choice.contamination else "")
    for one in choice.held_back:
        table.add_row(*_cells(one), "held back, in use" if one.contamination == now_used else "held back, chosen")
    print_table(table)


def _cells(one: TradeOff) -> list[str]:
    delay = "–" if one.delay_s is None else f"{one.delay_s:.0f} s"
    return [
        f"{one.contamination:g}",
        f"{one.found} of {one.incidents}",
        str(one.false_alerts),
        f"{one.days:.2f}",
        delay,
    ]


def _draw(choice: Choice, file: Path) -> None:
    """Three charts over the rate, the chosen one marked: incidents found, false alerts, delay."""
    from bokeh.embed import file_html
    from bokeh.layouts import row
    from bokeh.models import DataRange1d
    from bokeh.plotting import figure
    from bokeh.resources import INLINE

    charts = []
    for title, value in (
        ("Share of incidents found", "recall"),
        ("False alerts a day", "false_a_day"),
        ("Median delay, seconds", "delay_s"),
    ):
        points = [(one.contamination, shown) for one in choice.trade_off if (shown := getattr(one, value)) is not None]
        chart = figure(
            width=380,
            height=320,
            title=title,
            x_axis_type="log",
            x_axis_label="contamination",
            y_range=DataRange1d(start=0),
        )
        if points:
            rates, values = zip(*points, strict=True)
            chart.line(rates, values, line_width=2)
            chart.scatter(rates, values, size=8)
        held = [(one.contamination, shown) for one in choice.held_back if (shown := getattr(one, value)) is not None]
        if held:
            rates, values = zip(*held, strict=True)
            chart.scatter(rates, values, size=11, marker="diamond", color="#b45309", legend_label="held back")
        if chart.legend:
            chart.add_layout(chart.legend[0], "below")
        chart.vspan(x=[choice.contamination], line_dash="dashed")
        charts.append(chart)
    file.write_text(file_html(row(charts), INLINE, "Contamination rate"), encoding="utf-8")
