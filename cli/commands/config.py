"""``ipa config``: the settings in force."""

from __future__ import annotations

import click
import yaml

from config.settings import load_settings, masked


@click.command()
def config() -> None:
    """Show the settings in force, with every secret hidden."""
    click.echo(yaml.safe_dump(masked(load_settings()), sort_keys=False), nl=False)
