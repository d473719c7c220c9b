"""What a routing policy would have achieved on the decisions that are stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ml.routing.evaluation.candidate import Candidate, JudgedPolicy
from ml.routing.evaluation.evaluation import Evaluation, evaluate
from ml.routing.evaluation.money import Pricing
from ml.routing.reliability import Reliability
from ml.routing.worth import Fees
from storage.database import Database
from storage.models import model_that_served
from storage.read_models.logged_decisions import DECISIONS_MAX, read_decision_log

MODEL: Final = "reliability"


class JudgedLog(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate would have achieved, and what it was judged on.

    Attributes:
        since: decisions from this moment on were judged.
        complete: False: there were more decisions than are looked at here, and these are the newest.
        left_out: how many decisions were not judged, by the reason.
        reliability_version: of the model that the candidate had, which served at ``since``; None: none did.
        margin_share: what money is counted with; None: it is not.
        by_rule: decisions that the candidate's rules touched, by what they did.
    """

    since: datetime
    complete: bool
    left_out: dict[str, int]
    evaluation: Evaluation
    reliability_version: int | None = None
    margin_share: float | None = None
    by_rule: dict[str, int] = {}


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """What money is counted with.

    Attributes:
        fees: by gateway.
        margin_share: of the amount that a success earns before fees, unless the candidate says another; None: money is
            not counted.
    """

    fees: Mapping[str, Fees]
    margin_share: float | None = None


async def judge_stored(
    database: Database,
    candidate: Candidate,
    books: Books,
    *,
    since: datetime,
    until: datetime,
    taught: timedelta,
    limit: int = DECISIONS_MAX,
) -> JudgedLog:
    """Judge a candidate on the decisions of a time.

    Args:
        database: where they are.
        candidate: what is judged.
        books: fees and margin.
        since: the start; the candidate has the reliability model that served then, because a later one would know the
            outcomes.
        until: the end; does not count itself.
        taught: so long before ``since`` decisions only teach the candidate.
        limit: decisions read at most, the newest.
    Raises: CandidateRefused: there is no such policy or parameter, or a value does not fit.
    """
    served = await model_that_served(database, MODEL, since)
    model = Reliability.loaded(served.body, served.about.version) if served else None
    policy = JudgedPolicy(candidate, fees=books.fees, reliability=model)
    margin = policy.margin_share or books.margin_share
    pricing = Pricing(margin_share=margin, fees=books.fees) if margin else None
    log = await read_decision_log(database, since - taught, until, limit=limit)
    return JudgedLog(
        since=since,
        complete=log.complete,
        left_out=log.left_out,
        evaluation=evaluate(log.decisions, policy, judge_from=since.timestamp(), pricing=pricing),
        reliability_version=served.about.version if served else None,
        margin_share=margin,
        by_rule=dict(sorted(policy.by_rule.items())),
    )
