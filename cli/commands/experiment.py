"""``ipa experiment``: check, plan, look at, report and steer A/B tests of routing policies."""

from __future__ import annotations

import asyncio
import getpass
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.table import Table

from cli.errors import CliError
from cli.experiment_tables import show_plan, show_results
from cli.tables import print_table

if TYPE_CHECKING:
    from messaging.contracts import ExperimentsDefined
    from ml.experiments.design import Experiment
    from storage.read_models.experiment_report import ExperimentStory
    from storage.read_models.experiments import Experiments


@click.group()
def experiment() -> None:
    """Check, plan, look at, report and steer A/B tests."""


@experiment.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
def validate(file: Path | None) -> None:
    """Check an experiments file; a mistake is told with its line, exit code 78."""
    defined = _read(file)
    click.echo(f"{defined.source}: {len(defined.experiments)} experiments, version {defined.version}, no mistake")
    for each in defined.experiments:
        click.echo(f"  {each.name}: {'enabled' if each.enabled else 'not enabled'}, counts as {each.phase}")


@experiment.command()
def schema() -> None:
    """Write the JSON Schema of the experiments file, as in config/experiments.schema.json."""
    from actors.experiments_file import experiments_schema

    click.echo(experiments_schema(), nl=False)


@experiment.command()
@click.argument("name", required=False)
@click.option("--rate", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Rate of the control, 0 to 1.")
@click.option("--effect", type=float, help="Smallest difference that matters; default: the experiment's own.")
@click.option("--power", default=0.8, show_default=True, type=click.FloatRange(0.1, 0.999))
@click.option("--per-day", type=click.FloatRange(0, min_open=True), help="Eligible orders a day, of all arms together.")
@click.option("--file", type=click.Path(path_type=Path), help="Another experiments file.")
@click.option("--json", "as_json", is_flag=True)
def plan(  # what is planned, and four figures that the plan rests on
    name: str | None,
    rate: float | None,
    effect: float | None,
    power: float,
    per_day: float | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Say how many orders and days an experiment needs: for one look, for five planned ones, for any look.

    With NAME from the experiments file; without, --rate and --effect say what is compared, in equal arms. Rate and
    traffic of a running experiment are taken from the system where they are not given.
    """
    from config.settings import load_settings
    from ml.experiments.planning import plan_rates

    shares, alpha = (0.5, 0.5), load_settings().experiments.alpha
    if name is not None:
        found = _named(_read(file), name)
        control = found.control
        challenger = min((arm for arm in found.arms if arm is not control), key=lambda arm: arm.weight)
        shares = (control.weight * found.coverage, challenger.weight * found.coverage)
        effect = effect if effect is not None else found.smallest_effect
        questions = len({found.primary, *found.goals}) * (len(found.arms) - 1)
        alpha = (found.alpha if found.alpha is not None else alpha) / questions  # all of them pay for each other
        if rate is None or per_day is None:
            seen_rate, seen_per_day = asyncio.run(_seen(name))
            rate, per_day = rate or seen_rate, per_day or seen_per_day
    if rate is None or not effect:
        raise click.UsageError("give --rate and --effect, or the NAME of an experiment that has run for a while")
    try:
        made = plan_rates(
            rate, effect, shares=shares, alpha=alpha, power=power, units_per_day=per_day and per_day * sum(shares)
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(msgspec.json.encode(made).decode())
        return
    show_plan(made)


@experiment.command()
@click.option("--json", "as_json", is_flag=True)
def status(as_json: bool) -> None:
    """Show how every experiment stands."""
    found = asyncio.run(_standing())
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    table = Table("experiment", "runs", "share", "units", "standing", "verdict")
    for each in found.standings:
        report = each.report
        runs = "yes" if report.running and each.definition is not None else "no"
        share, units = f"{100 * report.coverage:g} %", f"{report.units:,}"
        table.add_row(report.experiment, runs, share, units, report.standing, report.verdict)
    for waiting in found.waiting:
        table.add_row(waiting.name, "yes" if waiting.enabled else "no", "", "0", "waiting", "nothing was reported yet")
    print_table(table)
    if found.allocation_published_at is not None:
        when = found.allocation_published_at.strftime("%Y-%m-%d %H:%M:%S")
        who, cause = found.allocation_published_by, found.allocation_cause
        click.echo(f"in force since {when} UTC by {who}: {cause} ({found.allocation_version})")
    if found.file_error:
        click.echo(f"the experiments file was refused, the last good one stays in force: {found.file_error}")


@experiment.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The whole story as JSON.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the report to this file.")
def results(name: str, as_json: bool, html: Path | None) -> None:
    """Show what experiment NAME says so far, and what to do next."""
    story = asyncio.run(_story(name))
    if html is not None:
        from web.experiment_report import render_report

        html.write_text(render_report(story), encoding="utf-8")
        click.echo(f"{html} written")
    if as_json:
        click.echo(msgspec.json.encode(story).decode())
    elif html is None:
        show_results(story)


@experiment.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why, for the audit log.")
def stop(name: str, reason: str) -> None:
    """End experiment NAME: its payments get the default policy, within a second; its counts stay."""
    from messaging.contracts import ExperimentStopped

    asyncio.run(_order(ExperimentStopped, name, reason))
    click.echo(f"{name} is being stopped; `ipa experiment status` shows it")


@experiment.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why, for the audit log.")
def resume(name: str, reason: str) -> None:
    """Let the stopped experiment NAME go on with its counts."""
    from messaging.contracts import ExperimentResumed

    asyncio.run(_order(ExperimentResumed, name, reason))
    click.echo(f"{name} is being resumed; `ipa experiment status` shows it")


def _read(file: Path | None) -> ExperimentsDefined:
    from actors.experiments_file import read_experiments
    from config.gateways import load_gateways
    from config.settings import load_settings, resolved
    from ml.routing.policies import ARM_PARAMETERS, POLICIES

    settings = load_settings()
    return read_experiments(
        file if file is not None else resolved(settings.experiments.path),
        datetime.now(UTC),
        policies=POLICIES,
        default_policy=settings.routing.default_policy,
        parameters=ARM_PARAMETERS,
        gateways=load_gateways(resolved(settings.gateways.path)),
    )


def _named(defined: ExperimentsDefined, name: str) -> Experiment:
    for each in defined.experiments:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in defined.experiments) or "none"
    raise click.UsageError(f"{defined.source} defines no experiment {name!r}; it defines {known}")


async def _seen(name: str) -> tuple[float | None, float | None]:
    """The control's rate and the units a day of a running experiment; None where nothing is known of it."""
    from config.errors import ConfigError
    from storage.errors import StoreError

    try:
        report = (await _story(name)).report
    except (CliError, ConfigError, StoreError):
        return None, None
    rate = next((arm.value for arm in report.arms if arm.arm == report.control), None)
    days = (report.reported_at - report.started_at).total_seconds() / 86_400 if report.started_at else 0
    per_day = report.units / days / max(report.coverage, 1e-9) if days > 0 else None
    return (rate if rate is not None and 0 < rate < 1 else None), per_day


async def _standing() -> Experiments:
    from cli.known_store import opened
    from storage.read_models.experiments import read_experiments

    async with opened(_store()) as database:
        return await read_experiments(database)


async def _story(name: str) -> ExperimentStory:
    from cli.known_store import opened
    from storage.read_models.experiment_report import read_story

    async with opened(_store()) as database:
        story = await read_story(database, name, datetime.now(UTC))
    if story is None:
        raise CliError(f"no experiment {name!r} was ever reported; `ipa experiment status` lists them")
    return story


def _store() -> Any:
    from cli.known_store import known_store

    store = known_store()
    if store is None:
        raise CliError("set IPA_MONGO_URL: the broker is named, but not the store that belongs to it")
    return store


async def _order(kind: Any, name: str, reason: str) -> None:
    """Say an operator's word at the head of the line, when the experiment is in force."""
    from cli.target import target_settings
    from messaging.card_data import refuse_card_data
    from messaging.codec import encode
    from messaging.connection import Connection
    from messaging.contracts import identity_of
    from messaging.line import Outgoing, declare_line, publish

    standing = await _standing()
    known = [each.report.experiment for each in standing.standings] + [each.name for each in standing.waiting]
    if name not in known:
        raise CliError(f"there is no experiment {name!r}; known are {', '.join(known) or 'none'}")
    order = kind(
        change_id=f"chg_{secrets.token_hex(8)}", experiment=name, at=datetime.now(UTC), who=getpass.getuser()[:60],
        reason=reason[:500],
    )  # fmt: skip
    refuse_card_data(encode(order))
    broker = target_settings().broker
    connection = await Connection.open(broker.url, name="ipa experiment", wait_s_max=min(broker.connect_wait_s_max, 5))
    try:
        channel = await connection.channel()
        await declare_line(channel)
        await publish(channel, [Outgoing.of(order, identity_of(order).replace(":", "."))])
    finally:
        await connection.close()
