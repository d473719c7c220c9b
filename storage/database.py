"""Connects to MongoDB, and declares every collection's indexes once."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING, AsyncMongoClient, IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import CollectionInvalid, ConfigurationError, InvalidURI, OperationFailure
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from config.settings import StoreSettings, masked_url
from storage.errors import StoreError, StoreRefused, StoreUnavailable, translated

Document = dict[str, Any]
Database = AsyncDatabase[Document]

DAY_S: Final = 86_400

KEPT_SINCE: Final = "kept_since"
"""When a document came here. How long it is kept counts from then, so that an old log that is replayed today stays."""

KEPT_TYPES: Final = (datetime,)
"""What MongoDB keeps as it is, of all that would be text in JSON."""

ANSWER_MS_MAX: Final = 2_000
"""How long one look for a server may take; the retry around it decides how long to go on."""

CONSUMED_KEEP_DAYS: Final = 7
"""A redelivered batch is recognised for so long."""

AUDIT_KEEP_DAYS: Final = 1_830
"""Five years: as long as the books of a payment business are usually asked for."""

BY_CUSTOMER: Final = [("customer_stretch", ASCENDING), ("customer_id", ASCENDING)]
"""Finds a customer's attempts, and those of known customers that lack their stretch."""

OUTBOX_KEEP_DAYS: Final = 1
"""Published batches are kept so long, so that a restarted worker knows what its sums already hold."""


def indexes(settings: StoreSettings) -> dict[str, list[IndexModel]]:
    """Every index of every collection; queries are written to fit these."""
    attempts_s = settings.attempts_keep_days * DAY_S
    rollups_s = settings.rollups_keep_days * DAY_S
    decisions_s = settings.decisions_keep_days * DAY_S
    return {
        "attempts": [
            IndexModel([(KEPT_SINCE, ASCENDING)], expireAfterSeconds=attempts_s),
            IndexModel([("attempted_at", DESCENDING), ("_id", DESCENDING)]),
            IndexModel([("order_id", ASCENDING)]),
            IndexModel([("status", ASCENDING), ("attempted_at", DESCENDING), ("_id", DESCENDING)]),
            IndexModel(BY_CUSTOMER, sparse=True),
        ],
        "attempt_rollups": [
            IndexModel([(KEPT_SINCE, ASCENDING)], expireAfterSeconds=rollups_s),
            IndexModel([("minute", ASCENDING)]),
        ],
        **{name: [IndexModel([("minute", ASCENDING)])] for name in ("attempt_rollups_hours", "failure_rollups_hours")},
        **{
            name: [
                IndexModel([(KEPT_SINCE, ASCENDING)], expireAfterSeconds=rollups_s),
                IndexModel([("minute", ASCENDING)]),
            ]
            for name in ("attempt_rollups_days", "failure_rollups_days")
        },
        "failures": [
            IndexModel([(KEPT_SINCE, ASCENDING)], expireAfterSeconds=attempts_s),
            IndexModel([("attempted_at", DESCENDING)]),
            IndexModel([("category", ASCENDING), ("attempted_at", DESCENDING)]),
            IndexModel([("code_key", ASCENDING), ("attempted_at", DESCENDING)]),
            IndexModel([("order_id", ASCENDING)]),
        ],
        "shopper_orders": [
            IndexModel([(KEPT_SINCE, ASCENDING)], expireAfterSeconds=attempts_s),
            IndexModel([("first_at", DESCENDING)]),
        ],
        "shopper_key": [],
        "failure_codes": [IndexModel([("gateway", ASCENDING)])],
        "failure_code_changes": [
            IndexModel([("row._id", ASCENDING), ("row.changed_at", DESCENDING)]),
            IndexModel([("row.changed_at", DESCENDING)]),
        ],
        "failure_rollups": [
            IndexModel([(KEPT_SINCE, ASCENDING)], expireAfterSeconds=rollups_s),
            IndexModel([("minute", ASCENDING)]),
        ],
        "anomalies": [
            IndexModel([("closed_at", ASCENDING), ("detected_at", DESCENDING)]),
            IndexModel([("detected_at", ASCENDING)]),
        ],
        "decisions": [
            IndexModel([("decided_at", ASCENDING)], expireAfterSeconds=decisions_s),
            IndexModel([("request.order_id", ASCENDING)]),
        ],
        "allocations": [IndexModel([("published_at", DESCENDING)])],
        "experiment_definitions": [IndexModel([(KEPT_SINCE, DESCENDING)])],
        "experiment_units": [
            IndexModel([(KEPT_SINCE, ASCENDING)], expireAfterSeconds=attempts_s),
            IndexModel([("waiting", ASCENDING)], partialFilterExpression={"waiting": True}),
        ],
        "experiment_counts": [IndexModel([("_id.phase", ASCENDING)])],
        "experiment_sums": [IndexModel([("_id.phase", ASCENDING)])],
        "experiment_reports": [],
        "experiment_ledger": [],
        "experiment_rollouts": [],
        "experiment_actions": [IndexModel([("experiment", ASCENDING), ("at", DESCENDING)])],
        "experiment_points": [IndexModel([("phase", ASCENDING), ("at", ASCENDING)])],
        "models": [
            IndexModel([("kind", ASCENDING), ("version", DESCENDING)]),
            # At most one version of a kind is in force, whoever promotes at the same moment.
            IndexModel([("kind", ASCENDING)], unique=True, partialFilterExpression={"status": "in_force"}),
        ],
        "consumed": [IndexModel([("at", ASCENDING)], expireAfterSeconds=CONSUMED_KEEP_DAYS * DAY_S)],
        "outbox": [
            IndexModel([("published_at", ASCENDING)], expireAfterSeconds=OUTBOX_KEEP_DAYS * DAY_S),
            IndexModel([("stage", ASCENDING), ("published_at", ASCENDING), ("at", ASCENDING)]),
        ],
        "audit": [
            IndexModel([("at", ASCENDING)], expireAfterSeconds=AUDIT_KEEP_DAYS * DAY_S),
            IndexModel([("subject", ASCENDING), ("_id", DESCENDING)]),
            IndexModel([("who", ASCENDING), ("_id", DESCENDING)]),
            IndexModel([("what", ASCENDING), ("_id", DESCENDING)]),
        ],
        "routing_overrides": [IndexModel([("released_at", ASCENDING), ("starts_at", DESCENDING)])],
        "gateway_pauses": [IndexModel([("resumed_at", ASCENDING), ("starts_at", ASCENDING)])],
        "heartbeats": [IndexModel([("at", ASCENDING)], expireAfterSeconds=DAY_S)],
        "rejections": [
            IndexModel([("last_at", ASCENDING)], expireAfterSeconds=30 * DAY_S),
            IndexModel([("queue", ASCENDING), ("last_at", DESCENDING)]),
        ],
    }


