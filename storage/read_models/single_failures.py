"""Single failures, added up as their sums per minute are: for what these cannot tell apart."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from storage.database import Database, Document
from storage.errors import TooManyAttempts
from storage.read_models.chosen import Chosen
from storage.read_models.single_attempts import ATTEMPTS_MAX
from storage.read_models.turn import SINGLES
from storage.rollups import FAILURE_KEY


async def read_single_failures(
    database: Database, chosen: Chosen, since: datetime, *, query_ms_max: int
) -> list[Document]:
    """Read the failures that were chosen, added up by minute, gateway, category and currency; waits for the turn.

    Args:
        chosen: of it ``FAILURE_CHOICES`` are heeded.
        since: when the first of them were attempted.
    Returns: documents as they lie in ``failure_rollups``.
    Raises: TooManyAttempts: there are more than can be read.
    """
    span = {"attempted_at": {"$gte": since}}
    failures = database["failures"]
    minute = {"$dateTrunc": {"date": "$attempted_at", "unit": "minute"}}
    by: dict[str, Any] = {name: f"${name}" for name in FAILURE_KEY} | {"minute": minute}
    pipeline: list[dict[str, Any]] = [
        {"$match": span | {"withdrawn": False} | chosen.match_single()},
        {"$group": {"_id": by, "failures": {"$sum": 1}, "amount_minor": {"$sum": "$amount_minor"}}},
    ]
    async with SINGLES.taken():
        if await failures.count_documents(span, limit=ATTEMPTS_MAX + 1, maxTimeMS=query_ms_max) > ATTEMPTS_MAX:
            raise TooManyAttempts(ATTEMPTS_MAX, fitting=False)
        cursor = await failures.aggregate(pipeline, maxTimeMS=query_ms_max)
        return [row.pop("_id") | row async for row in cursor]
