"""Sums per minute: what the pages and the workers read instead of single attempts.

Every replica adds to documents of its own (its *slot*), so that two transactions never touch the same sum; readers add
the slots together. A correction takes back what the attempt had added before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final
from zlib import crc32

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection

from messaging.contracts import FailureClassified, RecordedAttempt
from storage.database import KEPT_SINCE, Database, Document
from storage.errors import translated
from storage.writing import write_many

SLOTS: Final = 32
LATENCY_BUCKETS: Final = 40
LATENCY_FIRST_MS: Final = 10.0
LATENCY_GROWTH: Final = 1.25
"""Bucket i holds latencies from 10 * 1.25**i ms to 10 * 1.25**(i+1) ms: any quantile is right within 25 %."""

SUMS_AT_ONCE: Final = 1_000
"""Sums that come at a time where payments are answered meanwhile, so that the event loop is not held for long."""

ATTEMPT_KEY: Final = ("minute", "gateway", "method", "issuer", "currency")
FAILURE_KEY: Final = ("minute", "gateway", "category", "currency")


_LATENCY_ENDS: Final = tuple(LATENCY_FIRST_MS * LATENCY_GROWTH**bucket for bucket in range(1, LATENCY_BUCKETS))
_LATENCY_FIELDS: Final = tuple(f"latency.{bucket}" for bucket in range(LATENCY_BUCKETS))

Key = tuple[Any, ...]
"""Names one sum: the values of ``ATTEMPT_KEY`` or ``FAILURE_KEY``."""


def slot_of(instance: str) -> int:
    """The slot of one replica."""
    return crc32(instance.encode()) % SLOTS


def slots_of(instance: str, count: int) -> list[int]:
    """The slots of one replica that adds from several transactions at once.

    >>> len(set(slots_of("ingestor-a-1", 4)))
    4
    """
    return [(slot_of(instance) + SLOTS // count * place) % SLOTS for place in range(count)]


def latency_bucket(latency_ms: float) -> int:
    """The bucket of a latency.

    >>> latency_bucket(3), latency_bucket(10), latency_bucket(12.5), latency_bucket(1e9)
    (0, 0, 1, 39)
    """
    return bisect_right(_LATENCY_ENDS, latency_ms)


def minute_of(moment: datetime) -> datetime:
    """The minute that a moment lies in."""
    return moment.replace(second=0, microsecond=0)


class Sums:
    """What a batch adds to the sums: per key, amounts by field. Adding again with ``times=-1`` takes back."""

    def __init__(self) -> None:
        self._by_key: defaultdict[Key, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))

    def add_attempt(self, attempt: RecordedAttempt, times: int = 1) -> None:
        """Count one attempt under (minute, gateway, method, issuer, currency)."""
        key = (minute_of(attempt.attempted_at), attempt.gateway, attempt.method, attempt.issuer, attempt.currency)
        fields = self._by_key[key]
        amount = times * attempt.amount_minor
        fields["attempts"] += times
        fields[attempt.status] += times
        fields["amount_minor"] += amount
        succeeded = attempt.status == "succeeded"
        if succeeded:
            fields["amount_succeeded_minor"] += amount
        if attempt.attempt_number == 1:
            fields["first_attempts"] += times
            if succeeded:
                fields["first_succeeded"] += times
        if attempt.latency_ms is not None:
            fields[_LATENCY_FIELDS[latency_bucket(attempt.latency_ms)]] += times

    def add_failure(self, failure: FailureClassified, times: int = 1) -> None:
        """Count one failure under (minute, gateway, category, currency)."""
        fields = self._by_key[minute_of(failure.attempted_at), failure.gateway, failure.category, failure.currency]
        fields["failures"] += times
        fields["amount_minor"] += times * failure.amount_minor

    def by_key(self) -> dict[Key, dict[str, int]]:
        """The amounts that are not zero, by key and field."""
        kept = {
            key: {name: amount for name, amount in fields.items() if amount} for key, fields in self._by_key.items()
        }
        return {key: fields for key, fields in kept.items() if fields}


async def write_sums(
    collection: AsyncCollection[Document], sums: Sums, *, slot: int, now: datetime, session: AsyncClientSession
) -> None:
    """Add sums to their documents, inside the caller's transaction."""
    names = ATTEMPT_KEY if collection.name == "attempt_rollups" else FAILURE_KEY
    writes = []
    for key, fields in sums.by_key().items():
        named = dict(zip(names, key, strict=True)) | {"slot": slot}
        update = {"$inc": fields, "$setOnInsert": {**named, KEPT_SINCE: now}}
        writes.append({"q": {"_id": named}, "u": update, "upsert": True})
    await write_many(collection, "update", writes, ordered=False, session=session)


async def read_minutes(database: Database, since: datetime, *, limit: int = 500_000) -> AsyncIterator[Document]:
    """Read attempt sums from a minute on, slot by slot, oldest first: for workers that start warm."""
    with translated():
        found = database["attempt_rollups"].find({"minute": {"$gte": since}}, limit=limit, batch_size=SUMS_AT_ONCE)
        async for document in found.sort("minute", 1):
            yield document


async def count_first_attempts(database: Database, since: datetime) -> dict[str, int]:
    """First attempts of orders from a moment on, by gateway."""
    pipeline: list[Document] = [
        {"$match": {"minute": {"$gte": since}}},
        {"$group": {"_id": "$gateway", "count": {"$sum": "$first_attempts"}}},
    ]
    with translated():
        cursor = await database["attempt_rollups"].aggregate(pipeline)
        return {document["_id"]: int(document["count"]) async for document in cursor}


async def attempts_by_minute(database: Database, since: datetime) -> list[tuple[datetime, int]]:
    """Attempts of every minute from a moment on that had some, oldest first."""
    pipeline: list[Document] = [
        {"$match": {"minute": {"$gte": since}}},
        {"$group": {"_id": "$minute", "count": {"$sum": "$attempts"}}},
        {"$sort": {"_id": 1}},
    ]
    with translated():
        cursor = await database["attempt_rollups"].aggregate(pipeline)
        return [(document["_id"], int(document["count"])) async for document in cursor]


async def read_sums(database: Database, since: datetime, *, minutes: int = 10) -> AsyncIterator[Document]:
    """Read attempt sums from a moment on, added up by the store over some minutes: a day within a second.

    Each document has ``since``, ``seconds``, gateway, method, issuer, the sums, and ``latency`` as a list by bucket.
    """
    sums: Document = {name: {"$sum": f"${name}"} for name in ("succeeded", "failed", "first_attempts")}
    buckets = {f"latency_{bucket}": {"$sum": f"$latency.{bucket}"} for bucket in range(LATENCY_BUCKETS)}
    span = {"$dateTrunc": {"date": "$minute", "unit": "minute", "binSize": minutes}}
    key = {"since": span, "gateway": "$gateway", "method": "$method", "issuer": "$issuer"}
    pipeline: list[Document] = [
        {"$match": {"minute": {"$gte": minute_of(since)}}},
        {"$group": {"_id": key, **sums, **buckets}},
    ]
    with translated():
        async for document in await database["attempt_rollups"].aggregate(pipeline, allowDiskUse=True):
            latency = [document.pop(name) for name in buckets]
            yield {**document, **document.pop("_id"), "seconds": minutes * 60.0, "latency": latency}
