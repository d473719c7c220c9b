"""Single attempts: the latest ones, and the whole story of one."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final, get_args

import msgspec

from messaging.contracts import (
    Anomaly,
    AttemptStatus,
    ExcludedGateway,
    FailureClassified,
    PreviousFailure,
    RankedGateway,
)
from storage.attempts import EARLIEST, LATEST, stretches
from storage.database import Database
from storage.errors import translated
from storage.read_models.anomalies import read_covering
from storage.read_models.measures import QUERY_MS_MAX, read_as

STATUSES: Final[tuple[str, ...]] = get_args(AttemptStatus)
LATEST_MAX: Final = 50
OF_ORDER_MAX: Final = 50
HISTORY_MAX: Final = 200
ID_LENGTH_MAX: Final = 80


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One report of an attempt by its checkout."""

    event_id: str
    status: str
    occurred_at: datetime
    received_at: datetime | None = None


class StoredAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt as it stands in the store."""

    attempt_id: str = msgspec.field(name="_id")
    order_id: str
    gateway: str
    method: str
    status: str
    amount_minor: int
    currency: str
    attempted_at: datetime
    occurred_at: datetime
    issuer: str = "unknown"
    network: str | None = None
    country: str | None = None
    customer_id: str | None = None
    latency_ms: float | None = None
    attempt_number: int = 1
    failure_code: str | None = None
    failure_message: str | None = None
    decision_id: str | None = None
    history: list[Report] = []


class DecisionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkout asked the router."""

    request_id: str
    order_id: str
    method: str
    amount_minor: int
    currency: str
    requested_at: datetime
    deadline_ms: int = 200
    issuer: str = "unknown"
    network: str | None = None
    country: str | None = None
    attempt_number: int = 1
    candidates: list[str] = []
    previous_failures: list[PreviousFailure] = []


class DecisionAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """What the router answered."""

    advised_at: datetime
    ranking: list[RankedGateway]
    policy: str
    reason: str
    exploring: bool = False
    excluded: list[ExcludedGateway] = []
    experiment: str | None = None
    arm: str | None = None
    allocation_version: str | None = None
    policy_version: str | None = None
    model_version: int | None = None
    rule: str | None = None
    runner_up: str | None = None
    runner_up_needs: float | None = None
    valid_until: datetime | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A question to the router with its answer."""

    decision_id: str = msgspec.field(name="_id")
    request: DecisionRequest
    advice: DecisionAdvice
    decided_at: datetime


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of one attempt."""

    attempt: StoredAttempt
    decision: Decision | None
    failure: FailureClassified | None
    failure_withdrawn: bool
    anomalies: list[Anomaly]
    of_order: list[StoredAttempt]


class AttemptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which attempts; None: whatever they have there.

    Attributes:
        amount_minor_min, amount_minor_max: both ends count.
        since, until: when they were attempted; the end does not count.
    """

    status: str | None = None
    gateway: str | None = None
    method: str | None = None
    issuer: str | None = None
    network: str | None = None
    country: str | None = None
    currency: str | None = None
    failure_code: str | None = None
    order_id: str | None = None
    customer_id: str | None = None
    amount_minor_min: int | None = None
    amount_minor_max: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def query(self) -> dict[str, Any]:
        """As MongoDB wants it; every value only ever compared with, never an operator."""
        ranges: dict[str, dict[str, Any]] = {
            "amount_minor": {"$gte": self.amount_minor_min, "$lte": self.amount_minor_max},
            "attempted_at": {"$gte": self.since, "$lt": self.until},
        }
        apart = {"amount_minor_min", "amount_minor_max", "since", "until"}
        equal = {name: {"$eq": getattr(self, name)} for name in self.__struct_fields__ if name not in apart}
        bounds = {name: {key: end for key, end in ends.items() if end is not None} for name, ends in ranges.items()}
        wanted = {name: match for name, match in equal.items() if match["$eq"] is not None}
        return wanted | {name: ends for name, ends in bounds.items() if ends}


EVERY: Final = AttemptFilter()


async def read_latest(
    database: Database,
    wanted: AttemptFilter = EVERY,
    *,
    before: tuple[datetime, str] | None = None,
    limit: int = LATEST_MAX,
) -> list[StoredAttempt]:
    """The latest attempts, newest first.

    Args:
        database: where.
        wanted: which.
        before: only what follows the attempt with this time and id.
        limit: most attempts.
    Raises: StoreUnavailable: also when so few of very many fit that the search takes too long.
    """
    query = wanted.query()
    if wanted.customer_id is not None and wanted.order_id is None:
        query["customer_stretch"] = stretches(wanted.since or EARLIEST, wanted.until or LATEST)
    if before is not None:
        at, attempt_id = before
        follows = {"$or": [{"attempted_at": {"$lt": at}}, {"attempted_at": at, "_id": {"$lt": attempt_id}}]}
        query = {"$and": [query, {"attempted_at": {"$lte": at}}, follows]}
    with translated():
        cursor = database["attempts"].find(query, {"history": 0})
        cursor = cursor.sort([("attempted_at", -1), ("_id", -1)]).limit(limit)
        documents = await cursor.max_time_ms(QUERY_MS_MAX).to_list()
    return [read_as(document, StoredAttempt, "attempts") for document in documents]


async def find_ids(database: Database, text: str) -> list[StoredAttempt]:
    """The attempt with this id, or every attempt of the order with this id, oldest first."""
    if not text or len(text) > ID_LENGTH_MAX:
        return []
    with translated():
        found = await database["attempts"].find_one({"_id": {"$eq": text}}, {"history": 0})
    return [read_as(found, StoredAttempt, "attempts")] if found else await _of_order(database, text)


async def read_story(database: Database, attempt_id: str) -> Story | None:
    """The whole story of an attempt; None: there is no such attempt."""
    if not attempt_id or len(attempt_id) > ID_LENGTH_MAX:
        return None
    with translated():
        document = await database["attempts"].find_one(
            {"_id": {"$eq": attempt_id}}, {"history": {"$slice": -HISTORY_MAX}}
        )
    if document is None:
        return None
    attempt = read_as(document, StoredAttempt, "attempts")
    with translated():
        decision, failure, anomalies, of_order = await asyncio.gather(
            _by_id(database, "decisions", attempt.decision_id),
            _by_id(database, "failures", attempt_id),
            read_covering(
                database, attempt.attempted_at, gateway=attempt.gateway, method=attempt.method, issuer=attempt.issuer
            ),
            _of_order(database, attempt.order_id),
        )
    return Story(
        attempt=attempt,
        decision=None if decision is None else read_as(decision, Decision, "decisions"),
        failure=None if failure is None or "category" not in failure else _failure(failure),
        failure_withdrawn=bool(failure and failure.get("withdrawn")),
        anomalies=anomalies,
        of_order=of_order,
    )


def _failure(document: dict[str, Any]) -> FailureClassified:
    return read_as({"attempt_id": document["_id"], **document}, FailureClassified, "failures")


async def _by_id(database: Database, collection: str, wanted: str | None) -> dict[str, Any] | None:
    return None if wanted is None else await database[collection].find_one({"_id": {"$eq": wanted}})


async def _of_order(database: Database, order_id: str) -> list[StoredAttempt]:
    with translated():
        cursor = database["attempts"].find({"order_id": {"$eq": order_id}}, {"history": 0})
        documents = await cursor.sort("attempted_at", 1).limit(OF_ORDER_MAX).max_time_ms(QUERY_MS_MAX).to_list()
    return [read_as(document, StoredAttempt, "attempts") for document in documents]
