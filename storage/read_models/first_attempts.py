"""First attempts of orders that ended, spread evenly over a time: what models of success are fitted to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import msgspec

from messaging.contracts import RecordedAttempt
from storage.database import Database
from storage.errors import translated
from storage.read_models.time_sample import Size, sample_of

STRETCHES: Final = 672
"""Stretches that a time of many attempts is read in: one for each hour of four weeks, so that an incident of hours, or
an hour of the day, has its share and no more. Four times as many would take half as long again to read."""

ROWS_MAX: Final = 120_000
"""Attempts read at most, over all stretches."""

OVER_MAX: Final = 1.25
"""Stretches may hold so many times what is wanted: near one, because what a model is fitted to should be much."""

ENDED: Final = ("succeeded", "failed", "reversed")


async def read_first_attempts(
    database: Database, since: datetime, until: datetime, *, rows_max: int = ROWS_MAX
) -> AsyncIterator[RecordedAttempt]:
    """Read first attempts with a final status, all of them or those of stretches spread evenly over the time.

    Every attempt is as likely to be read as any other: a busy hour has more of them, as it has of the payments. The
    time begins with the oldest attempt that is stored, so a young store gives as many as an old one. Of so many at
    nearly one moment that stretches hold all of them or none, none is read, and the others are.

    Args:
        database: the store.
        since: when the oldest was made.
        until: the end; does not count itself.
        rows_max: attempts read at most; later attempts of orders, and those without an end, count as well.
    """
    size = Size(int(rows_max / OVER_MAX), OVER_MAX, STRETCHES)
    sample = await sample_of(database, "attempts", since, until, size)
    made = {"attempted_at": {"$gte": since, "$lt": until}} if sample is None else sample.match()
    query = made | {"attempt_number": 1, "status": {"$in": [*ENDED]}}
    with translated():
        async for document in database["attempts"].find(query, {"history": False}):
            yield msgspec.convert({**document, "attempt_id": document["_id"]}, RecordedAttempt)
