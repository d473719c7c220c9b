"""Short stretches spread evenly over a long time, so that a bounded number of documents stands for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from storage.database import Database, Document
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX

STRETCHES: Final = 96
"""So many parts of equal length, with one stretch in each: a quarter of an hour each in a day."""

PILOT_SHARE: Final = 1 / 200
"""Of the time, looked at first to know how dense the documents are."""

OVER_MAX: Final = 2.0
"""So many times the documents wanted are read at most, unless the reader says another."""

TRIES_MAX: Final = 14
"""Lengths of stretches that are tried: enough to come from the pilot within 5 % of any share of 1/100,000 or more."""

GOLDEN: Final = 0.6180339887498949
"""Where in its part a stretch lies: multiples of it do not fall into step with what comes back every so often."""


class TimeSample(msgspec.Struct, frozen=True, kw_only=True):
    """Stretches of equal length, so that every document was as likely to be taken as any other.

    ``since`` and ``until``: from the first document to after the last. ``share``: of the time between that the
    stretches cover, 0 to 1. ``stretches``: how many there are. ``is_even`` is false where no length of stretches holds
    enough documents and not too many: so many lie in so short a time that stretches hold all of those or none, and what
    is seen says nothing of the rest.
    """

    since: datetime
    until: datetime
    share: float
    is_even: bool = True
    stretches: int = STRETCHES

    def match(self) -> Document:
        """The query for documents by ``attempted_at``."""
        if self.share >= 1:
            return {"attempted_at": {"$gte": self.since, "$lt": self.until}}
        return {"$or": [{"attempted_at": {"$gte": start, "$lt": end}} for start, end in self._spans()]}

    def _spans(self) -> Iterator[tuple[datetime, datetime]]:
        """The stretches by time. One that is over the end of its part goes on at its beginning, in two pieces: kept
        within, the ends of parts (each full hour, say) would be in fewer stretches than what lies between."""
        part = (self.until - self.since) / self.stretches
        for number in range(self.stretches):
            begin, end = self.since + part * number, self.since + part * (number + 1)
            start = begin + part * (number * GOLDEN % 1.0)
            stop = start + part * self.share
            if stop > end:
                yield begin, begin + (stop - end)
            yield start, min(stop, end)

    def number(self) -> Any:
        """The expression that tells the stretch of a document, 0 to ``stretches`` - 1."""
        part_ms = (self.until - self.since) / timedelta(milliseconds=1) / self.stretches
        return {"$floor": {"$divide": [{"$subtract": ["$attempted_at", self.since]}, part_ms]}}


class Size(NamedTuple):
    """How large a sample is to be: documents wanted, so many times as many at most, and how many stretches."""

    wanted: int
    over_max: float = OVER_MAX
    stretches: int = STRETCHES


async def sample_of(
    database: Database, collection: str, since: datetime, until: datetime, size: Size
) -> TimeSample | None:
    """Choose stretches that hold about as many documents as are wanted, and never more than the most of ``size``.

    Args:
        database: the store.
        collection: one with ``attempted_at``, indexed.
        since: the start of the time.
        until: its end; does not count itself.
        size: of the sample.
    Returns: None: there are so few that all can be read.
    """
    within = {"attempted_at": {"$gte": since, "$lt": until}}
    if await count_up_to(database, collection, within, size.wanted + 1) <= size.wanted:
        return None
    with translated():
        ends = [
            await database[collection].find_one(within, {"attempted_at": True}, sort=[("attempted_at", direction)])
            for direction in (1, -1)
        ]
    if None in ends:
        return None  # expired meanwhile
    first, last = (end["attempted_at"] for end in ends if end)
    return await _fitting(database, collection, first, last + timedelta(milliseconds=1), size)


async def _fitting(
    database: Database, collection: str, since: datetime, until: datetime, size: Size
) -> TimeSample | None:
    """Try lengths; each is counted up to a bound only. A longer stretch holds all that a shorter one of it holds."""
    wanted, most = size.wanted, int(size.over_max * size.wanted)
    share, too_short, too_long = PILOT_SHARE, 0.0, float("inf")
    for _ in range(TRIES_MAX):
        sample = TimeSample(since=since, until=until, share=share, stretches=size.stretches)
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
    return TimeSample(since=since, until=until, share=too_short, is_even=False, stretches=size.stretches)


async def count_up_to(database: Database, collection: str, match: Document, limit: int) -> int:
    """How many documents match; of more than the limit, the limit."""
    with translated():
        return await database[collection].count_documents(match, limit=limit, maxTimeMS=QUERY_MS_MAX)
