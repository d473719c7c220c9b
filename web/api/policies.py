"""Off-policy evaluation: what another routing policy would have achieved on the decisions that are stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from msgspec import Meta, field

from ml.routing.evaluation.candidate import Candidate, CandidateRefused, Parameter
from storage.read_models.judged_policy import JudgedLog
from web.api.operation import Call, Operation, Params, Problem
from web.evaluating import Busy
from web.keys import EVALUATOR

BUSY = "Another policy is being judged; that takes some seconds. Ask again then."


class PolicyParams(Params, frozen=True, kw_only=True):
    """Which policy, over how many days, and for ``fixed_order`` which gateways in which order.

    ``margin_share``: counts instead of ``routing.margin_share``. With either, money is counted, and ``adaptive`` ranks
    by value. ``rules_in_force``: the policy is under the rules that routers have in force now.
    """

    policy: Annotated[str, Meta(min_length=1, max_length=40)]
    order: Annotated[list[Annotated[str, Meta(min_length=1, max_length=60)]], Meta(max_length=50)] = field(
        default_factory=list
    )
    days: Annotated[int, Meta(ge=1, le=31)] = 7
    margin_share: Annotated[float, Meta(gt=0, le=1)] | None = None
    rules_in_force: bool = False


def candidate_of(
    policy: str, order: list[str], margin_share: float | None, *, rules_in_force: bool = False
) -> Candidate:
    """A policy with what was said of it."""
    said: dict[str, Parameter] = {}
    if order:
        said["order"] = [*order]
    if margin_share is not None:
        said["margin_share"] = margin_share
    return Candidate(policy=policy, parameters=said, rules_in_force=rules_in_force)


async def judged(call: Call, params: PolicyParams) -> JudgedLog:
    """What a policy would have achieved on the newest decisions, with intervals, or why nobody can say."""
    now = datetime.now(UTC)
    candidate = candidate_of(params.policy, params.order, params.margin_share, rules_in_force=params.rules_in_force)
    try:
        return await call.app[EVALUATOR].judge(candidate, now - timedelta(days=params.days), now)
    except CandidateRefused as refused:
        if refused.place == "$.parameters.order":
            raise Problem(400, "Bad order", "`order` names configured gateways, and `fixed_order` needs it.") from None
        raise Problem(400, "Bad parameter", f"The candidate does not fit at {refused.place}; see the docs.") from None
    except Busy:
        raise Problem(409, "Under way", BUSY) from None


OPERATIONS = (
    Operation("GET", "/api/v1/policy-evaluation", judged, params=PolicyParams, answer=JudgedLog, problems=(400, 409)),
)
