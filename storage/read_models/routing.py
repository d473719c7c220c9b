"""What the router advised, and whether what it expected came true."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from storage.database import Database
from storage.errors import translated
from storage.read_models.attempts import Decision
from storage.read_models.chosen import ALL, Chosen
from storage.read_models.chosen_decisions import decisions_since
from storage.read_models.gateways import GatewayTraffic, read_gateways
from storage.read_models.measures import QUERY_MS_MAX, WINDOW_MINUTES, Rate, minutes_ago, rate_of, read_as
from storage.read_models.newest_since import newest_since
from storage.read_models.routing_spend import Decider, Spend, read_spend

EPOCH: Final = datetime.fromtimestamp(0, UTC)
DECISIONS_SHOWN: Final = 20
PAIRS_MAX: Final = 2_000
"""Advised attempts compared with their outcome at most, newest first."""

ATTEMPTS_LOOKED_AT: Final = 2 * PAIRS_MAX
"""Attempts that these are sought among, the newest of all."""

DECISIONS_COUNTED_MAX: Final = 20_000
"""Decisions looked at, the newest of all, so that a rare choice costs no more than all of them."""


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """What was expected of the attempts at one gateway that had asked for a route, and what came."""

    gateway: str
    expected: float
    observed: Rate


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """How often a gateway was put first, and how often only to learn."""

    gateway: str
    decisions: int
    share: float
    exploring: int


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """The router's work of the last minutes.

    ``decisions_since``: ``decisions``, ``choices``, ``deciders`` and ``spend`` are of what was decided since then. That
    is ``since``, or later where more than 20,000 decisions of all were made since then. ``expectations`` are of the
    newest 4,000 attempts of all, ``latest`` of the newest 20,000 decisions of all, whenever these were made.
    """

    since: datetime
    until: datetime
    window_minutes: int
    decisions: int
    decisions_since: datetime
    choices: list[Choice]
    expectations: list[Expectation]
    gateways: list[GatewayTraffic]
    latest: list[Decision]
    deciders: list[Decider]
    spend: list[Spend]


async def read_routing(database: Database, now: datetime, chosen: Chosen = ALL) -> Routing:
    """Shares, expectations against outcomes, and the latest decisions.

    Args:
        chosen: which payments; a decision belongs to the gateway that it put first.
    """
    since = minutes_ago(now, WINDOW_MINUTES - 1)
    with translated():
        decided_since, known_since = await asyncio.gather(_newest(database, since), _newest(database, EPOCH))
        choices, pairs, gateways, latest, spent = await asyncio.gather(
            _choices(database, decided_since, chosen),
            _pairs(database, since, chosen),
            read_gateways(database, now, chosen),
            _latest(database, known_since, chosen),
            read_spend(database, decided_since, chosen),
        )
    total = sum(row["decisions"] for row in choices)
    return Routing(
        since=since,
        until=now,
        window_minutes=WINDOW_MINUTES,
        decisions=total,
        decisions_since=decided_since,
        choices=[
            Choice(
                gateway=str(row["_id"]),
                decisions=row["decisions"],
                share=row["decisions"] / total,
                exploring=row["exploring"],
            )
            for row in choices
        ],
        expectations=[
            Expectation(
                gateway=row["_id"], expected=row["expected"], observed=rate_of(row["succeeded"], row["settled"])
            )
            for row in pairs
        ],
        gateways=gateways,
        latest=[read_as(document, Decision, "decisions") for document in latest],
        deciders=spent.deciders,
        spend=spent.spend,
    )


async def _newest(database: Database, since: datetime) -> datetime:
    """Since when the decisions are that are looked at."""
    decisions = database["decisions"]
    return await newest_since(decisions, "decided_at", since, DECISIONS_COUNTED_MAX, query_ms_max=QUERY_MS_MAX)


async def _choices(database: Database, since: datetime, chosen: Chosen) -> list[dict[str, Any]]:
    pipeline: list[dict[str, Any]] = [
        {"$match": decisions_since(since, chosen)},
        {
            "$group": {
                "_id": {"$ifNull": [{"$first": "$advice.ranking.gateway"}, "(none)"]},
                "decisions": {"$sum": 1},
                "exploring": {"$sum": {"$cond": [{"$eq": ["$advice.exploring", True]}, 1, 0]}},
            }
        },
        {"$sort": {"_id": 1}},
    ]
    cursor = await database["decisions"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
    return await cursor.to_list()


async def _latest(database: Database, since: datetime, chosen: Chosen) -> list[dict[str, Any]]:
    query = decisions_since(since, chosen)
    cursor = database["decisions"].find(query, limit=DECISIONS_SHOWN, max_time_ms=QUERY_MS_MAX)
    return await cursor.sort("decided_at", -1).to_list()


async def _pairs(database: Database, since: datetime, chosen: Chosen) -> list[dict[str, Any]]:
    """Join settled attempts with the decision each one asked for, and average what that one expected of its gateway."""
    ranked = {"$first": "$decision.advice.ranking"}
    mine = {"$filter": {"input": {"$ifNull": [ranked, []]}, "cond": {"$eq": ["$$this.gateway", "$gateway"]}}}
    pipeline: list[dict[str, Any]] = [
        {"$match": {"attempted_at": {"$gte": since}}},
        {"$sort": {"attempted_at": -1}},
        {"$limit": ATTEMPTS_LOOKED_AT},
        {
            "$match": {"decision_id": {"$ne": None}, "status": {"$in": ["succeeded", "failed", "reversed"]}}
            | chosen.match()
        },
        {"$limit": PAIRS_MAX},
        {"$lookup": {"from": "decisions", "localField": "decision_id", "foreignField": "_id", "as": "decision"}},
        {"$set": {"ranked": {"$first": mine}}},
        {"$match": {"ranked.expected_success": {"$ne": None}}},
        {
            "$group": {
                "_id": "$gateway",
                "expected": {"$avg": "$ranked.expected_success"},
                "settled": {"$sum": 1},
                "succeeded": {"$sum": {"$cond": [{"$eq": ["$status", "succeeded"]}, 1, 0]}},
            }
        },
        {"$sort": {"_id": 1}},
    ]
    cursor = await database["attempts"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
    return await cursor.to_list()
