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
from storage.read_models.chosen_decisions import newest_decisions
from storage.read_models.gateways import GatewayTraffic, read_gateways
from storage.read_models.measures import QUERY_MS_MAX, WINDOW_MINUTES, Rate, minutes_ago, rate_of, read_as
from storage.read_models.routing_spend import Decider, Spend, read_spend

EPOCH: Final = datetime.fromtimestamp(0, UTC)
DECISIONS_SHOWN: Final = 20
PAIRS_MAX: Final = 2_000
"""Advised attempts compared with their outcome at most, newest first."""

DECISIONS_COUNTED_MAX: Final = 20_000


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
    """The router's work of the last minutes."""

    since: datetime
    until: datetime
    window_minutes: int
    decisions: int
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
        choices, pairs, gateways, latest, spent = await asyncio.gather(
            _choices(database, since, chosen),
            _pairs(database, since, chosen),
            read_gateways(database, now, chosen),
            _latest(database, chosen),
            read_spend(database, since, chosen),
        )
    total = sum(row["decisions"] for row in choices)
    return Routing(
        since=since,
        until=now,
        window_minutes=WINDOW_MINUTES,
        decisions=total,
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


async def _choices(database: Database, since: datetime, chosen: Chosen) -> list[dict[str, Any]]:
    pipeline: list[dict[str, Any]] = [
        *newest_decisions(since, chosen, DECISIONS_COUNTED_MAX),
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


async def _latest(database: Database, chosen: Chosen) -> list[dict[str, Any]]:
    newest = newest_decisions(EPOCH, chosen, DECISIONS_COUNTED_MAX)
    cursor = await database["decisions"].aggregate([*newest, {"$limit": DECISIONS_SHOWN}], maxTimeMS=QUERY_MS_MAX)
    return await cursor.to_list()


async def _pairs(database: Database, since: datetime, chosen: Chosen) -> list[dict[str, Any]]:
    """Join settled attempts with the decision each one asked for, and average what that one expected of its gateway."""
    ranked = {"$first": "$decision.advice.ranking"}
    mine = {"$filter": {"input": {"$ifNull": [ranked, []]}, "cond": {"$eq": ["$$this.gateway", "$gateway"]}}}
    pipeline: list[dict[str, Any]] = [
        {"$match": {"attempted_at": {"$gte": since}}},
        {"$sort": {"attempted_at": -1}},
        {"$limit": PAIRS_MAX * 2},
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
