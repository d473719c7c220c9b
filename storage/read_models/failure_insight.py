"""Why payments fail, in figures: rates by any dimension against the period before, reasons, orders and money."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from datetime import datetime
from typing import Final

import msgspec

from ml.experiments.intervals import Interval, Proportion, wilson_interval
from ml.failures.insight import (
    Authorization,
    Breach,
    MoneyOutcome,
    Recovery,
    SeenAttempt,
    authorization,
    breaches,
    cumulative,
    money_outcomes,
    recoveries,
)
from ml.failures.taxonomy import UNKNOWN
from ml.lack import TooFewData
from storage.database import Database, Document
from storage.errors import translated
from storage.read_models.failure_counts import Basis, Counts, Dimension, InsightQuery, aggregated, read_counts
from storage.read_models.measures import QUERY_MS_MAX, Money
from storage.read_models.time_sample import Size, TimeSample, sample_of

ROWS_MAX: Final = 200
ATTEMPTS_READ_MAX: Final = 30_000
"""Single attempts that orders are rebuilt from at most, the newest first; an answer says when that cut it short."""

FAILURES_READ_MAX: Final = 60_000
"""Single failures whose reasons are counted; of more, those in stretches spread over the time."""

BREACHES_MAX: Final = 200
CODES_PER_CATEGORY: Final = 10

NONE_SETTLED: Final = "not enough data yet: no attempt has settled"
TOO_FEW_STRETCHES: Final = "not enough data yet: a sample with attempts in {} stretches of like size, {} are needed"
UNEVEN: Final = "not enough data yet: so many came in so short a time that a sample would hold all of those or none"


class FailureShare(msgspec.Struct, frozen=True, kw_only=True):
    """Failed of settled attempts, with its 95 % interval; without a rate ``why_not`` says what is missing."""

    failed: int
    settled: int
    rate: float | None
    low: float | None
    high: float | None
    why_not: str | None = None


class DimensionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One value of the dimension. ``difference``: the rate less that of the period before; None: one is unknown."""

    key: str
    now: FailureShare
    before: FailureShare
    difference: float | None
    amounts_failed: list[Money]


class FailureRates(msgspec.Struct, frozen=True, kw_only=True):
    """Failure rates by one dimension, the most failures first.

    ``basis``: ``attempts``: all were counted; ``sums``: all were counted, most of them in sums over time, and money is
    told where these hold it; ``sample``: at least one of the two periods was sampled.

    ``sampled_share`` and ``sampled_share_before``: of the time from the first to the last attempt of the period, what
    was looked at. 1: all of it. Less: ``failed`` and ``settled`` are those of attempts in short stretches spread evenly
    over that time, rates stand for all, intervals are as much wider as the stretches differ, and money is not told.
    """

    query: InsightQuery
    dimension: str
    basis: Basis
    sampled_share: float
    sampled_share_before: float
    total: FailureShare
    total_before: FailureShare
    rows: list[DimensionRow]


