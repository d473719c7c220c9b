"""Who decided, and what it costs to keep learning: payments that went to another gateway than the best, on purpose."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from storage.database import Database
from storage.errors import translated
from storage.read_models.chosen import ALL, Chosen
from storage.read_models.chosen_decisions import decisions_since
from storage.read_models.measures import QUERY_MS_MAX


class Decider(msgspec.Struct, frozen=True, kw_only=True):
    """How many payments a policy, or one of the rules, decided."""

    policy: str
    rule: str | None
    decisions: int
    share: float


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """What exploring costs in one currency.

    Attributes:
        decisions: all of this currency.
        explored: those that put another gateway first than the best, to learn.
        payments: how many more of these the router expected to succeed at the best gateway.
        amount_minor: the same in money.
    """

    currency: str
    decisions: int
    explored: int
    payments: float
    amount_minor: int


class RoutingSpend(msgspec.Struct, frozen=True, kw_only=True):
    """Who decided, and what exploring cost."""

    deciders: list[Decider]
    spend: list[Spend]


async def read_spend(database: Database, since: datetime, chosen: Chosen = ALL) -> RoutingSpend:
    """Read both from the decisions since a moment, all or what was chosen."""
    first = {"$first": "$advice.ranking.expected_success"}
    explored = {"$and": [{"$eq": ["$advice.exploring", True]}, {"$gte": [{"$size": "$advice.ranking"}, 2]}]}
    taken = {
        "policy": "$advice.policy",
        "rule": {"$ifNull": ["$advice.rule", None]},
        "currency": "$request.currency",
        "amount": "$request.amount_minor",
        "explored": explored,
        "first": {"$cond": [explored, first, None]},
        "best": {"$max": "$advice.ranking.expected_success"},
    }
    counted = {
        "lost": {"$cond": ["$explored", {"$subtract": ["$best", "$first"]}, 0]},
        "policy": 1, "rule": 1, "currency": 1, "amount": 1, "explored": 1,
    }  # fmt: skip
    sums = {
        "decisions": {"$sum": 1},
        "explored": {"$sum": {"$cond": ["$explored", 1, 0]}},
        "lost": {"$sum": "$lost"},
        "amount": {"$sum": {"$multiply": ["$lost", "$amount"]}},
    }
    key = {"policy": "$policy", "rule": "$rule", "currency": "$currency"}
    pipeline = [
        {"$match": decisions_since(since, chosen)},
        {"$project": taken},
        {"$project": counted},
        {"$group": {"_id": key, **sums}},
    ]
    with translated():
        cursor = await database["decisions"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
        return _added_up(await cursor.to_list())


def _added_up(rows: list[dict[str, Any]]) -> RoutingSpend:
    total = sum(row["decisions"] for row in rows)
    deciders: dict[tuple[str, str | None], int] = {}
    by_currency: dict[str, dict[str, float]] = {}
    for row in rows:
        decider = row["_id"]["policy"], row["_id"].get("rule")
        deciders[decider] = deciders.get(decider, 0) + row["decisions"]
        known = by_currency.setdefault(row["_id"]["currency"], {})
        for name in ("decisions", "explored", "lost", "amount"):
            known[name] = known.get(name, 0.0) + row[name]
    return RoutingSpend(
        deciders=[
            Decider(policy=policy, rule=rule, decisions=count, share=count / total)
            for (policy, rule), count in sorted(deciders.items(), key=lambda each: -each[1])
        ],
        spend=[
            Spend(
                currency=currency,
                decisions=int(known["decisions"]),
                explored=int(known["explored"]),
                payments=known["lost"],
                amount_minor=round(known["amount"]),
            )
            for currency, known in sorted(by_currency.items())
        ],
    )
