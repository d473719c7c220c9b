"""``ipa policy``: what another routing policy would have achieved on the decisions that are stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.table import Table

from cli.ages import AGE
from cli.known_store import with_store
from cli.tables import print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.settings import Settings
    from ml.experiments.intervals import Interval
    from ml.routing.eligibility import GatewayTerms
    from ml.routing.evaluation.candidate import Candidate
    from ml.routing.evaluation.estimators import Estimates, Refused
    from ml.routing.evaluation.evaluation import Evaluation
    from ml.routing.policies import PolicySettings
    from storage.database import Database
    from storage.read_models.judged_policy import JudgedLog


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
    from actors.router_wiring import gateway_terms
    from config.settings import load_settings
    from ml.routing.evaluation.estimators import Refused
    from ml.routing.policies import PolicySettings
    from storage.read_models.judged_policy import Books, JudgedTime, judge_stored

    settings = load_settings()
    terms = gateway_terms(settings)
    router = msgspec.convert(settings.routing, PolicySettings, from_attributes=True)
    candidate = _read(file, terms, router)
    books = Books(fees={name: each.fees for name, each in terms.items()}, router=router)
    now = datetime.now(UTC)
    time = JudgedTime(since=now - since, until=now, taught=taught)

    async def work(database: Database, _: Settings) -> JudgedLog:
        return await judge_stored(database, candidate, books, time)

    found = with_store(work)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        _show(found)
    if isinstance(found.evaluation.result, Refused):
        raise SystemExit(3)


def _read(file: Path, gateways: Mapping[str, GatewayTerms], router: PolicySettings) -> Candidate:
    """Read a candidate file.

    Raises: ConfigError: it does not fit; says line, mistake and remedy.
    """
    from actors.routing_rules import check_rules
    from config.yaml_source import YamlSource
    from ml.routing.evaluation.candidate import Candidate, CandidateRefused, JudgedPolicy
    from ml.routing.rules import RuleSet

    source = YamlSource(file)
    candidate = source.as_type(Candidate)
    check_rules(source, RuleSet(rules=candidate.rules, commitments=candidate.commitments), gateways)
    try:
        JudgedPolicy(candidate, router=router, gateways=gateways)
    except CandidateRefused as refused:
        raise source.error(refused.place, str(refused)) from None
    return candidate


def _show(judged: JudgedLog) -> None:
    from ml.routing.evaluation.estimators import Refused

    found, result = judged.evaluation, judged.evaluation.result
    worth = f"{result.effective:,.0f} of the candidate's own"
    click.echo(f"{result.decisions:,} decisions with a known outcome, worth {worth}")
    click.echo(f"  {_model_of(judged)}")
    if judged.rules_version is not None:
        click.echo(f"  judged under the rules in force, {judged.rules_version}")
    if judged.rules_problem is not None:
        click.echo(f"  judged without rules, because those in force are not known: {judged.rules_problem}")
    for why, count in judged.left_out.items():
        click.echo(f"  left out: {count:,} ({why})")
    if not judged.complete:
        begin = "" if judged.oldest is None else f", from {judged.oldest:%Y-%m-%d %H:%M} UTC on"
        click.echo(f"  there were more decisions than are read, and these are the newest{begin}")
    if found.refused:
        click.echo(f"  {found.refused:,} would have had no gateway, and are in none of the figures")
    if found.unknown:
        click.echo(f"  {found.unknown:,} more are pending or were abandoned")
    for what, count in judged.by_rule.items():
        click.echo(f"  by the rules {what}: {count:,} decisions")
    if isinstance(result, Refused):
        click.echo(f"no answer: {result.why}")
    table = Table("payments", "decisions", "effective", "candidate", "gain, points", "IPS", "doubly robust", "observed")
    table.add_row("all", *_cells(result))
    for part in found.segments:
        table.add_row(f"{part.kind} {part.value}", *_cells(part.result))
    print_table(table)
    if judged.margin_share is not None:
        _show_money(found, judged.margin_share)
    if found.if_unknown is not None and found.unknown:
        low, high = found.if_unknown.low, found.if_unknown.high
        click.echo(f"with the unknown outcomes: {low:.2%} if all had failed, {high:.2%} if all had succeeded")
    first = ", ".join(f"{name} {share:.1%}" for name, share in found.first_choices.items())
    before = ", ".join(f"{name} {share:.1%}" for name, share in found.logged_choices.items())
    click.echo(f"first choices of the candidate: {first}; as it was: {before}")


def _model_of(judged: JudgedLog) -> str:
    """Which reliability model the candidate had, or why it had none."""
    if judged.reliability_problem is not None:
        return (
            "judged without a reliability model: the one that served when this time began cannot be read "
            f"({judged.reliability_problem})"
        )
    if judged.reliability_version is None:
        return "judged without a reliability model: no version is known to have served when this time began"
    return f"judged with reliability model {judged.reliability_version}, which served when this time began"


def _show_money(found: Evaluation, margin_share: float) -> None:
    from ml.routing.evaluation.estimators import Refused
    from web.rendering import money

    def cell(interval: Interval, currency: str) -> str:
        middle, low, high = (money(1_000 * end, currency) for end in (interval.estimate, interval.low, interval.high))
        return f"{middle} ({low} to {high})"

    table = Table(
        "currency", "decisions", "effective", "candidate", "gain", "observed",
        title=f"value of 1,000 payments: {margin_share:.1%} of what is paid, less fees",
    )  # fmt: skip
    for part in found.money:
        result = part.result
        size = [part.currency, f"{result.decisions:,}", f"{result.effective:,.0f}"]
        if isinstance(result, Refused):
            table.add_row(*size, "no answer", "", "")
        else:
            told = (result.candidate, result.gain, result.observed)
            table.add_row(*size, *(cell(each, part.currency) for each in told))
    print_table(table)
    for part in found.money:
        if isinstance(part.result, Refused):
            click.echo(f"no answer in {part.currency}: {part.result.why}")
    if found.currencies_left_out:
        click.echo(f"currencies left out, with fewer payments than these: {found.currencies_left_out}")


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
