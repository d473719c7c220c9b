"""``ipa doctor``: what was found, what is missing, and how to get it."""

from __future__ import annotations

import os
import sys

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from cli.errors import EXIT_UNAVAILABLE

MARKS = {"found": "[green]✓[/]", "missing": "[red]✗[/]", "absent": "[dim]–[/]"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON instead of a table.")
def doctor(as_json: bool) -> None:
    """Say what was found, what is missing and how to get it. Exit code 0: the demo can run; 69: it cannot."""
    from cli.doctor import diagnose

    diagnosis = diagnose(os.environ)
    if as_json:
        facts = msgspec.to_builtins(diagnosis) | {"demo_can_run": diagnosis.demo_can_run}
        click.echo(msgspec.json.encode(facts).decode())
        sys.exit(0 if diagnosis.demo_can_run else EXIT_UNAVAILABLE)
    console = Console(highlight=False)
    for finding in diagnosis.findings:
        _line(
            console,
            f"{MARKS[finding.state]} {finding.name:18} {escape(finding.detail)}  [dim]({escape(finding.use)})[/]",
        )
        for command in finding.commands:
            _line(console, f"  {'':18} how to get it: [bold]{escape(command)}[/]")
    _line(
        console, "\nWhat the demo would use: a URL in the environment, else a private node, else docker compose, else:"
    )
    for choice in diagnosis.choices:
        mark = MARKS["found" if choice.rung in {"url", "private"} else "missing"]
        _line(console, f"{mark} {choice.service:18} {escape(choice.reason)}")
    _line(console, "\nThe demo can run: make demo" if diagnosis.demo_can_run else "\nThe demo cannot run yet.")
    sys.exit(0 if diagnosis.demo_can_run else EXIT_UNAVAILABLE)


def _line(console: Console, text: str) -> None:
    """Print one line; paths and commands are never broken in two."""
    console.print(text, soft_wrap=True)
