"""Failure insight: rates by any dimension, the Pareto of reasons, what became of orders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from msgspec import Meta

from storage.read_models.failure_counts import Dimension, InsightQuery
from storage.read_models.failure_insight import (
    FailureRates,
    OrdersInsight,
    Pareto,
    read_failure_rates,
    read_orders_insight,
    read_pareto,
)
from web.api.operation import Call, Operation, Params, Problem

Word = Annotated[str, Meta(min_length=1, max_length=60)]
Instant = Annotated[datetime, Meta(tz=True)]

HOURS_DEFAULT = 1
DAYS_MAX = 92


class InsightParams(Params, frozen=True, kw_only=True):
    """Which attempts; without times, those of the last hour."""

    since: Instant | None = None
    until: Instant | None = None
    gateway: Word | None = None
    method: Word | None = None
    issuer: Word | None = None
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")] | None = None


class RatesParams(InsightParams, frozen=True, kw_only=True):
    """Which attempts, and by what to split them."""

    by: Dimension = "category"


async def rates(call: Call, params: RatesParams) -> FailureRates:
    """Failure rates by one dimension with counts, amounts and 95 % intervals, against the period before.

    Of more than 40,000 attempts rates come from sums over time where these are kept by the dimension and the filters,
    and else from a sample spread evenly over the time; `basis` says which. Sums are of minutes, after two weeks of
    hours and after four months of days; a time that begins or ends within one is sampled if many attempts lie there.

    Where `sampled_share` (`sampled_share_before`) is less than 1, `failed` and `settled` are those of the sample, rates
    stand for all attempts, and no money is told. A sample whose attempts lie in too few of its 96 stretches, or come in
    bursts, has no rate; `why_not` says so.
    """
    return await read_failure_rates(call.database, _query(params), params.by)


async def pareto(call: Call, params: InsightParams) -> Pareto:
    """Reasons of failures by count and by amount, down to raw codes and a payment to look at.

    Of more than 60,000 failures a sample spread evenly over the time is counted; `sampled_share` says how much of it.
    Where they come in such bursts that no sample stands for all, there are no reasons, and `why_not` says so.
    """
    return await read_pareto(call.database, _query(params))


async def orders(call: Call, params: InsightParams) -> OrdersInsight:
    """Authorization by attempt, first attempt and order; money lost and recovered; what retries achieved; breaches.

    Orders are rebuilt from the newest 30,000 attempts at most; `complete` and `seen_since` say how far back that goes.
    """
    return await read_orders_insight(call.database, _query(params))


def _query(params: InsightParams) -> InsightQuery:
    until = params.until or datetime.now(UTC)
    since = params.since or until - timedelta(hours=HOURS_DEFAULT)
    if not timedelta(0) < until - since <= timedelta(days=DAYS_MAX):
        raise Problem(422, "Bad times", f"`since` must lie before `until`, by {DAYS_MAX} days at most.")
    return InsightQuery(
        since=since,
        until=until,
        gateway=params.gateway,
        method=params.method,
        issuer=params.issuer,
        country=params.country,
    )


# fmt: off
OPERATIONS = (
    Operation("GET", "/api/v1/failures/rates",  rates,  params=RatesParams,   answer=FailureRates,  problems=(422,),
              shared=True),
    Operation("GET", "/api/v1/failures/pareto", pareto, params=InsightParams, answer=Pareto,        problems=(422,),
              shared=True),
    Operation("GET", "/api/v1/failures/orders", orders, params=InsightParams, answer=OrdersInsight, problems=(422,),
              shared=True),
)
# fmt: on
