"""The newest attempts, as they were recorded: what a worker with a short memory begins with."""

from __future__ import annotations

from typing import Final

from messaging.contracts import RecordedAttempt
from storage.attempts import recorded_attempt
from storage.database import Database
from storage.errors import translated

BATCH: Final = 1_000
"""Documents that come at a time, so that the event loop is not held for long."""


async def read_newest_attempts(database: Database, count_max: int) -> list[RecordedAttempt]:
    """Read so many at most, oldest first, each as it stands now."""
    with translated():
        cursor = database["attempts"].find({}, {"history": False}, limit=count_max, batch_size=BATCH)
        found = [recorded_attempt(document) async for document in cursor.sort("attempted_at", -1)]
    return found[::-1]
