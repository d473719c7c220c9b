"""What a routing policy would have achieved on the decisions that are stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from ml.routing.evaluation.candidate import DEFAULTS, Candidate, JudgedPolicy
from ml.routing.evaluation.evaluation import Evaluation, evaluate
from ml.routing.evaluation.money import Pricing
from ml.routing.policies import PolicySettings
from ml.routing.reliability import Reliability
from ml.routing.worth import Fees
from storage.database import Database
from storage.errors import StoreRefused
from storage.models import model_that_served
from storage.read_models.logged_decisions import DECISIONS_MAX, DecisionLog, read_decision_log
from storage.routing_rules import last_rules

MODEL: Final = "reliability"
NO_RULES_KNOWN: Final = "no router has written any to this store that can be read"


class JudgedLog(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate would have achieved, and what it was judged on.

    Attributes:
        since: decisions from this moment on were asked for.
        oldest: when the oldest one that was judged was made, which may be long after ``since`` where the log is not
            complete; None: none was.
        complete: False: there were more decisions than are looked at here, and these are the newest.
        left_out: how many decisions of the judged time were not judged, by the reason.
        reliability_version: of the model that the candidate had, which served when the decisions began; None: it had
            none, because none is known to have served then, or because of ``reliability_problem``.
        reliability_problem: why the model that served cannot be read, in words; None: nothing is wrong.
        rules_version: of the rules in force, where the candidate is under them; None: it is not, or ``rules_problem``.
        rules_problem: why it is under none although it asks for those in force; None: nothing is wrong.
        margin_share: what money is counted with, and the candidate too; None: money is not counted.
        by_rule: decisions that the candidate's rules touched, by what they did.
    """

    since: datetime
    complete: bool
    left_out: dict[str, int]
    evaluation: Evaluation
    oldest: datetime | None = None
    reliability_version: int | None = None
    reliability_problem: str | None = None
    rules_version: str | None = None
    rules_problem: str | None = None
    margin_share: float | None = None
    by_rule: dict[str, int] = {}


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate is judged with: what it would find in the router.

    Attributes:
        fees: by gateway.
        router: its settings; where the candidate names no ``margin_share``, money is counted with theirs, if any.
    """

    fees: Mapping[str, Fees]
    router: PolicySettings = DEFAULTS


class JudgedTime(msgspec.Struct, frozen=True, kw_only=True):
    """Which decisions are judged.

    Attributes:
        since: the start.
        until: the end; does not count itself.
        taught: so long before ``since`` decisions only teach the candidate.
    """

    since: datetime
    until: datetime
    taught: timedelta = timedelta()


async def judge_stored(
    database: Database, candidate: Candidate, books: Books, time: JudgedTime, *, limit: int = DECISIONS_MAX
) -> JudgedLog:
    """Judge a candidate on the decisions of a time.

    It has the reliability model that served when they began, because a later one would know the outcomes. Where it asks
    for the rules in force, it has those of now, which is what an operator would keep.

    Args:
        database: where they are.
        candidate: what is judged.
        books: fees, and settings of the router.
        time: of the decisions.
        limit: decisions read at most, the newest.
    Raises: CandidateRefused: there is no such policy or parameter, or a value does not fit.
    """
    JudgedPolicy(candidate, router=books.router)  # refuses what cannot be, before anything is read
    rules = await last_rules(database) if candidate.rules_in_force else None
    if rules is not None:
        candidate = msgspec.structs.replace(candidate, rules=rules.rules, rules_in_force=False)
    log = await read_decision_log(database, time.since - time.taught, time.until, counted_from=time.since, limit=limit)
    had = await _model_at(database, _begin(log, time.since))
    policy = JudgedPolicy(candidate, router=books.router, fees=books.fees, reliability=had.model)
    margin = policy.margin_share
    judge_from = time.since.timestamp()
    oldest = next((each.at for each in log.decisions if each.at >= judge_from and not each.by_operator), None)
    return JudgedLog(
        since=time.since,
        oldest=None if oldest is None else datetime.fromtimestamp(oldest, UTC),
        complete=log.complete,
        left_out=log.left_out,
        evaluation=evaluate(
            log.decisions,
            policy,
            judge_from=judge_from,
            pricing=Pricing(margin_share=margin, fees=books.fees) if margin else None,
        ),
        reliability_version=had.version,
        reliability_problem=had.problem,
        rules_version=None if rules is None else rules.version,
        rules_problem=NO_RULES_KNOWN if candidate.rules_in_force else None,
        margin_share=margin,
        by_rule=dict(sorted(policy.by_rule.items())),
    )


def _begin(log: DecisionLog, since: datetime) -> datetime:
    """When the judged decisions begin: later than asked for, where older ones were not read."""
    if log.complete or not log.decisions:
        return since
    return max(since, datetime.fromtimestamp(log.decisions[0].at, UTC))


class _Had(NamedTuple):
    """The reliability model that a candidate is judged with, or why it has none though one served."""

    model: Reliability | None = None
    version: int | None = None
    problem: str | None = None


async def _model_at(database: Database, at: datetime) -> _Had:
    """The model that served then; one that cannot be read is told, and stops nothing, as in a worker."""
    try:
        served = await model_that_served(database, MODEL, at)
        if served is None:
            return _Had()
        return _Had(Reliability.loaded(served.body, served.about.version), served.about.version)
    except (ValueError, StoreRefused) as error:
        return _Had(problem=str(error))
