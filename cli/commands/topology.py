"""``ipa topology``: the line, as a table."""

from __future__ import annotations

import json

import click
from rich.table import Table

from cli.tables import print_table
from messaging.asyncapi import asyncapi_yaml
from messaging.topology import describe


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON instead of a table.")
@click.option("--asyncapi", is_flag=True, help="The AsyncAPI description of every message, as in asyncapi.yaml.")
def topology(as_json: bool, asyncapi: bool) -> None:
    """Show the line: each queue, what it hears, and what its worker says."""
    if asyncapi:
        click.echo(asyncapi_yaml(), nl=False)
        return
    rows = describe()
    if as_json:
        click.echo(
            json.dumps([{"queue": queue, "hears": hears.split(), "says": says.split()} for queue, hears, says in rows])
        )
        return
    table = Table("queue", "hears", "says")
    for queue, hears, says in rows:
        table.add_row(queue, hears.replace(" ", "\n"), says.replace(" ", "\n"), end_section=True)
    print_table(table)
