"""Short stretches spread evenly over a long time, so that a bounded number of documents stands for all of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from storage.database import Database, Document
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX

STRETCHES: Final = 96
"""So many parts of equal length, with one stretch in each: a quarter of an hour each in a day."""

PILOT_SHARE: Final = 1 / 200
"""Of the time, looked at first to know how dense the documents are."""

GOLDEN: Final = 0.6180339887498949
"""Where in its part a stretch lies: multiples of it do not fall into step with what comes back every so often."""


class TimeSample(msgspec.Struct, frozen=True, kw_only=True):
    """Stretches of equal length, so that every document was as likely to be taken as any other.

    ``share``: of the time that they cover, 0 to 1.
    """

    since: datetime
    until: datetime
    share: float

    def match(self) -> Document:
        """The query for documents by ``attempted_at``."""
        part = (self.until - self.since) / STRETCHES
        length = part * self.share
        starts = [self.since + part * number + (part - length) * (number * GOLDEN % 1.0) for number in range(STRETCHES)]
        return {"$or": [{"attempted_at": {"$gte": start, "$lt": start + length}} for start in starts]}

    def number(self) -> Any:
        """The expression that tells the stretch of a document, 0 to ``STRETCHES`` - 1."""
        part_ms = (self.until - self.since) / timedelta(milliseconds=1) / STRETCHES
        return {"$floor": {"$divide": [{"$subtract": ["$attempted_at", self.since]}, part_ms]}}


async def sample_of(
    database: Database, collection: str, since: datetime, until: datetime, *, wanted: int
) -> TimeSample | None:
    """Choose stretches that hold about so many documents; None: there are no more than that anyway.

    Args:
        collection: one with ``attempted_at``, indexed.
        wanted: documents.
    """
    within = {"attempted_at": {"$gte": since, "$lt": until}}
    with translated():
        counted = await database[collection].count_documents(within, limit=wanted + 1, maxTimeMS=QUERY_MS_MAX)
        if counted <= wanted:
            return None
        pilot = TimeSample(since=since, until=until, share=PILOT_SHARE)
        seen = await database[collection].count_documents(pilot.match(), maxTimeMS=QUERY_MS_MAX)
    return TimeSample(since=since, until=until, share=min(1.0, PILOT_SHARE * wanted / max(seen, 1)))