INDEX_OPTIONS_CONFLICT: Final = 85


def handle(settings: StoreSettings) -> Database:
    """A handle on a store that need not answer yet.

    Raises: StoreRefused: the URL is no MongoDB URL.
    """
    try:
        client: AsyncMongoClient[Document] = AsyncMongoClient(
            settings.url,
            tz_aware=True,
            serverSelectionTimeoutMS=ANSWER_MS_MAX,
            connectTimeoutMS=ANSWER_MS_MAX,
            appname="ipa",
        )
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise StoreRefused(f"{masked_url(settings.url)} is no MongoDB URL: {error}; mend IPA_MONGO_URL") from None
    return client[settings.database]


async def connect(settings: StoreSettings) -> Database:
    """Connect and wait until MongoDB answers.

    Raises:
        StoreUnavailable: nobody answered within ``settings.connect_wait_s_max``; the text says where was looked.
        StoreRefused: the URL is no MongoDB URL, or the server is no member of a replica set.
    """
    database = handle(settings)
    began = time.monotonic()
    try:
        async for attempt in _patience(settings):
            with attempt:
                await _greet(database, settings)
    except StoreUnavailable:
        await close(database)
        raise StoreUnavailable(
            f"no MongoDB answers at {masked_url(settings.url)} after {time.monotonic() - began:.0f} s; "
            "start it, or set IPA_MONGO_URL (`ipa doctor` says what is there)"
        ) from None
    except StoreError:
        await close(database)
        raise
    return database


async def declare(database: Database, settings: StoreSettings) -> None:
    """Create every collection and index; a second time changes nothing.

    Raises: StoreUnavailable: MongoDB did not answer within ``settings.connect_wait_s_max``.
    """
    async for attempt in _patience(settings):
        with attempt, translated():
            await _declare(database, settings)


async def make_ready(database: Database, settings: StoreSettings) -> None:
    """What ``connect`` and ``declare`` do, without waiting for MongoDB.

    Raises:
        StoreUnavailable: it does not answer now.
        StoreRefused: the server is no member of a replica set.
    """
    await _greet(database, settings)
    with translated():
        await _declare(database, settings)


async def _greet(database: Database, settings: StoreSettings) -> None:
    with translated():
        answer = await database.client.admin.command("hello")
    if "setName" not in answer and answer.get("msg") != "isdbgrid":
        raise StoreRefused(
            f"{masked_url(settings.url)} is no replica set; transactions need one "
            "(mongod --replSet rs0, then rs.initiate())"
        )


def _patience(settings: StoreSettings) -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type(StoreUnavailable),
        stop=stop_after_delay(settings.connect_wait_s_max),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        reraise=True,
    )


async def _declare(database: Database, settings: StoreSettings) -> None:
    existing = set(await database.list_collection_names())
    wanted = indexes(settings)
    for name in wanted.keys() - existing:
        await _create(database, name)
    await asyncio.gather(*(_create_index(database, name, model) for name, models in wanted.items() for model in models))


async def _create_index(database: Database, name: str, model: IndexModel) -> None:
    """Create an index; one that differs only in how long documents are kept is changed in place."""
    try:
        await database[name].create_indexes([model])
    except OperationFailure as error:
        keep_s = model.document.get("expireAfterSeconds")
        if error.code != INDEX_OPTIONS_CONFLICT or keep_s is None:
            raise
        change = {"keyPattern": model.document["key"], "expireAfterSeconds": keep_s}
        await database.command({"collMod": name, "index": change})


async def _create(database: Database, name: str) -> None:
    """Create a collection; several workers start at once, so being second is fine."""
    try:
        await database.create_collection(name)
    except CollectionInvalid:
        return
    except OperationFailure as error:
        if error.code != 48:  # NamespaceExists
            raise


async def close(database: Database) -> None:
    """Close the connection behind a database handle."""
    await database.client.close()
