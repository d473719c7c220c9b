"""What was known at a past moment: attempts by the reports that had come in, anomalies as far as they were noticed."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from messaging.contracts import Anomaly, GatewayPause
from storage.database import Database
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX, Rate, rate_of, read_as

LOOK_BACK: Final = timedelta(minutes=15)
ATTEMPTS_MAX: Final = 20_000
"""Attempts counted at most, the newest; the page says when there were more."""

FACTS_MAX: Final = 100
DECISIONS_MAX: Final = 2_000


class GatewayThen(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway as it looked then. ``corrected``: attempts whose status of then is not the one of today."""

    gateway: str
    attempts: int
    pending: int
    authorization: Rate
    put_first: int
    corrected: int


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A past moment. ``complete`` is False when only the newest attempts of the window were counted."""

    at: datetime
    since: datetime
    attempts: int
    complete: bool
    authorization: Rate
    gateways: list[GatewayThen]
    anomalies: list[Anomaly]
    pauses: list[GatewayPause]
    experiments: list[str]
    decisions: int


async def read_moment(database: Database, at: datetime) -> Moment:
    """Read what was known at a moment, from the reports received and the facts stated until then."""
    since = at - LOOK_BACK
    with translated():
        attempts, anomalies, pauses, allocation, firsts = await asyncio.gather(
            _attempts(database, since, at),
            _anomalies(database, at),
            _pauses(database, at),
            database["allocations"].find_one({"published_at": {"$lte": at}}, sort=[("published_at", -1)]),
            _put_first(database, since, at),
        )
    by_gateway: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in attempts:
        by_gateway[row["gateway"]].update([row["then"]])
        by_gateway[row["gateway"]]["corrected"] += row["then"] != row["now"]
    gateways = [
        GatewayThen(
            gateway=name,
            attempts=counts.total() - counts["corrected"],
            pending=counts["pending"],
            authorization=_rate(counts),
            put_first=firsts.get(name, 0),
            corrected=counts["corrected"],
        )
        for name, counts in sorted(by_gateway.items())
    ]
    whole: Counter[str] = Counter()
    for counts in by_gateway.values():
        whole.update(counts)
    return Moment(
        at=at,
        since=since,
        attempts=len(attempts),
        complete=len(attempts) < ATTEMPTS_MAX,
        authorization=_rate(whole),
        gateways=gateways,
        anomalies=anomalies,
        pauses=pauses,
        experiments=[] if allocation is None else [each["name"] for each in allocation.get("experiments", [])],
        decisions=sum(firsts.values()),
    )


def _rate(counts: Counter[str]) -> Rate:
    return rate_of(counts["succeeded"], counts["succeeded"] + counts["failed"] + counts["reversed"])


async def _attempts(database: Database, since: datetime, at: datetime) -> list[dict[str, Any]]:
    """Each attempt of the window with its status of then: that of the last report which had come in."""
    heard: dict[str, Any] = {
        "$filter": {"input": "$history", "as": "report", "cond": {"$lte": ["$$report.received_at", at]}}
    }
    pipeline: list[dict[str, Any]] = [
        {"$match": {"attempted_at": {"$gte": since, "$lte": at}}},
        {"$sort": {"attempted_at": -1, "_id": -1}},
        {"$limit": ATTEMPTS_MAX},
        {"$project": {"gateway": 1, "now": "$status", "heard": heard}},
        {"$match": {"heard.0": {"$exists": True}}},
        {"$project": {"gateway": 1, "now": 1, "then": {"$last": "$heard.status"}}},
    ]
    cursor = await database["attempts"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
    return await cursor.to_list()


async def _anomalies(database: Database, at: datetime) -> list[Anomaly]:
    """Those that were open then; that they closed later was not known."""
    query = {"detected_at": {"$lte": at}, "$or": [{"closed_at": None}, {"closed_at": {"$gt": at}}]}
    cursor = database["anomalies"].find(query).sort("detected_at", -1).limit(FACTS_MAX).max_time_ms(QUERY_MS_MAX)
    found = [read_as({"anomaly_id": each["_id"], **each}, Anomaly, "anomalies") async for each in cursor]
    return [msgspec.structs.replace(anomaly, closed_at=None) for anomaly in found]


async def _pauses(database: Database, at: datetime) -> list[GatewayPause]:
    query = {
        "starts_at": {"$lte": at},
        "$and": [
            {"$or": [{"ends_at": None}, {"ends_at": {"$gt": at}}]},
            {"$or": [{"resumed_at": None}, {"resumed_at": {"$gt": at}}]},
        ],
    }
    cursor = database["gateway_pauses"].find(query).sort("starts_at", 1).limit(FACTS_MAX)
    return [read_as({**each, "pause_id": each["_id"]}, GatewayPause, "gateway_pauses") async for each in cursor]


async def _put_first(database: Database, since: datetime, at: datetime) -> dict[str, int]:
    """How often each gateway was put first by the newest decisions of the window."""
    pipeline: list[dict[str, Any]] = [
        {"$match": {"decided_at": {"$gte": since, "$lte": at}}},
        {"$sort": {"decided_at": -1}},
        {"$limit": DECISIONS_MAX},
        {"$group": {"_id": {"$first": "$advice.ranking.gateway"}, "n": {"$sum": 1}}},
    ]
    cursor = await database["decisions"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
    return {str(row["_id"]): row["n"] async for row in cursor if row["_id"] is not None}
