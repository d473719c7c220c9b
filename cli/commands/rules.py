"""``ipa rules``: checks the routing rules, and shows what they say."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from cli.known_store import with_store

if TYPE_CHECKING:
    from config.settings import Settings
    from ml.routing.rules import RuleSet
    from storage.database import Database


@click.group()
def rules() -> None:
    """Check and show the routing rules; `ipa policy evaluate FILE` says what they would have changed."""


@rules.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True)
def check(file: Path | None, as_json: bool) -> None:
    """Check FILE, else the rules file of the settings; a mistake is named with its line.

    What may be meant but refuses payments is a warning.
    """
    from actors.router_wiring import gateway_terms
    from actors.routing_rules import read_with_doubts
    from config.settings import load_settings, resolved

    settings = load_settings()
    path = file if file is not None else resolved(settings.routing.rules_path)
    found, doubts = read_with_doubts(path, gateway_terms(settings))
    for doubt in doubts:
        click.echo(f"warning: {doubt}", err=True)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    click.echo(f"{found.version}: {len(found.rules)} rules, {len(found.commitments)} commitments, no mistake")
    for rule in found.rules:
        parts: dict[str, list[str] | dict[str, float]] = {
            "only": rule.only,
            "never": rule.never,
            "order": rule.order,
            "split": rule.split,
            "at least": rule.at_least,
        }
        said = "; ".join(f"{name} {_listed(what)}" for name, what in parts.items() if what)
        click.echo(f"  {rule.name}{'' if rule.enabled else ' (not enabled)'}: {said}")
    for each in found.commitments:
        click.echo(f"  {each.gateway} is promised {each.payments:,} payments per {each.per}")


@rules.command()
@click.argument("version")
def show(version: str) -> None:
    """Print the rules of a VERSION that is or was in force, as decisions and the audit log name it."""
    import yaml

    from config.errors import ConfigError
    from storage.routing_rules import rules_of

    async def work(database: Database, _: Settings) -> tuple[datetime, RuleSet] | None:
        return await rules_of(database, version)

    found = with_store(work)
    if found is None:
        raise ConfigError("VERSION", f"no rules of version {version!r} were ever in force; the audit log names them")
    at, its = found
    click.echo(f"# {version}, in force from {at:%Y-%m-%d %H:%M:%S} UTC")
    click.echo(yaml.safe_dump(msgspec.to_builtins(its), sort_keys=False, allow_unicode=True), nl=False)


def _listed(what: list[str] | dict[str, float]) -> str:
    if isinstance(what, dict):
        return ", ".join(f"{name} {share:.0%}" for name, share in what.items())
    return ", ".join(what)
