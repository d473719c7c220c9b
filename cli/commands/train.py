"""``ipa train``: fits a model to the stored history now; lists, promotes and takes back versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.table import Table

from cli.known_store import with_store
from cli.tables import print_table

if TYPE_CHECKING:
    from config.settings import Settings
    from storage.database import Database
    from storage.models import ModelVersion


class _ByName(click.Group):
    """A group whose unknown subcommands are names of models: `ipa train reliability`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take the first word for a model when it is no subcommand."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            return "now", self.commands["now"], args
        return super().resolve_command(ctx, args)


@click.group(cls=_ByName)
def train() -> None:
    """Train a model on the stored history now: `ipa train NAME`; or look at the versions and choose one."""


@train.command("now", hidden=True)
@click.argument("name")
@click.option("--hold", is_flag=True, help="Leave the new version a candidate, however good it is.")
def train_now(name: str, hold: bool) -> None:
    """Train the model NAME; it is put in force if it does better on later data than the one that is."""
    from actors.pulse import utc_now
    from actors.trainer import Training, jobs
    from actors.trainer import train as run

    async def work(database: Database, settings: Settings) -> Training:
        table = {job.kind: job for job in jobs(settings)}
        if name not in table:
            raise click.UsageError(f"{name!r} is no model; known: {', '.join(table) or 'none'}")
        return await run(table[name], database, settings, utc_now(), hold=hold)

    done = with_store(work)
    if done.version is None:
        raise click.ClickException(f"{name}: {done.summary}")
    standing = "in force now" if done.is_promoted else "a candidate, not in force"
    click.echo(f"{name} version {done.version.version} trained, {standing}: {done.summary}")
    for metric, value in done.version.metrics.items():
        click.echo(f"    {metric:<28} {value:.5g}")


@train.command("list")
@click.argument("name", required=False)
def list_versions(name: str | None) -> None:
    """List the versions of the model NAME, or of all."""
    from storage.models import list_models

    async def work(database: Database, _: Settings) -> list[ModelVersion]:
        return await list_models(database, name)

    found = with_store(work)
    if not found:
        click.echo("no model was trained yet")
        return
    table = Table("model", "version", "standing", "trained", "data from", "to", "on later data")
    for each in found:
        metrics = ", ".join(f"{metric} {value:.4g}" for metric, value in each.metrics.items())
        times = [time.strftime("%Y-%m-%d %H:%M") for time in (each.trained_at, each.window_from, each.window_to)]
        table.add_row(each.kind, str(each.version), each.status.replace("_", " "), *times, metrics)
    print_table(table)


@train.command("promote")
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--reason", required=True, help="Why; kept with the version.")
def promote_version(name: str, version: int, reason: str) -> None:
    """Put VERSION of the model NAME in force."""
    from actors.pulse import utc_now
    from storage.models import promote

    async def work(database: Database, _: Settings) -> ModelVersion:
        return await promote(database, name, version, reason=reason, now=utc_now())

    click.echo(f"{name} version {with_store(work).version} is in force")


@train.command("roll-back")
@click.argument("name")
@click.option("--reason", required=True, help="Why; kept with the version.")
def roll_back_version(name: str, reason: str) -> None:
    """Put the version of the model NAME in force again that served before the present one."""
    from actors.pulse import utc_now
    from storage.models import roll_back

    async def work(database: Database, _: Settings) -> ModelVersion:
        return await roll_back(database, name, reason=reason, now=utc_now())

    click.echo(f"{name} version {with_store(work).version} is in force again")
