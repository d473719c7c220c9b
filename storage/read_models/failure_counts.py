"""Failed and settled attempts by a dimension: counted one by one, from sums over time, or from a sample in time.

Sums grow coarser with age (``storage.compaction``): a sum of an hour or a day cannot be cut. Where a period begins or
ends within such a sum, the attempts between that moment and the nearest end of the sum are counted one by one; where
these are many, the period is sampled.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

import msgspec
import numpy as np

from ml.experiments.intervals import Interval, Proportion, wilson_interval
from ml.failures.insight import sampled_interval
from ml.lack import TooFewData
from storage import compaction
from storage.database import Database, Document
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX
from storage.read_models.time_sample import STRETCHES, Size, TimeSample, count_up_to, sample_of

EVERY_MAX: Final = 40_000
"""Attempts of a period that are looked at one by one; of more, sums are read or stretches are sampled."""

EDGES_MAX: Final = 10_000
"""Attempts looked at one by one beside sums, where two periods begin or end within one: minutes of 10^7 a week, or
10 minutes of an hour."""

SUMS_MAX: Final = 200_000
"""Sums of a period that are added up at most: a whole day of them and the day before within a second."""

SETTLED: Final = ("succeeded", "failed", "reversed")
LEVELS: Final = ("", *(level.coarser for level in compaction.LEVELS))
MINUTE: Final = timedelta(minutes=1)

Dimension = Literal[
    "category", "gateway", "issuer", "method", "country", "network", "currency", "amount_band", "hour", "weekday"
]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
SUMMED: Final = frozenset({"category", "gateway", "issuer", "method", "currency", "hour", "weekday"})
"""Dimensions that the sums of attempts, or those of failures, are kept by."""

IN_FAILURE_SUMS: Final = frozenset({"category", "gateway", "currency", "hour", "weekday"})
FILTERS: Final = ("gateway", "method", "issuer", "country")

Basis = Literal["attempts", "sums", "sample"]
"""What figures rest on: all attempts, their sums over time, or the attempts of stretches spread over the time."""


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

    ``sample``: what they were drawn by; None: all are here. ``stretches``: the same of a sample, per key and stretch:
    failed, settled. Shape (``STRETCHES``, 2).
    """

    by_category: bool
    sample: TimeSample | None = None
    failed: Counter[str] = msgspec.field(default_factory=Counter)
    settled: Counter[str] = msgspec.field(default_factory=Counter)
    amounts: defaultdict[str, Counter[str]] = msgspec.field(default_factory=lambda: defaultdict(Counter))
    all_settled: int = 0
    stretches: defaultdict[str, Any] = msgspec.field(
        default_factory=lambda: defaultdict(lambda: np.zeros((STRETCHES, 2)))
    )

    def settled_of(self, key: str | None) -> int:
        """What failures of a key are a part of; None: all."""
        return self.all_settled if key is None or self.by_category else self.settled[key]

    def failed_of(self, key: str | None) -> int:
        """Failures of a key; None: all."""
        return self.failed.total() if key is None else self.failed[key]

    def interval_of(self, key: str | None = None) -> Interval | TooFewData:
        """The failure rate of a key, or of all, with its 95 % interval."""
        if self.sample is None:
            return wilson_interval(Proportion(self.failed_of(key), self.settled_of(key)))
        whole = sum(self.stretches.values(), np.zeros((STRETCHES, 2)))
        mine = whole if key is None else self.stretches[key]
        return sampled_interval(mine[:, 0], whole[:, 1] if self.by_category else mine[:, 1])

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


class SummedRange(msgspec.Struct, frozen=True, kw_only=True):
    """A period, and the part of it, from ``first`` to before ``last``, that whole sums cover."""

    since: datetime
    first: datetime
    last: datetime
    until: datetime

    def edges(self) -> list[Document]:
        """What ``attempted_at`` is outside of that part; often nothing."""
        pairs = ((self.since, self.first), (self.last, self.until))
        return [{"attempted_at": {"$gte": start, "$lt": end}} for start, end in pairs if start < end]


async def read_counts(database: Database, query: InsightQuery, dimension: Dimension) -> tuple[Basis, Counts, Counts]:
    """Count a period and the one before it. Returns: in which way, and both."""
    before = query.before()
    sample, sample_before = await asyncio.gather(
        sample_of(database, "attempts", query.since, query.until, Size(EVERY_MAX)),
        sample_of(database, "attempts", before.since, before.until, Size(EVERY_MAX)),
    )
    is_few = sample is None and sample_before is None
    if not is_few and (ranges := await _summed_ranges(database, query, dimension)):
        now, earlier = await asyncio.gather(
            _summed(database, query, dimension, ranges[0], money_too=True),
            _summed(database, before, dimension, ranges[1], money_too=False),
        )
        return "sums", now, earlier
    now, earlier = await asyncio.gather(
        _counted(database, query, dimension, sample), _counted(database, before, dimension, sample_before)
    )
    return "attempts" if is_few else "sample", now, earlier


