"""Failures with their verdicts, and their sums per minute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
from pymongo import DESCENDING, InsertOne, ReplaceOne

from messaging.contracts import (
    STATUS_FINALITY,
    AttemptStatus,
    FailureClassified,
    FailuresClassified,
    RecordedAttempt,
)
from messaging.line import Outgoing
from ml.failures.codes import code_key
from storage.database import KEPT_SINCE, Database, Document
from storage.errors import StoreConflict, translated
from storage.failure_codes import CodeChange, CodeRow, write_code_changes
from storage.outbox import mark_consumed, write_outbox
from storage.rollups import Sums, write_sums

STAGE = "failure_classifier"

RECLASSIFIED_MAX: Final = 2_000
"""Failures that one correction classifies anew, the newest first; older ones keep the verdict of their time."""


class FailureState(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one attempt: the verdict in force, and which report of the attempt it comes from.

    Batches may come in another order than they were recorded in. ``failure`` is None when the last report that came
    says that the attempt did not fail; a verdict on an earlier report that comes later is then void.
    """

    failure: FailureClassified | None
    occurred_at: datetime | None
    status: AttemptStatus | None

    def is_older_than(self, attempt: RecordedAttempt) -> bool:
        """Tell whether an attempt says something newer, by the same rule as the ingestor's."""
        if self.occurred_at is None or self.status is None:
            return True
        mine = self.occurred_at, STATUS_FINALITY[self.status]
        return mine < (attempt.occurred_at, STATUS_FINALITY[attempt.status])


def concerns_failures(attempt: RecordedAttempt) -> bool:
    """Tell whether an attempt failed, or did before."""
    return "failed" in (attempt.status, attempt.status_previous)


class FailuresKnown(msgspec.Struct, frozen=True, kw_only=True):
    """What the store keeps about one batch of the classifier.

    ``states``: of the attempts of the batch and of the failures that its corrections are about, by attempt id.
    ``rows``: of the operators' table, for the codes of the batch and those corrected, by ``code_key``.
    """

    states: dict[str, FailureState] = {}
    rows: dict[str, CodeRow] = {}


async def find_failures(database: Database, attempt_ids: Iterable[str]) -> dict[str, FailureState]:
    """Read what is kept of these attempts, by attempt id."""
    with translated():
        cursor = database["failures"].find({"_id": {"$in": list(set(attempt_ids))}})
        return {document["_id"]: _state_of(document) async for document in cursor}


async def find_failures_of_code(database: Database, key: str) -> dict[str, FailureState]:
    """Read the newest failures with one code, by attempt id; what a correction of the code changes."""
    with translated():
        cursor = database["failures"].find({"code_key": key, "withdrawn": False}).sort("attempted_at", DESCENDING)
        return {document["_id"]: _state_of(document) async for document in cursor.limit(RECLASSIFIED_MAX)}


