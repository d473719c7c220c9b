"""What routing earned and missed: regret, what exploring cost, and uplift, from decisions and what became of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from ml.experiments.design import CONTROL, HOLDOUT
from ml.routing.context import OVERRIDE, RULES
from ml.routing.hindsight.decided import DecidedPayment, Decider
from ml.routing.hindsight.report import Hindsight, hindsight
from storage.database import Database
from storage.experiments import last_allocations
from storage.read_models.logged_decisions import NOBODY, SETTLED, Joined, LeftOut, read_joined

DECISIONS_MAX: Final = 30_000
"""Decisions looked at, the newest; some three seconds of work."""

WANTED: Final = (
    "advice.ranking.gateway", "advice.ranking.propensity", "advice.ranking.expected_success", "advice.exploring",
    "advice.policy", "advice.experiment", "advice.arm", "advice.allocation_version", "decided_at", "request.order_id",
    "request.customer_id", "request.method", "request.issuer", "request.currency", "request.amount_minor",
    "request.attempt_number", "request.previous_failures",
)  # fmt: skip

DECIDERS: Final[Mapping[str, Decider]] = {OVERRIDE: "operator", RULES: "rule"}


class RoutingHindsight(msgspec.Struct, frozen=True, kw_only=True):
    """What routing earned and missed in a time.

    Attributes:
        since, until: the time asked for.
        seen_since: when the oldest decision looked at was made; None: there was none.
        as_of: when it was told.
        complete: False: there were more decisions than ``decisions_max``, and these are the newest.
        left_out: decisions that nothing is told of, by the reason.
    """

    since: datetime
    until: datetime
    seen_since: datetime | None
    as_of: datetime
    complete: bool
    decisions_max: int
    left_out: dict[str, int]
    found: Hindsight


async def read_hindsight(
    database: Database, since: datetime, until: datetime, now: datetime, *, limit: int = DECISIONS_MAX
) -> RoutingHindsight:
    """Read the decisions of a time with what became of their payments, and judge them.

    Late successes and reversals count as they stand now. This computes for seconds; pages ask for it from a process
    of its own.
    """
    by_customer = {
        allocation.version
        for allocation in await last_allocations(database)
        if allocation.holdout is not None and allocation.holdout.unit == "customer_id"
    }
    decisions: list[DecidedPayment] = []
    left_out = LeftOut()
    oldest: datetime | None = None

    def take(joined: Joined) -> None:
        nonlocal oldest
        oldest = joined.document["decided_at"]
        if joined.attempts:
            decisions.append(decided_of(joined, by_customer))
        else:
            left_out.count(joined.document, NOBODY)

    complete = await read_joined(database, since, until, WANTED, take, left_out, limit=limit)
    decisions.reverse()
    return RoutingHindsight(
        since=since,
        until=until,
        seen_since=oldest,
        as_of=now,
        complete=complete,
        decisions_max=limit,
        left_out=left_out.told(),
        found=hindsight(decisions),
    )


def decided_of(joined: Joined, by_customer: Collection[str] = ()) -> DecidedPayment:
    """Put a stored decision and the attempts of its order together.

    Args:
        joined: both.
        by_customer: versions of the allocations whose control slice is dealt by customer.
    """
    request, advice, there = joined.document["request"], joined.document["advice"], joined.made_there()
    ranking = advice["ranking"]
    return DecidedPayment(
        order_id=request["order_id"],
        customer_id=request.get("customer_id"),
        method=request["method"],
        issuer=request.get("issuer", "unknown"),
        currency=request["currency"],
        amount_minor=request["amount_minor"],
        gateways=tuple(ranked["gateway"] for ranked in ranking),
        propensities=tuple(ranked["propensity"] for ranked in ranking),
        expected=tuple(ranked["expected_success"] for ranked in ranking),
        gateway=ranking[0]["gateway"],
        exploring=bool(advice.get("exploring")),
        decider=DECIDERS.get(advice["policy"], "policy"),
        allocation=advice.get("allocation_version"),
        dealt=advice.get("allocation_version") not in by_customer or request.get("customer_id") is not None,
        control=(advice.get("experiment"), advice.get("arm")) == (HOLDOUT, CONTROL),
        followed=there is not None,
        succeeded=None if there is None else SETTLED.get(there["status"]),
        paid=paid(joined.attempts),
    )


def paid(attempts: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether an order was paid by any of its attempts; None: one of them may still succeed, and none has.

    >>> paid([{"status": "failed"}, {"status": "succeeded"}]), paid([{"status": "reversed"}])
    (True, False)
    >>> paid([{"status": "failed"}, {"status": "pending"}]) is None
    True
    """
    ends = [SETTLED.get(attempt["status"]) for attempt in attempts]
    if any(ends):
        return True
    return None if None in ends else False
