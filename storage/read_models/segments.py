"""Which gateways, methods and issuers the traffic of late had: what a form can offer to choose from."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

import msgspec

from storage.database import Database
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX, minutes_ago

LOOK_BACK_MINUTES: Final = 60
CHOICES_MAX: Final = 500
"""Names offered of each kind; more is no choice any more."""


class SegmentsSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Names that stood in recorded attempts, in alphabetical order."""

    gateways: list[str]
    methods: list[str]
    issuers: list[str]


async def read_segments_seen(database: Database, now: datetime) -> SegmentsSeen:
    """The names in the attempts of the last hour.

    Raises: StoreUnavailable: MongoDB does not answer.
    """
    since = minutes_ago(now, LOOK_BACK_MINUTES)
    with translated():
        gateways, methods, issuers = await asyncio.gather(
            *(_names(database, field, since) for field in ("gateway", "method", "issuer"))
        )
    return SegmentsSeen(gateways=gateways, methods=methods, issuers=issuers)


async def _names(database: Database, field: str, since: datetime) -> list[str]:
    pipeline: list[dict[str, Any]] = [
        {"$match": {"minute": {"$gte": since}}},
        {"$group": {"_id": f"${field}"}},
        {"$match": {"_id": {"$nin": [None, ""]}}},
        {"$sort": {"_id": 1}},
        {"$limit": CHOICES_MAX},
    ]
    cursor = await database["attempt_rollups"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
    return [str(row["_id"]) async for row in cursor]
