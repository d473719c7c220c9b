"""First attempts of orders that ended, spread over a time: what models of success are fitted to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final

import msgspec

from messaging.contracts import RecordedAttempt
from storage.database import Database
from storage.errors import translated

SLICES: Final = 240
"""A long time is read in so many stretches of equal length, so that every hour of the day has its say."""

ROWS_MAX: Final = 120_000
"""Attempts read at most, over all stretches."""

ENDED: Final = ("succeeded", "failed", "reversed")


async def read_first_attempts(
    database: Database, since: datetime, until: datetime, *, rows_max: int = ROWS_MAX
) -> AsyncIterator[RecordedAttempt]:
    """Read first attempts with a final status, oldest stretch first, at most an even share of ``rows_max`` from each.

    The time begins with the oldest attempt that is stored, so a young store gives as many as an old one.
    """
    with translated():
        attempts = database["attempts"]
        oldest = await attempts.find_one({"attempted_at": {"$gte": since}}, {"attempted_at": 1},
                                         sort=[("attempted_at", 1)])  # fmt: skip
        if oldest is None:
            return
        begin = oldest["attempted_at"]
        step = max((until - begin) / SLICES, timedelta(milliseconds=1))
        for place in range(SLICES):
            span = {"$gte": begin + place * step, "$lt": begin + (place + 1) * step}
            query = {"attempted_at": span, "attempt_number": 1, "status": {"$in": list(ENDED)}}
            cursor = attempts.find(query, {"history": False}).sort("attempted_at", 1).limit(rows_max // SLICES)
            async for document in cursor:
                yield msgspec.convert({**document, "attempt_id": document["_id"]}, RecordedAttempt)
