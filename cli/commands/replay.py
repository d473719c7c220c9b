"""``ipa replay``: recorded payments through the same door as a checkout's."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.errors import EXIT_DATA, InputRefused

if TYPE_CHECKING:
    from simulator.replay import ReplayCounts


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--mapping", required=True, type=click.Path(path_type=Path, dir_okay=False), help="What the columns mean (YAML)."
)
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), help="Recorded seconds per second; default: all at once."
)
@click.option("--limit", type=click.IntRange(min=1), help="Read so many rows at most.")
def replay(file: Path, mapping: Path, speed: float | None, limit: int | None) -> None:
    """Send the attempts in FILE, a CSV, plain or .gz.

    They go to the system at IPA_AMQP_URL, else to the demo that runs in this directory. Rows that do not fit are listed
    and counted. Replaying the same file again counts nothing twice. Exit code 0: every row was sent; 65: some were
    refused.
    """
    from simulator.replay import ReplayFileError

    try:
        refused = asyncio.run(_replay(file, mapping, speed, limit))
    except ReplayFileError as error:
        raise InputRefused(str(error)) from None
    except KeyboardInterrupt:
        raise click.Abort from None
    sys.exit(EXIT_DATA if refused else 0)


async def _replay(file: Path, mapping: Path, speed: float | None, limit: int | None) -> int:
    from cli.target import target_settings
    from config.gateways import load_gateways
    from config.settings import resolved
    from messaging.client import RoutingClient
    from simulator.replay import examine, read_attempts
    from simulator.replay import replay as send
    from simulator.replay_mapping import load_mapping

    settings = target_settings()
    known = load_mapping(mapping)
    gateways = load_gateways(resolved(settings.gateways.path))
    examined = examine(file)
    rows = read_attempts(examined, known, gateways)
    console = Console(highlight=False)
    client = await RoutingClient.connect(settings.broker.url, fallback=list(gateways), name="ipa replay")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            total = min(filter(None, (limit, max(examined.lines - 1, 1))))
            task = progress.add_task(escape(file.name), total=total, rate="")

            def show(counts: ReplayCounts) -> None:
                progress.update(task, completed=counts.sent + counts.refused)

            counts = await send(client, rows, speed=speed, limit=limit, on_progress=show)
            progress.update(task, total=counts.rows, rate=f"{counts.rows / max(counts.seconds, 1e-9):,.0f} rows/s")
    finally:
        await client.close()
    _print_summary(console, counts)
    return counts.refused


def _print_summary(console: Console, counts: ReplayCounts) -> None:
    console.print(f"{counts.sent:,} of {counts.rows:,} rows sent and confirmed in {counts.seconds:.1f} s")
    if not counts.refused:
        return
    console.print(f"{counts.refused:,} rows refused:")
    for refusal in counts.refusals:
        column = f", column {refusal.column!r}" if refusal.column else ""
        console.print(f"    row {refusal.row}{column}: {refusal.reason}", markup=False, soft_wrap=True)
    if counts.refused > len(counts.refusals):
        console.print(f"    … and {counts.refused - len(counts.refusals):,} more")
