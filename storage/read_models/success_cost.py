"""Success against cost over the newest decisions: what other balances of the two would have been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ml.routing.frontier import FrontierPoint, Offered, frontier
from ml.routing.worth import Fees
from storage.database import Database
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX

SPAN: Final = timedelta(days=1)
DECISIONS_MAX: Final = 3_000
"""Decisions looked at, newest first."""


class SuccessCost(msgspec.Struct, frozen=True, kw_only=True):
    """The frontier of the busiest currency.

    Attributes:
        currency: of the fees; None: there were no decisions.
        decisions: looked at.
        others: decisions in other currencies, which are left out.
    """

    since: datetime
    currency: str | None
    decisions: int
    others: int
    points: list[FrontierPoint]


async def read_success_cost(database: Database, fees: Mapping[str, Fees], now: datetime) -> SuccessCost:
    """Read the newest decisions of a day on first attempts, and choose anew by every margin."""
    wanted = {"advice.ranking.gateway": True, "advice.ranking.expected_success": True, "request.amount_minor": True,
              "request.currency": True}  # fmt: skip
    query = {"decided_at": {"$gte": now - SPAN}, "advice.ranking.0": {"$exists": True}}
    with translated():
        cursor = (
            database["decisions"]
            .find(query, wanted)
            .sort("decided_at", -1)
            .limit(DECISIONS_MAX)
            .max_time_ms(QUERY_MS_MAX)
        )
        rows = await cursor.to_list()
    counts = Counter(row["request"]["currency"] for row in rows)
    currency = counts.most_common(1)[0][0] if counts else None
    offered = [
        Offered(
            row["request"]["amount_minor"],
            {each["gateway"]: each["expected_success"] for each in row["advice"]["ranking"]},
            row["advice"]["ranking"][0]["gateway"],
        )
        for row in rows
        if row["request"]["currency"] == currency
    ]
    return SuccessCost(
        since=now - SPAN,
        currency=currency,
        decisions=len(offered),
        others=len(rows) - len(offered),
        points=frontier(offered, fees),
    )
