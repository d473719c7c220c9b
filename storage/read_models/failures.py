"""Why payments fail: categories of the last minutes with their counts, amounts and most frequent raw codes."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any, Final

import msgspec

from storage.database import Database
from storage.errors import translated
from storage.read_models.chosen import ALL, FAILURE_CHOICES, FAILURE_DIMENSIONS, Chosen
from storage.read_models.measures import QUERY_MS_MAX, WINDOW_MINUTES, Money, minutes_ago
from storage.read_models.single_failures import read_single_failures

CATEGORIES_MAX: Final = 100
CODES_PER_CATEGORY: Final = 4
FAILURES_READ_MAX: Final = 20_000
"""Single failures read for the raw codes at most, newest first."""


class CodeCount(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's own failure code, and how often it came."""

    gateway: str
    code: str
    failures: int


class CategoryFailures(msgspec.Struct, frozen=True, kw_only=True):
    """One category of failures."""

    category: str
    failures: int
    share: float
    amounts: list[Money]
    gateways: dict[str, int]
    codes: list[CodeCount]


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """All categories of a window, the most frequent first."""

    since: datetime
    until: datetime
    window_minutes: int
    failures: int
    categories: list[CategoryFailures]
    codes_from: int


async def read_failures(database: Database, now: datetime, chosen: Chosen = ALL) -> Failures:
    """The failures of the last minutes by category.

    Args:
        chosen: which; of it ``FAILURE_CHOICES`` are heeded.
    Raises: TooManyAttempts: of what is chosen only single failures tell, and there are more than can be read.
    """
    chosen = chosen.only(*FAILURE_CHOICES)
    since = minutes_ago(now, WINDOW_MINUTES - 1)
    with translated():
        sums, codes = await asyncio.gather(_sums(database, since, chosen), _codes(database, since, chosen))
    failures: Counter[str] = Counter()
    amounts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    gateways: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in sums:
        category = row["category"]
        failures[category] += row["failures"]
        amounts[category][row["currency"]] += row["amount_minor"]
        gateways[category][row["gateway"]] += row["failures"]
    by_category: defaultdict[str, list[CodeCount]] = defaultdict(list)
    for row in codes:
        key = row["_id"]
        code = CodeCount(gateway=key["gateway"], code=key.get("failure_code") or "(no code)", failures=row["n"])
        by_category[key["category"]].append(code)
    total = failures.total()
    return Failures(
        since=since,
        until=now,
        window_minutes=WINDOW_MINUTES,
        failures=total,
        categories=[
            CategoryFailures(
                category=category,
                failures=count,
                share=count / total,
                amounts=[Money(currency, amount) for currency, amount in amounts[category].most_common()],
                gateways=dict(gateways[category].most_common()),
                codes=by_category[category][:CODES_PER_CATEGORY],
            )
            for category, count in failures.most_common(CATEGORIES_MAX)
            if count > 0
        ],
        codes_from=sum(row["n"] for row in codes),
    )


async def _sums(database: Database, since: datetime, chosen: Chosen) -> list[dict[str, Any]]:
    if chosen.is_narrow:
        return await read_single_failures(database, chosen, since, query_ms_max=QUERY_MS_MAX)
    pipeline: list[dict[str, Any]] = [
        {"$match": {"minute": {"$gte": since}} | chosen.match(*FAILURE_DIMENSIONS)},
        {
            "$group": {
                "_id": {"category": "$category", "gateway": "$gateway", "currency": "$currency"},
                "failures": {"$sum": "$failures"},
                "amount_minor": {"$sum": "$amount_minor"},
            }
        },
        {"$limit": CATEGORIES_MAX * 100},
    ]
    cursor = await database["failure_rollups"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
    return [row.pop("_id") | row async for row in cursor]


async def _codes(database: Database, since: datetime, chosen: Chosen) -> list[dict[str, Any]]:
    """Count raw codes, the most frequent first."""
    pipeline: list[dict[str, Any]] = [
        {"$match": {"attempted_at": {"$gte": since}}},
        {"$sort": {"attempted_at": -1}},
        {"$limit": FAILURES_READ_MAX},
        {"$match": {"withdrawn": {"$ne": True}} | chosen.match_single()},
        {
            "$group": {
                "_id": {"category": "$category", "gateway": "$gateway", "failure_code": "$failure_code"},
                "n": {"$sum": 1},
            }
        },
        {"$sort": {"n": -1, "_id": 1}},
        {"$limit": 1_000},
    ]
    cursor = await database["failures"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
    return await cursor.to_list()
