"""Attempts as they stand, with their history; written in one transaction with their sums and the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from pymongo.asynchronous.client_session import AsyncClientSession

from messaging.contracts import AttemptStatus, RecordedAttempt
from messaging.line import Outgoing
from storage.database import KEPT_SINCE, KEPT_TYPES, Database, Document
from storage.errors import StoreConflict, translated
from storage.outbox import write_outbox
from storage.rollups import Sums, write_sums
from storage.writing import write_many

STRETCH: Final = timedelta(hours=2)
"""An attempt of a known customer keeps in which stretch of time it began (``customer_stretch``), and the index that
finds a customer's attempts has that first. So new attempts are written into the pages of this stretch only, and cost no
more at ten million stored than at a hundred thousand; a search looks into each stretch that holds attempts."""

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)


class ReportEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One report in an attempt's history."""

    event_id: str
    status: AttemptStatus
    occurred_at: datetime
    received_at: datetime


class AttemptState(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt as it stands after ``revision`` changes."""

    attempt: RecordedAttempt
    history: tuple[ReportEntry, ...]
    revision: int


class AttemptChange(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch does to one attempt; ``before`` is None for a new one."""

    before: AttemptState | None
    after: AttemptState


async def find_attempts(database: Database, attempt_ids: Iterable[str]) -> dict[str, AttemptState]:
    """Read the attempts that are stored already, by id."""
    with translated():
        cursor = database["attempts"].find({"_id": {"$in": list(set(attempt_ids))}})
        return {document["_id"]: attempt_state(document) async for document in cursor}


async def record_changes(
    database: Database, changes: Sequence[AttemptChange], outgoing: Sequence[Outgoing], *, now: datetime, slot: int
) -> None:
    """Write changed attempts, their sums per minute, and the outbox entry: all or nothing.

    Args:
        database: where.
        changes: at most one per attempt.
        outgoing: the messages to publish once this is written; the first one's id names the outbox entry.
        now: the time of the batch.
        slot: which copy of the sums to add to; replicas with different slots never wait for each other.
    Raises:
        StoreConflict: another replica changed one of these attempts; load, handle and store again.
        StoreUnavailable: nothing was written, or it is not known whether it was: the same.
    """
    sums = Sums()
    for change in changes:
        if change.before is not None:
            sums.add_attempt(change.before.attempt, -1)
        sums.add_attempt(change.after.attempt)
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            await _write_attempts(database, changes, session)
            await write_sums(database["attempt_rollups"], sums, slot=slot, now=now, session=session)
            if outgoing:
                await write_outbox(database, "ingestor", outgoing, now=now, session=session)


async def _write_attempts(database: Database, changes: Sequence[AttemptChange], session: AsyncClientSession) -> None:
    inserts: list[Document] = []
    updates: list[Document] = []
    for change in changes:
        document = attempt_document(change.after)
        if change.before is None:
            inserts.append(document)
        else:
            updates.append({"q": {"_id": document["_id"], "revision": change.before.revision}, "u": document})
    attempts = database["attempts"]
    await write_many(attempts, "insert", inserts, ordered=True, session=session)
    if await write_many(attempts, "update", updates, ordered=True, session=session) != len(updates):
        raise StoreConflict("another replica corrected one of these attempts first")


def attempt_document(state: AttemptState) -> Document:
    """An attempt as it lies in MongoDB. What is not known of it is left out, but for what queries ask for."""
    attempt = state.attempt
    document: Document = {
        "_id": attempt.attempt_id, "issuer": attempt.issuer, "attempt_number": attempt.attempt_number
    }  # fmt: skip
    document.update(msgspec.to_builtins(attempt, builtin_types=KEPT_TYPES))  # without what is as it usually is
    del document["attempt_id"]
    document.pop("status_previous", None)
    document["history"] = [*msgspec.to_builtins(state.history, builtin_types=KEPT_TYPES)]
    document["revision"] = state.revision
    if attempt.customer_id is not None:
        document["customer_stretch"] = stretch_of(attempt.attempted_at)
    document[KEPT_SINCE] = state.history[0].received_at
    return document


def stretch_of(moment: datetime) -> int:
    """The stretch of time a moment lies in, counted from 1970.

    >>> stretch_of(datetime.fromisoformat("1970-01-02T01:59+00:30"))
    12
    """
    return int(moment.timestamp() // STRETCH.total_seconds())


def stretches(since: datetime = EARLIEST, until: datetime = LATEST) -> dict[str, int]:
    """Every stretch that ``since`` to ``until`` touches, as MongoDB wants it.

    A range: the index is looked up once or twice for each stretch in it that holds attempts, so one that a wrong clock
    put far off costs as little as any. A list would grow with the time between.

    >>> stretches(datetime.fromisoformat("1970-01-01T01:59Z"), datetime.fromisoformat("1970-01-01T02:00Z"))
    {'$gte': 0, '$lte': 1}
    """
    return {"$gte": stretch_of(since), "$lte": stretch_of(until)}


def recorded_attempt(document: Mapping[str, Any]) -> RecordedAttempt:
    """An attempt as it was read from MongoDB; what is stored was checked when it came, and is taken as it is."""
    fields = {name: document[name] for name in RecordedAttempt.__struct_fields__ if name in document}
    return RecordedAttempt(attempt_id=document["_id"], **fields)


def attempt_state(document: Mapping[str, Any]) -> AttemptState:
    """The same with its history."""
    return AttemptState(
        attempt=recorded_attempt(document),
        history=tuple(ReportEntry(**entry) for entry in document["history"]),
        revision=document["revision"],
    )
