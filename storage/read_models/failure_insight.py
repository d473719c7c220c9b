"""Why payments fail, in figures: rates by any dimension against the period before, reasons, orders and money."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any, Final, Literal, get_args

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
from storage.database import Database, Document
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX, Money

ROWS_MAX: Final = 200
ATTEMPTS_READ_MAX: Final = 50_000
"""Single attempts that orders are rebuilt from at most, the newest first; an answer says when that cut it short."""

BREACHES_MAX: Final = 200
CODES_PER_CATEGORY: Final = 10

Dimension = Literal[
    "category", "gateway", "issuer", "method", "country", "network", "currency", "amount_band", "hour", "weekday"
]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)

_KEYS: Final[dict[str, Any]] = {
    "amount_band": {
        "$concat": [
            "$currency",
            " 1e",
            {"$toString": {"$toInt": {"$floor": {"$log10": {"$max": ["$amount_minor", 1]}}}}},
        ]
    },
    "hour": {"$dateToString": {"date": "$attempted_at", "format": "%H:00"}},
    "weekday": {"$dateToString": {"date": "$attempted_at", "format": "%u"}},
}
"""Dimensions that are made from a field; the others are fields. An amount band is a power of ten of minor units."""


class InsightQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which attempts: from ``since`` to before ``until``, and only those that fit what else is given."""

    since: datetime
    until: datetime
    gateway: str | None = None
    method: str | None = None
    issuer: str | None = None
    country: str | None = None

    def before(self) -> InsightQuery:
        """The period of the same length before."""
        return msgspec.structs.replace(self, since=self.since - (self.until - self.since), until=self.since)

    def match(self) -> Document:
        """The same as a MongoDB filter."""
        chosen = {name: getattr(self, name) for name in ("gateway", "method", "issuer", "country")}
        filters = {name: {"$eq": value} for name, value in chosen.items() if value is not None}
        return {"attempted_at": {"$gte": self.since, "$lt": self.until}, **filters}


class FailureShare(msgspec.Struct, frozen=True, kw_only=True):
    """Failed of settled attempts, with its Wilson 95 % interval; without attempts there is no rate."""

    failed: int
    settled: int
    rate: float | None
    low: float | None
    high: float | None


class DimensionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One value of the dimension. ``difference``: the rate less that of the period before; None: one is unknown."""

    key: str
    now: FailureShare
    before: FailureShare
    difference: float | None
    amounts_failed: list[Money]


class FailureRates(msgspec.Struct, frozen=True, kw_only=True):
    """Failure rates by one dimension, the most failures first."""

    query: InsightQuery
    dimension: str
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
    """Reasons, the most frequent first; ``by_amount`` orders them by money instead, one list for each currency."""

    query: InsightQuery
    failures: int
    reasons: list[Reason]
    by_amount: dict[str, list[tuple[str, int, float]]]


class OrdersInsight(msgspec.Struct, frozen=True, kw_only=True):
    """What became of orders. ``complete`` is false where more attempts lie in the window than were read."""

    query: InsightQuery
    attempts_read: int
    complete: bool
    authorization: Authorization
    soft: FailureShare
    money: list[MoneyOutcome]
    recovery: list[Recovery]
    breaches: list[Breach]
    breaches_found: int


def failure_share(failed: int, settled: int) -> FailureShare:
    """A failure rate with its interval."""
    interval = wilson_interval(Proportion(failed, settled))
    if not isinstance(interval, Interval):
        return FailureShare(failed=failed, settled=settled, rate=None, low=None, high=None)
    return FailureShare(failed=failed, settled=settled, rate=interval.estimate, low=interval.low, high=interval.high)


async def read_failure_rates(database: Database, query: InsightQuery, dimension: Dimension) -> FailureRates:
    """Failure rates by one dimension, against the period before.

    By category every rate is out of all settled attempts; by any other dimension out of those with that value.
    """
    now, before = await asyncio.gather(
        _counts(database, query, dimension), _counts(database, query.before(), dimension)
    )
    keys = sorted(now.failed, key=lambda key: (-now.failed[key], key))
    keys += sorted(key for key in now.settled if key not in now.failed)
    rows = []
    for key in keys[:ROWS_MAX]:
        mine = failure_share(now.failed[key], now.settled_of(key))
        earlier = failure_share(before.failed[key], before.settled_of(key))
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
        total=failure_share(now.failed.total(), now.all_settled),
        total_before=failure_share(before.failed.total(), before.all_settled),
        rows=rows,
    )


async def read_pareto(database: Database, query: InsightQuery) -> Pareto:
    """The reasons of failures by count and by amount, each with its raw codes and a payment to look at."""
    pipeline: list[Document] = [
        {"$match": query.match() | {"withdrawn": False}},
        {"$sort": {"attempted_at": -1}},
        {
            "$group": {
                "_id": {"category": "$category", "key": "$code_key", "currency": "$currency"},
                "n": {"$sum": 1},
                "amount": {"$sum": "$amount_minor"},
                "last": {"$first": "$$ROOT"},
            }
        },
    ]
    groups = await _aggregated(database, "failures", pipeline)
    counts: Counter[str] = Counter()
    amounts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    codes: defaultdict[str, dict[str, CodeShare]] = defaultdict(dict)
    for group in groups:
        category, last = group["_id"]["category"], group["last"]
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
    return Pareto(query=query, failures=counts.total(), reasons=reasons, by_amount=by_amount)


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
        attempts_read=len(seen),
        complete=complete,
        authorization=authorization(seen),
        soft=failure_share(sum(each.hardness == "soft" for each in failures), len(failures)),
        money=money_outcomes(seen),
        recovery=recoveries(seen)[:ROWS_MAX],
        breaches=broken[-BREACHES_MAX:][::-1],
        breaches_found=len(broken),
    )


class _Counts(msgspec.Struct, kw_only=True):
    """Failed and settled attempts by key."""

    failed: Counter[str]
    settled: Counter[str]
    amounts: defaultdict[str, Counter[str]]
    all_settled: int
    by_category: bool

    def settled_of(self, key: str) -> int:
        return self.all_settled if self.by_category else self.settled[key]


async def _counts(database: Database, query: InsightQuery, dimension: Dimension) -> _Counts:
    """Count by a dimension; the category stands with the failures, everything else with the attempts."""
    by_category = dimension == "category"
    group = {"key": None if by_category else _key(dimension), "status": "$status", "currency": "$currency"}
    totals: list[Document] = [
        {"$match": query.match() | {"status": {"$in": ["succeeded", "failed", "reversed"]}}},
        {"$group": {"_id": group, "n": {"$sum": 1}, "amount": {"$sum": "$amount_minor"}}},
    ]
    counts = _Counts(
        failed=Counter(),
        settled=Counter(),
        amounts=defaultdict(Counter),
        all_settled=0,
        by_category=by_category,
    )
    failures: list[Document] = [
        {"$match": query.match() | {"withdrawn": False}},
        {
            "$group": {
                "_id": {"key": "$category", "currency": "$currency"},
                "n": {"$sum": 1},
                "amount": {"$sum": "$amount_minor"},
            }
        },
    ]
    for row in await _aggregated(database, "attempts", totals):
        key = _named(row["_id"].get("key"))
        counts.all_settled += row["n"]
        counts.settled[key] += row["n"]
        if row["_id"]["status"] == "failed" and not by_category:
            counts.failed[key] += row["n"]
            counts.amounts[key][row["_id"]["currency"]] += row["amount"]
    if by_category:
        counts.settled.clear()
        for row in await _aggregated(database, "failures", failures):
            key = _named(row["_id"].get("key"))
            counts.failed[key] += row["n"]
            counts.amounts[key][row["_id"]["currency"]] += row["amount"]
    return counts


def _key(dimension: Dimension) -> Any:
    return _KEYS.get(dimension, f"${dimension}")


def _named(key: object) -> str:
    return "unknown" if key is None else str(key)


def _money(amounts: Counter[str]) -> list[Money]:
    return [Money(currency, amount) for currency, amount in amounts.most_common() if amount]


async def _aggregated(database: Database, collection: str, pipeline: list[Document]) -> list[Document]:
    with translated():
        cursor = await database[collection].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
        return await cursor.to_list()


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
