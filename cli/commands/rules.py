"""``ipa rules``: checks the routing rules, and shows what they say."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec


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


def _listed(what: list[str] | dict[str, float]) -> str:
    if isinstance(what, dict):
        return ", ".join(f"{name} {share:.0%}" for name, share in what.items())
    return ", ".join(what)
