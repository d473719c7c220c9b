"""``ipa codes``: what failure codes mean; confirm or correct one, or a whole file of them."""

from __future__ import annotations

import asyncio
import getpass
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from cli.known_store import with_store
from cli.tables import print_table

if TYPE_CHECKING:
    from ml.failures.corrections import Correction


@click.group()
def codes() -> None:
    """What the failure codes of the gateways mean: those nobody knows yet, the table, its history."""


@codes.command("open")
@click.option("--gateway", help="Only codes of this gateway.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
def list_open(gateway: str | None, limit: int) -> None:
    """List the codes that no table knows, with the model's guesses: to confirm or to correct."""
    from actors.pulse import utc_now
    from storage.read_models.failure_codes import read_open_codes

    found = with_store(lambda database, _: read_open_codes(database, utc_now(), gateway=gateway, limit=limit))
    table = Table("gateway", "code", "message", "failures", "first seen", "counts as", "sure", "best guesses")
    for code in found.codes:
        table.add_row(
            code.gateway,
            code.failure_code or "",
            (code.failure_message or "")[:60],
            str(code.failures),
            code.first_at.strftime("%Y-%m-%d %H:%M"),
            code.category,
            f"{code.confidence:.0%}",
            " or ".join(code.guesses),
        )
    console = Console(highlight=False)
    print_table(table, console)
    covered = f"{found.failures_from_tables} of {found.failures} failures since {found.since:%Y-%m-%d}"
    console.print(f"{covered} are in a table")


@codes.command("list")
@click.option("--gateway", help="Only codes of this gateway.")
def list_table(gateway: str | None) -> None:
    """List what operators have entered."""
    from storage.failure_codes import list_code_rows

    table = Table("gateway", "code", "message", "category", "version", "changed", "by", "reason")
    for row in with_store(lambda database, _: list_code_rows(database, gateway=gateway)):
        table.add_row(
            row.gateway,
            row.failure_code or "",
            (row.failure_message or "")[:60],
            row.category or "",
            str(row.version),
            row.changed_at.strftime("%Y-%m-%d %H:%M"),
            row.changed_by,
            row.reason,
        )
    print_table(table, Console(highlight=False))


@codes.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 500))
def history(limit: int) -> None:
    """List who changed what, newest first."""
    from storage.failure_codes import list_code_changes

    for change in with_store(lambda database, _: list_code_changes(database, limit=limit)):
        row = change.row
        said = repr(row.failure_code or row.failure_message)
        click.echo(
            f"{row.changed_at:%Y-%m-%d %H:%M:%S}  {row.changed_by}  {row.gateway} {said}: "
            f"{change.category_before or 'not listed'} -> {row.category or 'not listed'} (version {row.version}, "
            f"{change.reclassified} failures classified anew) {row.reason}"
        )


@codes.command()
@click.argument("gateway")
@click.argument("code")
@click.argument("category")
@click.option("--message", default="", help="What comes with the code; the text model learns from it.")
@click.option("--reason", required=True, help="Why; kept in the history and the audit log.")
def correct(gateway: str, code: str, category: str, message: str, reason: str) -> None:
    """Say that CODE of GATEWAY means CATEGORY; '-' as category takes it out of the table again."""
    from ml.failures.corrections import Correction
    from ml.failures.taxonomy import UNKNOWN, category_of

    if category != "-":
        try:
            category_of(category)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        if category == UNKNOWN:
            raise click.UsageError("say '-' to take a code out of the table")
    told = Correction(
        system=gateway, code=code, message=message, category=None if category == "-" else category, reason=reason
    )
    _send([told], "")
    click.echo("said; failures with this code are classified anew within seconds")


@codes.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--reason", default="", help="Why, for rows that give none.")
def import_file(file: Path, reason: str) -> None:
    """Take corrections from a CSV FILE with the columns system, code, message, category and, if wanted, reason.

    A file with a mistake is refused as a whole, with line and reason.
    """
    from ml.failures.corrections import CorrectionsRefused, read_corrections

    try:
        corrections = read_corrections(file.read_text(encoding="utf-8"), str(file))
    except UnicodeDecodeError:
        raise click.ClickException(f"{file}:1: this is no text in UTF-8; save it as UTF-8") from None
    except CorrectionsRefused as error:
        raise click.ClickException(f"nothing was taken\n{error}") from None
    _send(corrections, reason or f"imported from {file.name}")
    click.echo(f"{len(corrections)} corrections said; failures with these codes are classified anew within seconds")


def _send(corrections: list[Correction], reason: str) -> None:
    """Say corrections at the head of the line; card numbers are refused before anything leaves."""
    from actors.pulse import utc_now
    from cli.target import target_settings
    from messaging.card_data import refuse_card_data
    from messaging.connection import Connection
    from messaging.contracts import FailureCodeCorrected
    from messaging.line import Outgoing, declare_line, publish

    now, who = utc_now(), f"cli:{getpass.getuser()}"[:60]
    outgoing = []
    for told in corrections:
        event_id = f"cor_{secrets.token_hex(8)}"
        message = FailureCodeCorrected(
            event_id=event_id,
            corrected_at=now,
            corrected_by=who,
            gateway=told.system,
            category=told.category,
            failure_code=told.code or None,
            failure_message=told.message or None,
            reason=told.reason or reason,
        )
        outgoing.append(Outgoing.of(message, event_id))
        refuse_card_data(outgoing[-1].body, {}, ())

    async def work() -> None:
        settings = target_settings()
        connection = await Connection.open(settings.broker.url, name="ipa codes", wait_s_max=5)
        try:
            channel = await connection.channel()
            await declare_line(channel)
            await publish(channel, outgoing)
        finally:
            await connection.close()

    asyncio.run(work())