class CodeShare(msgspec.Struct, frozen=True, kw_only=True):
    """One raw code of a category, with one payment to look at."""

    gateway: str
    failure_code: str | None
    failure_message: str | None
    failures: int
    attempt_id: str


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One reason in the Pareto: its share, and the share that it and all more frequent ones make up."""

    category: str
    failures: int
    share: float
    share_cumulative: float
    amounts: list[Money]
    codes: list[CodeShare]


class Pareto(msgspec.Struct, frozen=True, kw_only=True):
    """Reasons, the most frequent first; ``by_amount`` orders them by money instead, one list for each currency.

    ``sampled_share``: 1: all failures were counted; less: counts and money are those of failures in short stretches,
    spread evenly over the time from the first to the last failure, that cover this share of it. Where these cannot
    stand for all there are no reasons, and ``why_not`` says why.
    """

    query: InsightQuery
    sampled_share: float
    why_not: str | None
    failures: int
    reasons: list[Reason]
    by_amount: dict[str, list[tuple[str, int, float]]]


class OrdersInsight(msgspec.Struct, frozen=True, kw_only=True):
    """What became of orders.

    ``complete`` is false where more attempts lie in the time than were read: then they are the newest, from
    ``seen_since`` on.
    """

    query: InsightQuery
    seen_since: datetime | None
    attempts_read: int
    complete: bool
    authorization: Authorization
    soft: FailureShare
    money: list[MoneyOutcome]
    recovery: list[Recovery]
    breaches: list[Breach]
    breaches_found: int


def failure_share(failed: int, settled: int) -> FailureShare:
    """A failure rate of attempts that were all counted, with its Wilson interval."""
    return _share(failed, settled, wilson_interval(Proportion(failed, settled)))


def _share_of(counts: Counts, key: str | None = None) -> FailureShare:
    """The failure rate of a key, or of all."""
    failed, settled = counts.failed_of(key), counts.settled_of(key)
    if settled and counts.sample is not None and not counts.sample.is_even:
        return FailureShare(failed=failed, settled=settled, rate=None, low=None, high=None, why_not=UNEVEN)
    return _share(failed, settled, counts.interval_of(key))


def _share(failed: int, settled: int, interval: Interval | TooFewData) -> FailureShare:
    if isinstance(interval, Interval):
        rate = interval.estimate
        return FailureShare(failed=failed, settled=settled, rate=rate, low=interval.low, high=interval.high)
    why_not = NONE_SETTLED
    if settled:
        why_not = TOO_FEW_STRETCHES.format(interval.seen, interval.needed)
    return FailureShare(failed=failed, settled=settled, rate=None, low=None, high=None, why_not=why_not)


async def read_failure_rates(database: Database, query: InsightQuery, dimension: Dimension) -> FailureRates:
    """Failure rates by one dimension, against the period before.

    By category every rate is out of all settled attempts; by any other dimension out of those with that value.
    """
    basis, now, before = await read_counts(database, query, dimension)
    keys = sorted(now.failed, key=lambda key: (-now.failed[key], key))
    keys += sorted(key for key in now.settled if key not in now.failed)
    rows = []
    for key in keys[:ROWS_MAX]:
        mine, earlier = _share_of(now, key), _share_of(before, key)
        known = mine.rate is not None and earlier.rate is not None
        rows.append(
            DimensionRow(
                key=key,
                now=mine,
                before=earlier,
                difference=mine.rate - earlier.rate if known else None,  # type: ignore[operator]
                amounts_failed=_money(now.amounts[key]),
            )
        )
    return FailureRates(
        query=query,
        dimension=dimension,
        basis=basis,
        sampled_share=_sampled_share(now.sample),
        sampled_share_before=_sampled_share(before.sample),
        total=_share_of(now),
        total_before=_share_of(before),
        rows=rows,
    )


async def read_pareto(database: Database, query: InsightQuery) -> Pareto:
    """The reasons of failures by count and by amount, each with its raw codes and a payment to look at."""
    sample = await sample_of(database, "failures", query.since, query.until, Size(FAILURES_READ_MAX))
    if sample is not None and not sample.is_even:
        return Pareto(query=query, sampled_share=0.0, why_not=UNEVEN, failures=0, reasons=[], by_amount={})
    match = query.match() if sample is None else sample.match() | query.chosen()
    pipeline: list[Document] = [
        {"$match": match | {"withdrawn": False}},
        {"$sort": {"attempted_at": -1}},
        {
            "$group": {
                "_id": {"category": "$category", "key": "$code_key", "currency": "$currency"},
                "n": {"$sum": 1},
                "amount": {"$sum": "$amount_minor"},
                "last": {"$first": "$_id"},
            }
        },
    ]
    groups = await aggregated(database, "failures", pipeline)
    with translated():
        found = database["failures"].find({"_id": {"$in": [group["last"] for group in groups]}})
        examples = {document["_id"]: document async for document in found}
    counts: Counter[str] = Counter()
    amounts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    codes: defaultdict[str, dict[str, CodeShare]] = defaultdict(dict)
    for group in groups:
        category, last = group["_id"]["category"], examples[group["last"]]
        counts[category] += group["n"]
        amounts[category][group["_id"]["currency"]] += group["amount"]
        key = str(group["_id"].get("key"))
        more = codes[category][key].failures if key in codes[category] else 0
        codes[category][key] = CodeShare(
            gateway=last["gateway"],
            failure_code=last.get("failure_code"),
            failure_message=last.get("failure_message"),
            failures=group["n"] + more,
            attempt_id=last["_id"],
        )
    reasons = [
        Reason(
            category=category,
            failures=count,
            share=count / counts.total(),
            share_cumulative=so_far,
            amounts=_money(amounts[category]),
            codes=sorted(codes[category].values(), key=lambda code: -code.failures)[:CODES_PER_CATEGORY],
        )
        for category, count, so_far in cumulative(counts)
    ]
    currencies = {currency for by_currency in amounts.values() for currency in by_currency}
    by_amount = {
        currency: cumulative({category: mine[currency] for category, mine in amounts.items() if mine[currency]})
        for currency in sorted(currencies)
    }
    return Pareto(
        query=query,
        sampled_share=_sampled_share(sample),
        why_not=None,
        failures=counts.total(),
        reasons=reasons,
        by_amount=by_amount,
    )


async def read_orders_insight(database: Database, query: InsightQuery) -> OrdersInsight:
    """Authorization in three ways, money lost and recovered, what trying again achieved, and rules broken."""
    fields = dict.fromkeys(SeenAttempt.__struct_fields__, True) | {"attempted_at": True}
    with translated():
        cursor = database["attempts"].find(query.match(), fields).sort([("attempted_at", -1), ("_id", -1)])
        documents = await cursor.limit(ATTEMPTS_READ_MAX + 1).max_time_ms(QUERY_MS_MAX).to_list()
        failed = [document["_id"] for document in documents if document["status"] == "failed"]
        verdicts = {}
        async for verdict in database["failures"].find(
            {"_id": {"$in": failed}, "withdrawn": False}, {"category": True, "hardness": True, "retry": True}
        ):
            verdicts[verdict["_id"]] = verdict
    complete = len(documents) <= ATTEMPTS_READ_MAX
    seen = [_seen(document, verdicts.get(document["_id"], {})) for document in documents[:ATTEMPTS_READ_MAX]]
    broken = await asyncio.to_thread(breaches, seen)
    failures = [each for each in seen if each.status == "failed"]
    return OrdersInsight(
        query=query,
        seen_since=min((each.at for each in seen), default=None),
        attempts_read=len(seen),
        complete=complete,
        authorization=authorization(seen),
        soft=failure_share(sum(each.hardness == "soft" for each in failures), len(failures)),
        money=money_outcomes(seen),
        recovery=recoveries(seen)[:ROWS_MAX],
        breaches=broken[-BREACHES_MAX:][::-1],
        breaches_found=len(broken),
    )


def _sampled_share(sample: TimeSample | None) -> float:
    return 1.0 if sample is None else sample.share


def _money(amounts: Counter[str]) -> list[Money]:
    return [Money(currency, amount) for currency, amount in amounts.most_common() if amount]


def _seen(document: Document, verdict: Document) -> SeenAttempt:
    return SeenAttempt(
        attempt_id=document["_id"],
        order_id=document["order_id"],
        at=document["attempted_at"],
        gateway=document["gateway"],
        status=document["status"],
        amount_minor=document["amount_minor"],
        currency=document["currency"],
        network=document.get("network"),
        customer_id=document.get("customer_id"),
        category=verdict.get("category", UNKNOWN),
        hardness=verdict.get("hardness", "soft"),
        retry=verdict.get("retry", "ask_customer"),
    )
