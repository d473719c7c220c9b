"""Failure codes that no table knows: seen since when, how often, and what the model makes of them, to be confirmed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from ml.failures.taxonomy import UNKNOWN
from storage.database import Database
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX

DAYS: Final = 30
FAILURES_READ_MAX: Final = 100_000
CODES_MAX: Final = 500


class OpenCode(msgspec.Struct, frozen=True, kw_only=True):
    """One code of one gateway that no table knows.

    ``guesses`` are the model's best two categories, likeliest first, and ``confidence`` how sure it is of the first;
    ``category`` is what its failures count as meanwhile.
    """

    gateway: str
    failure_code: str | None
    failure_message: str | None
    failures: int
    first_at: datetime
    last_at: datetime
    category: str
    confidence: float
    guesses: list[str]


class OpenCodes(msgspec.Struct, frozen=True, kw_only=True):
    """The codes to confirm or correct, the most frequent first, and how much of the failures the tables cover."""

    since: datetime
    until: datetime
    failures: int
    failures_from_tables: int
    codes: list[OpenCode]


async def read_open_codes(
    database: Database, now: datetime, *, gateway: str | None = None, limit: int = 100
) -> OpenCodes:
    """Read the codes of the last 30 days that no table knows; of the newest 100,000 failures at most."""
    since = now - timedelta(days=DAYS)
    match: dict[str, Any] = {"attempted_at": {"$gte": since}} | ({"gateway": gateway} if gateway else {})
    pipeline: list[dict[str, Any]] = [
        {"$match": match},
        {"$sort": {"attempted_at": -1}},
        {"$limit": FAILURES_READ_MAX},
        {"$match": {"withdrawn": False}},
        {
            "$group": {
                "_id": {"key": "$code_key", "listed": {"$eq": ["$evidence", "code_table"]}},
                "n": {"$sum": 1},
                "last": {"$first": "$$ROOT"},
                "first_at": {"$min": "$attempted_at"},
            }
        },
        {"$sort": {"n": -1, "_id": 1}},
    ]
    with translated():
        cursor = await database["failures"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
        groups = await cursor.to_list(length=FAILURES_READ_MAX)
    unlisted = [group for group in groups if not group["_id"]["listed"]]
    return OpenCodes(
        since=since,
        until=now,
        failures=sum(group["n"] for group in groups),
        failures_from_tables=sum(group["n"] for group in groups if group["_id"]["listed"]),
        codes=[_open_code(group) for group in unlisted[: min(limit, CODES_MAX)]],
    )


def _open_code(group: dict[str, Any]) -> OpenCode:
    last = group["last"]
    return OpenCode(
        gateway=last["gateway"],
        failure_code=last.get("failure_code"),
        failure_message=last.get("failure_message"),
        failures=group["n"],
        first_at=group["first_at"],
        last_at=last["attempted_at"],
        category=last.get("category", UNKNOWN),
        confidence=last.get("confidence", 0.0),
        guesses=list(last.get("guesses", [])),
    )
