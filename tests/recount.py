"""Counts once more, from single attempts, what the system keeps as sums."""

from __future__ import annotations

from collections import Counter
from typing import Any

from messaging.contracts import FailureClassified, RecordedAttempt
from storage.attempts import attempt_state
from storage.database import Database
from storage.failures import failure_of
from storage.rollups import ATTEMPT_KEY, FAILURE_KEY, Sums, latency_bucket, minute_of


def attempt_adds(attempt: RecordedAttempt) -> Counter[Any]:
    """What one attempt adds, by (key, field): written anew here, so that it checks what the product does."""
    key = (minute_of(attempt.attempted_at), attempt.gateway, attempt.method, attempt.issuer, attempt.currency)
    succeeded, first = attempt.status == "succeeded", attempt.attempt_number == 1
    adds = Counter({(key, "attempts"): 1, (key, attempt.status): 1, (key, "amount_minor"): attempt.amount_minor})
    adds[key, "amount_succeeded_minor"] = attempt.amount_minor * succeeded
    adds[key, "first_attempts"] = int(first)
    adds[key, "first_succeeded"] = int(first and succeeded)
    if attempt.latency_ms is not None:
        adds[key, f"latency.{latency_bucket(attempt.latency_ms)}"] = 1
    return without_zeros(adds)


def failure_adds(failure: FailureClassified) -> Counter[Any]:
    """What one failure adds, by (key, field)."""
    key = (minute_of(failure.attempted_at), failure.gateway, failure.category, failure.currency)
    return without_zeros(Counter({(key, "failures"): 1, (key, "amount_minor"): failure.amount_minor}))


def flat(sums: Sums) -> Counter[Any]:
    """Sums of the product by (key, field)."""
    return Counter({(key, field): amount for key, fields in sums.by_key().items() for field, amount in fields.items()})


def without_zeros(sums: Counter[Any]) -> Counter[Any]:
    """The same without what adds up to nothing."""
    return Counter({key: amount for key, amount in sums.items() if amount})


async def attempt_rollups(database: Database) -> Counter[Any]:
    """The stored sums of attempts over all slots, without zeros."""
    return await _stored_sums(database, "attempt_rollups", ATTEMPT_KEY)


async def failure_rollups(database: Database) -> Counter[Any]:
    """The stored sums of failures over all slots, without zeros."""
    return await _stored_sums(database, "failure_rollups", FAILURE_KEY)


async def attempts_recounted(database: Database) -> Counter[Any]:
    """The sums that the stored attempts make."""
    sums: Counter[Any] = Counter()
    async for document in database["attempts"].find():
        sums.update(attempt_adds(attempt_state(document).attempt))
    return sums


async def failures_recounted(database: Database) -> Counter[Any]:
    """The sums that the verdicts in force make."""
    sums: Counter[Any] = Counter()
    async for document in database["failures"].find({"withdrawn": False}):
        sums.update(failure_adds(failure_of(document)))
    return sums


async def _stored_sums(database: Database, name: str, keys: tuple[str, ...]) -> Counter[Any]:
    sums: Counter[Any] = Counter()
    async for document in database[name].find():
        key = tuple(document[part] for part in keys)
        for field, amount in document.items():
            if isinstance(amount, dict) and field != "_id":
                sums.update({(key, f"{field}.{inner}"): count for inner, count in amount.items()})
            elif field not in ("_id", "slot", "kept_since", *keys):
                sums[key, field] += amount
    return without_zeros(sums)
