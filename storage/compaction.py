"""Makes old sums coarser: minutes become hours, and hours become days, so that two years of them stay small.

Coarser sums have the shape of the finer ones; their ``minute`` is the start of the hour or day. Sums are *moved*: added
to the coarser document and deleted from the finer ones in one transaction, so that every reader at every moment finds
each attempt once. A correction that comes months later opens a document of its own minute, which moves in its turn.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from pymongo import UpdateOne

from config.settings import StoreSettings
from storage.database import KEPT_SINCE, Database, Document
from storage.errors import StoreConflict, translated
from storage.rollups import ATTEMPT_KEY, FAILURE_KEY

DOCUMENTS_MAX: Final = 20_000
"""Fine documents moved in one transaction; MongoDB's own limits are far beyond it."""

KINDS: Final = {"attempt_rollups": ATTEMPT_KEY, "failure_rollups": FAILURE_KEY}


class Level(msgspec.Struct, frozen=True):
    """A step from finer to coarser sums: names end so, and a period is so long."""

    finer: str
    coarser: str
    period: timedelta


LEVELS: Final = (Level("", "_hours", timedelta(hours=1)), Level("_hours", "_days", timedelta(days=1)))


async def compact(database: Database, settings: StoreSettings, now: datetime) -> int:
    """Move every sum that is old enough.

    Args:
        database: where.
        settings: how long minutes and hours are kept.
        now: the time.
    Returns: how many fine documents were moved.
    Raises: StoreUnavailable: what is not moved yet is moved the next time.
    """
    keeps = (timedelta(days=settings.minutes_keep_days), timedelta(days=settings.hours_keep_days))
    moved = 0
    for level, keep in zip(LEVELS, keeps, strict=True):
        before = start_of(now - keep, level.period)
        for kind in KINDS:
            while count := await _move_oldest(database, kind, level, before, now):
                moved += count
    return moved


def start_of(moment: datetime, period: timedelta) -> datetime:
    """The start of the hour or the day (UTC) that a moment lies in.

    >>> from datetime import UTC
    >>> start_of(datetime(2026, 3, 2, 12, 34, tzinfo=UTC), timedelta(hours=1)).isoformat()
    '2026-03-02T12:00:00+00:00'
    """
    return moment - (moment - moment.replace(hour=0, minute=0, second=0, microsecond=0)) % period


async def _move_oldest(database: Database, kind: str, level: Level, before: datetime, now: datetime) -> int:
    """Move documents of the oldest period. Returns: how many; 0 when nothing is old enough or somebody else moves."""
    finer, coarser = database[kind + level.finer], database[kind + level.coarser]
    with translated():
        oldest = await finer.find_one({"minute": {"$lt": before}}, {"minute": True}, sort=[("minute", 1)])
    if oldest is None:
        return 0
    start = start_of(oldest["minute"], level.period)
    try:
        with translated():
            async with database.client.start_session() as session, await session.start_transaction():
                query = {"minute": {"$gte": start, "$lt": start + level.period}}
                documents = await finer.find(query, session=session).limit(DOCUMENTS_MAX).to_list()
                writes = _additions(documents, KINDS[kind], start, now)
                await coarser.bulk_write(writes, ordered=False, session=session)
                await finer.delete_many({"_id": {"$in": [one["_id"] for one in documents]}}, session=session)
                return len(documents)
    except StoreConflict:
        return 0  # a late correction, or another process that compacts: the next time


def _additions(documents: list[Document], names: tuple[str, ...], start: datetime, now: datetime) -> list[UpdateOne]:
    """One update per coarser document."""
    sums: defaultdict[tuple[Any, ...], defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for document in documents:
        fields = sums[tuple(document[name] for name in names if name != "minute")]
        for field, amount in flat_sums(document, names):
            fields[field] += amount
    writes = []
    for key, fields in sums.items():
        rest = dict(zip((name for name in names if name != "minute"), key, strict=True))
        named = {"minute": start, **rest, "slot": 0}
        kept = {**named, KEPT_SINCE: now}
        # A document without any amount would be refused as an empty update; it adds nothing, and is left behind.
        update = {"$inc": dict(fields), "$setOnInsert": kept} if fields else {"$setOnInsert": kept}
        writes.append(UpdateOne({"_id": named}, update, upsert=True))
    return writes


def flat_sums(document: Document, names: tuple[str, ...]) -> list[tuple[str, int]]:
    """The amounts of one document of sums, nested ones by their path."""
    found: list[tuple[str, int]] = []
    for field, amount in document.items():
        if field in ("_id", "slot", KEPT_SINCE, *names):
            continue
        if isinstance(amount, dict):
            found += [(f"{field}.{inner}", count) for inner, count in amount.items()]
        else:
            found.append((field, amount))
    return found
