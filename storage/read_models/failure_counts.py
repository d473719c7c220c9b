"""Failed and settled attempts by a dimension: counted one by one, from sums per minute, or from a sample in time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, get_args

import msgspec
import numpy as np

from ml.failures.insight import design_effect
from storage.database import Database, Document
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX
from storage.read_models.time_sample import STRETCHES, TimeSample, sample_of

EVERY_MAX: Final = 40_000
"""Attempts of a period that are looked at one by one; of more, sums are read or stretches are sampled."""

SUMS_MAX: Final = 200_000
"""Sums of a period that are added up at most: a whole day of them and the day before within a second."""

SETTLED: Final = ("succeeded", "failed", "reversed")
LEVELS: Final = ("", "_hours", "_days")

Dimension = Literal[
    "category", "gateway", "issuer", "method", "country", "network", "currency", "amount_band", "hour", "weekday"
]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
SUMMED: Final = frozenset({"category", "gateway", "issuer", "method", "currency", "hour", "weekday"})
"""Dimensions that the sums of attempts, or those of failures, are kept by."""

IN_FAILURE_SUMS: Final = frozenset({"category", "gateway", "currency", "hour", "weekday"})
FILTERS: Final = ("gateway", "method", "issuer", "country")

Basis = Literal["attempts", "sums", "sample"]
"""What figures rest on: all attempts, their sums per minute, or the attempts of stretches spread over the time."""


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

    def chosen(self) -> Document:
        """The filter without the time."""
        named = {name: getattr(self, name) for name in FILTERS}
        return {name: {"$eq": value} for name, value in named.items() if value is not None}

    def match(self) -> Document:
        """The whole filter of attempts and failures."""
        return {"attempted_at": {"$gte": self.since, "$lt": self.until}, **self.chosen()}


class Counts(msgspec.Struct, kw_only=True):
    """Failed and settled attempts by key, and the money of the failed ones.

    ``stretches``: the same of a sample, per key and stretch: failed, settled. Shape (``STRETCHES``, 2).
    """

    by_category: bool
    failed: Counter[str] = msgspec.field(default_factory=Counter)
    settled: Counter[str] = msgspec.field(default_factory=Counter)
    amounts: defaultdict[str, Counter[str]] = msgspec.field(default_factory=lambda: defaultdict(Counter))
    all_settled: int = 0
    stretches: defaultdict[str, Any] = msgspec.field(
        default_factory=lambda: defaultdict(lambda: np.zeros((STRETCHES, 2)))
    )

    def settled_of(self, key: str) -> int:
        """What failures of a key are a part of."""
        return self.all_settled if self.by_category else self.settled[key]

    def effect_of(self, key: str | None = None) -> float:
        """How many times more variable a rate is than that of attempts drawn one by one; None: that of all."""
        if not self.stretches:
            return 1.0
        whole = sum(self.stretches.values())
        mine = whole if key is None else self.stretches[key]
        return design_effect(mine[:, 0], whole[:, 1] if self.by_category else mine[:, 1])

    def add(self, row: Mapping[str, Any], *, failed: int, settled: int, amount: int) -> None:
        """Add what the store has added up for a key, a currency and perhaps a stretch."""
        key = "unknown" if row["_id"].get("key") is None else str(row["_id"]["key"])
        self.all_settled += settled
        if settled:
            self.settled[key] += settled
        if failed:
            self.failed[key] += failed
            self.amounts[key][row["_id"]["currency"]] += amount
        if (stretch := row["_id"].get("stretch")) is not None:
            self.stretches[key][min(int(stretch), STRETCHES - 1)] += failed, settled


async def read_counts(database: Database, query: InsightQuery, dimension: Dimension) -> tuple[Basis, Counts, Counts]:
    """Count a period and the one before it, both in the same way. Returns: in which, and both."""
    before = query.before()
    sample, sample_before = await asyncio.gather(
        sample_of(database, "attempts", query.since, query.until, wanted=EVERY_MAX),
        sample_of(database, "attempts", before.since, before.until, wanted=EVERY_MAX),
    )
    is_few = sample is None and sample_before is None
    if not is_few and await _sums_hold(database, query, dimension):
        now, earlier = await asyncio.gather(
            _summed(database, query, dimension, money_too=True), _summed(database, before, dimension, money_too=False)
        )
        return "sums", now, earlier
    now, earlier = await asyncio.gather(
        _counted(database, query, dimension, sample), _counted(database, before, dimension, sample_before)
    )
    return "attempts" if is_few else "sample", now, earlier


async def _counted(database: Database, query: InsightQuery, dimension: Dimension, sample: TimeSample | None) -> Counts:
    """Count attempts one by one; the category stands with the failures, everything else with the attempts."""
    by_category = dimension == "category"
    counts = Counts(by_category=by_category)
    match = query.match() if sample is None else sample.match() | query.chosen()
    stretch = {} if sample is None else {"stretch": sample.number()}
    group = {"key": None if by_category else _key(dimension), "status": "$status", "currency": "$currency", **stretch}
    totals = _adding(match | {"status": {"$in": [*SETTLED]}}, group)
    for row in await aggregated(database, "attempts", totals):
        failed = row["n"] if row["_id"]["status"] == "failed" and not by_category else 0
        counts.add(row, failed=failed, settled=row["n"], amount=row["amount"])
    if by_category:
        by = {"key": "$category", "currency": "$currency", **stretch}
        for row in await aggregated(database, "failures", _adding(match | {"withdrawn": False}, by)):
            counts.add(row, failed=row["n"], settled=0, amount=row["amount"])
        del counts.settled["unknown"]
    return counts


async def _summed(database: Database, query: InsightQuery, dimension: Dimension, *, money_too: bool) -> Counts:
    """Add up sums per minute; money is known where the sums of failures are kept by the dimension and the filters."""
    by_category = dimension == "category"
    counts = Counts(by_category=by_category)
    match = {"minute": query.match()["attempted_at"], **query.chosen()}
    key = _key(dimension, "$minute")
    settled = {"$add": [{"$ifNull": [f"${status}", 0]} for status in SETTLED]}
    sums = {"n": {"$sum": settled}, "failed": {"$sum": "$failed"}}
    attempts = [{"$match": match}, {"$group": {"_id": {"key": None if by_category else key}, **sums}}]
    money = {"n": {"$sum": "$failures"}, "amount": {"$sum": "$amount_minor"}}
    failures = [{"$match": match}, {"$group": {"_id": {"key": key, "currency": "$currency"}, **money}}]
    has_money = dimension in IN_FAILURE_SUMS and query.chosen().keys() <= {"gateway"}
    wants_failures = by_category or (money_too and has_money)
    for row in await _of_levels(database, "attempt_rollups", attempts):
        counts.all_settled += row["n"]
        if not by_category:
            counts.settled[str(row["_id"]["key"])] += row["n"]
            counts.failed[str(row["_id"]["key"])] += row["failed"]
    for row in await _of_levels(database, "failure_rollups", failures) if wants_failures else []:
        counts.amounts[str(row["_id"]["key"])][row["_id"]["currency"]] += row["amount"]
        if by_category:
            counts.failed[str(row["_id"]["key"])] += row["n"]
    return counts


async def _sums_hold(database: Database, query: InsightQuery, dimension: Dimension) -> bool:
    """Whether sums are kept by the dimension and the filters, and are few enough and fine enough."""
    filters = query.chosen().keys()
    if dimension not in SUMMED or "country" in filters or (dimension == "category" and not filters <= {"gateway"}):
        return False
    within = {"minute": {"$gte": query.before().since, "$lt": query.until}}
    with translated():
        fine = database["attempt_rollups"].count_documents(within, limit=2 * SUMS_MAX + 1, maxTimeMS=QUERY_MS_MAX)
        coarse = database["attempt_rollups_days"].find_one(within, {"minute": True})
        few, days = await asyncio.gather(fine, coarse)
    return few <= 2 * SUMS_MAX and not (dimension == "hour" and days)


async def _of_levels(database: Database, collection: str, pipeline: list[Document]) -> list[Document]:
    parts = await asyncio.gather(*(aggregated(database, collection + level, pipeline) for level in LEVELS))
    return [row for rows in parts for row in rows]


async def aggregated(database: Database, collection: str, pipeline: list[Document]) -> list[Document]:
    """Let the store add up."""
    with translated():
        cursor = await database[collection].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
        return await cursor.to_list()


def _adding(match: Document, by: Document) -> list[Document]:
    return [{"$match": match}, {"$group": {"_id": by, "n": {"$sum": 1}, "amount": {"$sum": "$amount_minor"}}}]


def _key(dimension: Dimension, at: str = "$attempted_at") -> Any:
    """What makes a dimension; most are fields. An amount band is a power of ten of minor units."""
    power = {"$toInt": {"$floor": {"$log10": {"$max": ["$amount_minor", 1]}}}}
    made: dict[str, Any] = {
        "amount_band": {"$concat": ["$currency", " 1e", {"$toString": power}]},
        "hour": {"$dateToString": {"date": at, "format": "%H:00"}},
        "weekday": {"$dateToString": {"date": at, "format": "%u"}},
    }
    return made.get(dimension, f"${dimension}")
