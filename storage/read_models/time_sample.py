"""Short stretches spread evenly over a long time, so that a bounded number of documents stands for all of them."""

from __future__ import annotations

import math
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

OVER_MAX: Final = 2
"""So many times the documents wanted are read at most."""

TRIES_MAX: Final = 14
"""Lengths of stretches that are tried: enough to come from the pilot within 5 % of any share of 1/100,000 or more."""

GOLDEN: Final = 0.6180339887498949
"""Where in its part a stretch lies: multiples of it do not fall into step with what comes back every so often."""


class TimeSample(msgspec.Struct, frozen=True, kw_only=True):
    """Stretches of equal length, so that every document was as likely to be taken as any other.

    ``since`` and ``until``: from the first document to after the last. ``share``: of the time between that the
    stretches cover, 0 to 1. ``is_even`` is false where no length of stretches holds enough documents and not too many:
    so many lie in so short a time that stretches hold all of those or none, and what is seen says nothing of the rest.
    """

    since: datetime
    until: datetime
    share: float
    is_even: bool = True

    def match(self) -> Document:
        """The query for documents by ``attempted_at``."""
        if self.share >= 1:
            return {"attempted_at": {"$gte": self.since, "$lt": self.until}}
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
    """Choose stretches that hold about so many documents, and at most ``OVER_MAX`` times as many.

    Args:
        collection: one with ``attempted_at``, indexed.
        wanted: documents.
    Returns: None: there are so few that all can be read.
    """
    within = {"attempted_at": {"$gte": since, "$lt": until}}
    if await count_up_to(database, collection, within, wanted + 1) <= wanted:
        return None
    with translated():
        ends = [
            await database[collection].find_one(within, {"attempted_at": True}, sort=[("attempted_at", direction)])
            for direction in (1, -1)
        ]
    if None in ends:
        return None  # expired meanwhile
    first, last = (end["attempted_at"] for end in ends if end)
    return await _fitting(database, collection, first, last + timedelta(milliseconds=1), wanted)


async def _fitting(
    database: Database, collection: str, since: datetime, until: datetime, wanted: int
) -> TimeSample | None:
    """Try lengths; each is counted up to a bound only. A longer stretch holds all that a shorter one of it holds."""
    most = OVER_MAX * wanted
    share, too_short, too_long = PILOT_SHARE, 0.0, float("inf")
    for _ in range(TRIES_MAX):
        sample = TimeSample(since=since, until=until, share=share)
        seen = await count_up_to(database, collection, sample.match(), most + 1)
        if seen > most:
            too_long = share
            share = math.sqrt(too_short * too_long) if too_short else share / 8
        elif seen >= wanted / 2 and share < 1:
            return sample
        elif share >= 1:
            return None
        else:
            too_short = share
            share = min(1.0, share * wanted / max(seen, 1), math.sqrt(too_short * too_long))
        if too_long < 1.05 * too_short:
            break
    return TimeSample(since=since, until=until, share=too_short, is_even=False)


async def count_up_to(database: Database, collection: str, match: Document, limit: int) -> int:
    """How many documents match; of more than the limit, the limit."""
    with translated():
        return await database[collection].count_documents(match, limit=limit, maxTimeMS=QUERY_MS_MAX)
