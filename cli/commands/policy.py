"""``ipa policy``: what another routing policy would have achieved on the decisions that are stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.table import Table

from cli.ages import AGE
from cli.known_store import with_store

if TYPE_CHECKING:
    from config.settings import Settings
    from ml.experiments.intervals import Interval
    from ml.routing.evaluation.candidate import JudgedPolicy
    from ml.routing.evaluation.estimators import Estimates, Refused
    from ml.routing.evaluation.evaluation import Evaluation
    from storage.database import Database
    from storage.read_models.logged_decisions import DecisionLog


@click.group()
def policy() -> None:
    """Judge routing policies on what is stored."""


@policy.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--since", type=AGE, default="7d", show_default=True, help="How far to look back: 12h, 7d.")
@click.option("--taught", type=AGE, default="1d", show_default=True, help="How long before that it may only learn.")
@click.option("--json", "as_json", is_flag=True)
def evaluate(file: Path, since: timedelta, taught: timedelta, as_json: bool) -> None:
    """Say what the policy or the routing rules in FILE would have achieved on the decisions of the last days.

    Exit code 3: there is no answer, because the stored decisions say too little about it; the words say what is
    missing.
    """
    from ml.routing.evaluation.estimators import Refused
    from ml.routing.evaluation.evaluation import evaluate as judge
    from storage.read_models.logged_decisions import read_decision_log

    candidate = _read(file)
    now = datetime.now(UTC)
    began = now - since

    async def work(database: Database, _: Settings) -> DecisionLog:
        return await read_decision_log(database, began - taught, now)

    log = with_store(work)
    found = judge(log.decisions, candidate, judge_from=began.timestamp())
    if as_json:
        said = {"evaluation": found, "left_out": log.left_out, "complete": log.complete, "by_rule": candidate.by_rule}
        click.echo(msgspec.json.encode(said).decode())
    else:
        _show(found, log)
        for what, count in sorted(candidate.by_rule.items()):
            click.echo(f"  by the rules {what}: {count:,} decisions")
    if isinstance(found.result, Refused):
        raise SystemExit(3)


def _read(file: Path) -> JudgedPolicy:
    """Read a candidate file.

    Raises: ConfigError: it does not fit; says line, mistake and remedy.
    """
    from actors.router_wiring import gateway_terms
    from actors.routing_rules import check_rules
    from config.settings import load_settings
    from config.yaml_source import YamlSource
    from ml.routing.evaluation.candidate import Candidate, CandidateRefused, JudgedPolicy
    from ml.routing.rules import RuleSet

    source = YamlSource(file)
    candidate = source.as_type(Candidate)
    check_rules(
        source, RuleSet(rules=candidate.rules, commitments=candidate.commitments), gateway_terms(load_settings())
    )
    try:
        return JudgedPolicy(candidate)
    except CandidateRefused as refused:
        raise source.error(refused.place, str(refused)) from None


def _show(found: Evaluation, log: DecisionLog) -> None:
    from ml.routing.evaluation.estimators import Refused

    result = found.result
    worth = f"{result.effective:,.0f} of the candidate's own"
    click.echo(f"{result.decisions:,} decisions with a known outcome, worth {worth}")
    for why, count in log.left_out.items():
        click.echo(f"  left out: {count:,} ({why})")
    if not log.complete:
        click.echo(f"  only the newest {len(log.decisions):,} decisions were read")
    if found.refused:
        click.echo(f"  {found.refused:,} would have had no gateway, and are in none of the figures")
    if found.unknown:
        click.echo(f"  {found.unknown:,} more are pending or were abandoned")
    if isinstance(result, Refused):
        click.echo(f"no answer: {result.why}")
    table = Table("payments", "decisions", "effective", "candidate", "gain, points", "IPS", "doubly robust", "observed")
    table.add_row("all", *_cells(result))
    for part in found.segments:
        table.add_row(f"{part.kind} {part.value}", *_cells(part.result))
    Console().print(table)
    if found.if_unknown is not None and found.unknown:
        low, high = found.if_unknown.low, found.if_unknown.high
        click.echo(f"with the unknown outcomes: {low:.2%} if all had failed, {high:.2%} if all had succeeded")
    first = ", ".join(f"{name} {share:.1%}" for name, share in found.first_choices.items())
    before = ", ".join(f"{name} {share:.1%}" for name, share in found.logged_choices.items())
    click.echo(f"first choices of the candidate: {first}; as it was: {before}")


def _cells(result: Estimates | Refused) -> list[str]:
    from ml.routing.evaluation.estimators import Refused

    size = [f"{result.decisions:,}", f"{result.effective:,.0f}"]
    if isinstance(result, Refused):
        return [*size, "no answer", "", "", "", ""]
    gain = result.gain
    points = f"{100 * gain.estimate:+.2f} ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
    rest = [_share(each) for each in (result.ips, result.doubly_robust, result.observed)]
    return [*size, _share(result.snips), points, *rest]


def _share(interval: Interval) -> str:
    return f"{interval.estimate:.2%} ({interval.low:.2%} to {interval.high:.2%})"