async def record_failures(  # one transaction: everything that one batch of the classifier changes
    database: Database,
    consumed: Sequence[str],
    attempts: Sequence[RecordedAttempt],
    classified: Sequence[FailuresClassified],
    changes: Sequence[CodeChange],
    outgoing: Sequence[Outgoing],
    known: FailuresKnown,
    *,
    now: datetime,
    slot: int,
) -> None:
    """Write verdicts, withdrawals, sums, changes of the code table, marks and the outbox: all or nothing.

    Args:
        database: where.
        consumed: ids of the messages that led to this.
        attempts: the attempts of these messages, in order.
        classified: what was decided, in order.
        changes: of the operators' table, in order.
        outgoing: the messages to publish once this is written.
        known: what was kept before, as it was read.
        now: the time of the batch.
        slot: which copy of the sums to add to.
    Raises: StoreConflict: another replica had one of these messages, attempts or rows first.
    """
    sums = Sums()
    states = known.states
    in_force = {attempt_id: state.failure for attempt_id, state in states.items() if state.failure is not None}
    documents: dict[str, Document] = {}
    for message in classified:
        for failure in message.failures:
            if before := in_force.get(failure.attempt_id):
                sums.add_failure(before, -1)
            in_force[failure.attempt_id] = failure
            sums.add_failure(failure)
            documents[failure.attempt_id] = failure_document(failure, now)
        for failure in message.withdrawn:
            if before := in_force.pop(failure.attempt_id, None):
                sums.add_failure(before, -1)
                documents[failure.attempt_id] = failure_document(before, now) | {"withdrawn": True}
    writes = _writes(attempts, documents, states, now)
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            await mark_consumed(database, STAGE, consumed, now=now, session=session)
            if writes:
                written = await database["failures"].bulk_write(writes, ordered=True, session=session)
                if written.matched_count != sum(isinstance(write, ReplaceOne) for write in writes):
                    raise StoreConflict("another replica had a report of one of these attempts first")
            await write_sums(database["failure_rollups"], sums, slot=slot, now=now, session=session)
            await write_code_changes(database, changes, now=now, session=session)
            if outgoing:
                await write_outbox(database, STAGE, outgoing, now=now, session=session)


def _writes(
    attempts: Sequence[RecordedAttempt],
    documents: Mapping[str, Document],
    known: Mapping[str, FailureState],
    now: datetime,
) -> list[InsertOne[Document] | ReplaceOne[Document]]:
    """One write per attempt that changed, by a report or a correction of its code; it fits only what was read."""
    latest: dict[str, RecordedAttempt] = {}
    for attempt in attempts:
        state = known.get(attempt.attempt_id)
        held = latest.get(attempt.attempt_id)
        is_newer = state is None or state.is_older_than(attempt)
        if concerns_failures(attempt) and is_newer and (held is None or _told(held).is_older_than(attempt)):
            latest[attempt.attempt_id] = attempt
    told = {attempt_id: (attempt.occurred_at, attempt.status) for attempt_id, attempt in latest.items()}
    for attempt_id in documents.keys() - latest.keys():  # classified anew, after no report
        state = known[attempt_id]
        assert state.occurred_at is not None
        assert state.status is not None
        told[attempt_id] = (state.occurred_at, state.status)
    writes: list[InsertOne[Document] | ReplaceOne[Document]] = []
    for attempt_id, (occurred_at, status) in told.items():
        # Without a verdict it says that the attempt did not fail after all, for a verdict that may come late.
        document = documents.get(attempt_id, {"_id": attempt_id, "withdrawn": True, KEPT_SINCE: now})
        document |= {"told_at": occurred_at, "told_status": status}
        state = known.get(attempt_id)
        if state is None:
            writes.append(InsertOne(document))
        else:
            read = {"_id": attempt_id, "told_at": state.occurred_at, "told_status": state.status}
            writes.append(ReplaceOne(read, document))
    return sorted(writes, key=lambda write: isinstance(write, ReplaceOne))  # one command for each kind


def _told(attempt: RecordedAttempt) -> FailureState:
    return FailureState(failure=None, occurred_at=attempt.occurred_at, status=attempt.status)


def _state_of(document: Document) -> FailureState:
    return FailureState(
        failure=None if document["withdrawn"] else failure_of(document),
        occurred_at=document.get("told_at"),
        status=document.get("told_status"),
    )


def failure_document(failure: FailureClassified, now: datetime) -> Document:
    """A verdict as it lies in MongoDB."""
    document: Document = msgspec.structs.asdict(failure)
    document["_id"] = document.pop("attempt_id")
    document["withdrawn"] = False
    document["code_key"] = code_key(failure.gateway, failure.failure_code, failure.failure_message)
    document[KEPT_SINCE] = now
    return document


def failure_of(document: Document) -> FailureClassified:
    """A verdict as it was read from MongoDB."""
    fields = {name: document[name] for name in FailureClassified.__struct_fields__ if name in document}
    return FailureClassified(attempt_id=document["_id"], **fields)
