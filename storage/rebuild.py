"""Recomputes what is derived from single attempts, period by period, while the system runs.

Each period is one transaction that reads the attempts and replaces their sums or verdicts. A worker that writes to the
same sums meanwhile makes it a conflict, and the period is done again; one that adds sums of attempts that this
transaction does not see adds them in documents that it does not touch. So nothing is missed and nothing counts twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec
from bson import MaxKey, MinKey
from pymongo import ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession

from config.settings import StoreSettings
from messaging.contracts import FailureClassified, RecordedAttempt
from storage.attempts import STRETCH, attempt_state
from storage.compaction import LEVELS, start_of
from storage.database import BY_CUSTOMER, Database, Document
from storage.errors import StoreConflict, StoreRefused, translated
from storage.failures import failure_document, failure_of
from storage.rollups import SLOTS, Sums, write_sums

MINUTE: Final = timedelta(minutes=1)
ATTEMPTS_MAX: Final = 1_000_000
"""Attempts in one period; more would outlast a transaction."""

TRIES_MAX: Final = 50
BY_CUSTOMER_BEFORE: Final = "customer_id_1_attempted_at_-1"
REST_MAX: Final = 100_000
"""Attempts outside the periods that one call looks after: a quarter of a minute on two cores."""

REST_AT_ONCE: Final = 5_000
STRETCH_STORED: Final = {
    "$toInt": {"$floor": {"$divide": [{"$toLong": "$attempted_at"}, STRETCH // timedelta(milliseconds=1)]}}
}
REBUILT_SLOT: Final = SLOTS
"""Sums that were rebuilt lie in a slot of their own, which no worker adds to."""

Classify = Callable[[Sequence[RecordedAttempt], datetime], Sequence[FailureClassified]]


class Progress(msgspec.Struct, frozen=True):
    """One period is done."""

    start: datetime
    end: datetime
    attempts: int


class CustomersRest(msgspec.Struct, frozen=True):
    """``left``: attempts that their customers do not find yet, at most as many as one call looks after.

    ``index_before``: what became of the index that found them before there were stretches; None: it was not there.
    """

    left: int
    index_before: Literal["dropped", "kept"] | None


def periods(
    since: datetime, until: datetime, settings: StoreSettings, now: datetime
) -> list[tuple[datetime, datetime]]:
    """Cut a range into periods, each as long as its sums are coarse; the ends are widened to whole periods.

    Args:
        since: the start, inclusive.
        until: the end, exclusive; what lies after ``now`` is left out.
        settings: how long minutes, hours and single attempts are kept.
        now: the time.
    Raises: StoreRefused: the range is empty, or older than the single attempts that are kept.
    """
    until = min(until, now + MINUTE)
    if since >= until:
        raise StoreRefused("the range is empty: --since must lie before --until, and before now")
    if since < now - timedelta(days=settings.attempts_keep_days):
        raise StoreRefused(
            f"single attempts are kept for {settings.attempts_keep_days} days (store.attempts_keep_days); what was "
            "summed before that cannot be computed again"
        )
    coarse_before = [
        (start_of(now - timedelta(days=settings.hours_keep_days), LEVELS[1].period), LEVELS[1].period),
        (start_of(now - timedelta(days=settings.minutes_keep_days), LEVELS[0].period), LEVELS[0].period),
    ]
    found, moment = [], since
    while moment < until:
        period = next((period for before, period in coarse_before if moment < before), MINUTE)
        start = start_of(moment, period)
        moment = start + period
        found.append((start, moment))
    return found


async def rebuild_rollups(
    database: Database, spans: Sequence[tuple[datetime, datetime]], now: datetime
) -> AsyncIterator[Progress]:
    """Compute the sums of attempts again from the attempts."""

    async def one(start: datetime, end: datetime, session: AsyncClientSession) -> int:
        sums, count = Sums(), 0
        async for attempt in _attempts(database, {"$gte": start, "$lt": end}, session):
            sums.add_attempt(attempt)
            count += 1
        await _forget_sums(database, "attempt_rollups", start, end, session)
        await write_sums(database["attempt_rollups"], sums, slot=REBUILT_SLOT, now=now, session=session)
        return count

    async for progress in _each(database, spans, one):
        yield progress


async def rebuild_failures(
    database: Database, spans: Sequence[tuple[datetime, datetime]], classify: Classify, now: datetime
) -> AsyncIterator[Progress]:
    """Classify the failed attempts again, with what is known today, and compute the sums of failures again.

    A verdict on an attempt that does not stand as failed any more is withdrawn.
    """

    async def one(start: datetime, end: datetime, session: AsyncClientSession) -> int:
        between = {"$gte": start, "$lt": end}
        attempts = {one.attempt_id: one async for one in _attempts(database, between, session, status="failed")}
        sums, writes = Sums(), []
        for failure in classify(list(attempts.values()), now):
            sums.add_failure(failure)
            attempt = attempts[failure.attempt_id]
            told = {"told_at": attempt.occurred_at, "told_status": attempt.status}
            document = failure_document(failure, now) | told
            writes.append(ReplaceOne({"_id": document["_id"]}, document, upsert=True))
        if writes:
            await database["failures"].bulk_write(writes, ordered=False, session=session)
        stale = {"attempted_at": between, "withdrawn": False, "_id": {"$nin": list(attempts)}}
        await database["failures"].update_many(stale, {"$set": {"withdrawn": True}}, session=session)
        await _forget_sums(database, "failure_rollups", start, end, session)
        await write_sums(database["failure_rollups"], sums, slot=REBUILT_SLOT, now=now, session=session)
        return len(attempts)

    async for progress in _each(database, spans, one):
        yield progress


async def rebuild_customers(database: Database, spans: Sequence[tuple[datetime, datetime]]) -> AsyncIterator[Progress]:
    """Note of each attempt of a known customer in which stretch of time it began, so that its customer finds it.

    Attempts that were stored before there were stretches lack that. ``finish_customers`` does those outside periods.
    """
    for start, end in spans:
        query = {"attempted_at": {"$gte": start, "$lt": end}, "customer_id": {"$exists": True}}
        with translated():
            done = await database["attempts"].update_many(query, [{"$set": {"customer_stretch": STRETCH_STORED}}])
        yield Progress(start, end, done.matched_count)


async def finish_customers(database: Database, *, rest_max: int = REST_MAX) -> CustomersRest:
    """Do the same for attempts that no period can hold: stamped ahead of now, or older than attempts are kept.

    Once none is left, the index that found them before, and was written all over for new ones, is dropped.
    """
    attempts = database["attempts"]
    with translated():
        await attempts.create_index(BY_CUSTOMER, sparse=True)  # there already if a worker of this version ever started
    rest = await _without_stretch(database, rest_max)
    for start in range(0, len(rest), REST_AT_ONCE):
        some = {"_id": {"$in": rest[start : start + REST_AT_ONCE]}}
        with translated():
            await attempts.update_many(some, [{"$set": {"customer_stretch": STRETCH_STORED}}])
    left = len(await _without_stretch(database, rest_max))
    with translated():
        if BY_CUSTOMER_BEFORE not in await attempts.index_information():
            return CustomersRest(left, None)
        if left:
            return CustomersRest(left, "kept")
        await attempts.drop_index(BY_CUSTOMER_BEFORE)
    return CustomersRest(0, "dropped")


async def _without_stretch(database: Database, limit: int) -> list[str]:
    """Ids of attempts whose customer is known, but not their stretch.

    They lie first in the index by customer. MongoDB asks a sparse index for what is not there only within bounds that
    are named; without these it reads every attempt.
    """
    first: list[tuple[str, Any]] = [("customer_stretch", None), ("customer_id", MinKey())]
    last: list[tuple[str, Any]] = [("customer_stretch", None), ("customer_id", MaxKey())]
    with translated():
        cursor = database["attempts"].find({}, {"_id": True}).hint(BY_CUSTOMER).min(first).max(last)
        return [document["_id"] async for document in cursor.limit(limit)]


async def read_attempts(database: Database, start: datetime, end: datetime) -> list[RecordedAttempt]:
    """The attempts that began in a period, as they stand now.

    Raises: StoreRefused: there are more than ``ATTEMPTS_MAX``.
    """
    with translated():
        return [one async for one in _attempts(database, {"$gte": start, "$lt": end}, None)]


async def read_failures(database: Database, start: datetime, end: datetime) -> list[FailureClassified]:
    """The verdicts in force on the attempts that began in a period."""
    query = {"attempted_at": {"$gte": start, "$lt": end}, "withdrawn": False}
    with translated():
        return [failure_of(document) async for document in database["failures"].find(query).limit(ATTEMPTS_MAX)]


async def _each(
    database: Database,
    spans: Sequence[tuple[datetime, datetime]],
    act: Callable[[datetime, datetime, AsyncClientSession], Awaitable[int]],
) -> AsyncIterator[Progress]:
    for start, end in spans:
        for _ in range(TRIES_MAX):
            try:
                with translated():
                    async with database.client.start_session() as session, await session.start_transaction():
                        attempts = await act(start, end, session)
                break
            except StoreConflict:
                await asyncio.sleep(random.uniform(0, 0.2))
        else:
            raise StoreConflict(f"the sums of {start:%Y-%m-%d %H:%M} change all the time; try again when it is quieter")
        yield Progress(start, end, attempts)


async def _attempts(
    database: Database, between: Document, session: AsyncClientSession | None, *, status: str | None = None
) -> AsyncIterator[RecordedAttempt]:
    query: Document = {"attempted_at": between} | ({"status": status} if status else {})
    count = 0
    async for document in database["attempts"].find(query, session=session).batch_size(5_000):
        count += 1
        if count > ATTEMPTS_MAX:
            raise StoreRefused(f"more than {ATTEMPTS_MAX} attempts lie in one period of the range: too many to rebuild")
        yield attempt_state(document).attempt


async def _forget_sums(
    database: Database, kind: str, start: datetime, end: datetime, session: AsyncClientSession
) -> None:
    for name in (kind, *(kind + level.coarser for level in LEVELS)):
        await database[name].delete_many({"minute": {"$gte": start, "$lt": end}}, session=session)