async def _counted(database: Database, query: InsightQuery, dimension: Dimension, sample: TimeSample | None) -> Counts:
    """Count attempts one by one, or those of a sample: whose money is an unknown part of all, and is left out."""
    counts = Counts(by_category=dimension == "category", sample=sample)
    match = query.match() if sample is None else sample.match() | query.chosen()
    await _add_single(database, counts, dimension, match, {} if sample is None else {"stretch": sample.number()})
    if sample is not None:
        counts.amounts.clear()
    return counts


async def _add_single(
    database: Database, counts: Counts, dimension: Dimension, match: Document, stretch: Document
) -> None:
    """Count single attempts; the category stands with the failures, everything else with the attempts."""
    by_category = counts.by_category
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


async def _summed(
    database: Database, query: InsightQuery, dimension: Dimension, summed: SummedRange, *, money_too: bool
) -> Counts:
    """Add up sums, and single attempts beside them.

    Money is known where the sums of failures are kept by the dimension and the filters.
    """
    by_category = dimension == "category"
    counts = Counts(by_category=by_category)
    match = {"minute": {"$gte": summed.first, "$lt": summed.last}, **query.chosen()}
    key = _key(dimension, "$minute")
    settled = {"$add": [{"$ifNull": [f"${status}", 0]} for status in SETTLED]}
    sums = {"n": {"$sum": settled}, "failed": {"$sum": "$failed"}}
    attempts = [{"$match": match}, {"$group": {"_id": {"key": None if by_category else key}, **sums}}]
    money = {"n": {"$sum": "$failures"}, "amount": {"$sum": "$amount_minor"}}
    failures = [{"$match": match}, {"$group": {"_id": {"key": key, "currency": "$currency"}, **money}}]
    has_money = money_too and dimension in IN_FAILURE_SUMS and query.chosen().keys() <= {"gateway"}
    if edges := summed.edges():
        await _add_single(database, counts, dimension, {"$or": edges} | query.chosen(), {})
    if not has_money:
        counts.amounts.clear()
    for row in await _of_levels(database, "attempt_rollups", attempts):
        counts.all_settled += row["n"]
        if not by_category:
            counts.settled[str(row["_id"]["key"])] += row["n"]
            counts.failed[str(row["_id"]["key"])] += row["failed"]
    for row in await _of_levels(database, "failure_rollups", failures) if by_category or has_money else []:
        counts.amounts[str(row["_id"]["key"])][row["_id"]["currency"]] += row["amount"]
        if by_category:
            counts.failed[str(row["_id"]["key"])] += row["n"]
    return counts


async def _summed_ranges(
    database: Database, query: InsightQuery, dimension: Dimension
) -> tuple[SummedRange, SummedRange] | None:
    """What sums cover of a period and of the one before it.

    Returns: None: sums are not kept by the dimension and the filters, are too many, too coarse, or leave out too much.
    """
    filters = query.chosen().keys()
    if dimension not in SUMMED or "country" in filters or (dimension == "category" and not filters <= {"gateway"}):
        return None
    before = query.before()
    ends = before.since, query.since, query.until
    (start, start_end), (middle, middle_end), (end, _) = await asyncio.gather(*(_whole(database, at) for at in ends))
    ranges = (
        SummedRange(since=query.since, first=middle_end, last=end, until=query.until),
        SummedRange(since=before.since, first=start_end, last=middle, until=before.until),
    )
    if any(each.first >= each.last for each in ranges):
        return None
    within = {"minute": {"$gte": start, "$lt": query.until}}
    counted = await asyncio.gather(
        *(
            count_up_to(database, kind + level, within, 2 * SUMS_MAX + 1)
            for kind in compaction.KINDS
            for level in LEVELS
        )
    )
    if sum(counted) > 2 * SUMS_MAX:
        return None
    if dimension == "hour" and await count_up_to(database, "attempt_rollups_days", within, 1):
        return None
    edges = [edge for each in ranges for edge in each.edges()]
    if edges and await count_up_to(database, "attempts", {"$or": edges}, EDGES_MAX + 1) > EDGES_MAX:
        return None
    return ranges


async def _whole(database: Database, moment: datetime) -> tuple[datetime, datetime]:
    """The ends, before and after a moment, of the coarsest sums that it lies in; twice itself where it cuts none."""
    for level in reversed(compaction.LEVELS):
        start = compaction.start_of(moment, level.period)
        if start == moment:
            continue
        with translated():
            found = await asyncio.gather(
                *(
                    database[kind + level.coarser].find_one({"minute": start}, {"minute": True})
                    for kind in compaction.KINDS
                )
            )
        if any(found):
            return start, start + level.period
    start = compaction.start_of(moment, MINUTE)
    return (moment, moment) if start == moment else (start, start + MINUTE)


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
