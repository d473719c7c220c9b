"""Orders as shoppers lived them, each replaced as a whole when it changes; customers only as keyed hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

import msgspec
from bson import Binary
from pymongo import ReplaceOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError

from ml.behaviour.orders import OrderStory, Step, Tried
from storage.database import KEPT_SINCE, Database, Document
from storage.errors import translated

ORDERS_READ_MAX: Final = 50_000
KEY_BYTES: Final = 32
DUPLICATE_KEY: Final = 11000
HASH_BYTES: Final = 12


async def customer_key(database: Database) -> bytes:
    """The secret key that customer ids are hashed with; made once, and kept apart from the orders."""
    made = {"$setOnInsert": {"key": Binary(secrets.token_bytes(KEY_BYTES))}}
    with translated():
        await database["shopper_key"].update_one({"_id": "customer"}, made, upsert=True)
        found = await database["shopper_key"].find_one({"_id": "customer"})
    assert found is not None
    return bytes(found["key"])


def hashed(customer_id: str | None, key: bytes) -> str | None:
    """A customer's keyed hash: the same for the same customer, and nobody without the key can tell whose it is."""
    if customer_id is None:
        return None
    return "cus_" + hmac.digest(key, customer_id.encode(), hashlib.sha256)[:HASH_BYTES].hex()


async def find_tries(database: Database, order_ids: Collection[str], key: bytes) -> dict[str, list[Tried]]:
    """Read every attempt of these orders, with the reason of those that failed."""
    wanted = {"order_id": {"$in": list(set(order_ids))}}
    found: defaultdict[str, list[Tried]] = defaultdict(list)
    with translated():
        reasons = {
            document["_id"]: document["category"]
            async for document in database["failures"].find(wanted | {"withdrawn": False}, {"category": True})
        }
        fields = dict.fromkeys(
            ("order_id", "attempted_at", "gateway", "method", "status", "amount_minor", "currency", "customer_id"), True
        )
        async for document in database["attempts"].find(wanted, fields):
            failed = document["status"] == "failed"
            step = Step(
                at=document["attempted_at"],
                gateway=document["gateway"],
                method=document["method"],
                status=document["status"],
                category=reasons.get(document["_id"]) if failed else None,
            )
            found[document["order_id"]].append(
                Tried(
                    attempt_id=document["_id"],
                    step=step,
                    amount_minor=document["amount_minor"],
                    currency=document["currency"],
                    customer=hashed(document.get("customer_id"), key),
                )
            )
    return dict(found)


async def write_orders(database: Database, stories: Sequence[OrderStory], now: datetime) -> None:
    """Write these orders as a whole; writing them again changes nothing.

    Most are new, and inserting many at once costs MongoDB a quarter of what as many upserts do. An order that another
    replica wrote in between is replaced like one that was there before.
    """
    if not stories:
        return
    orders = database["shopper_orders"]
    written = {story.order_id: _document(story, now) for story in stories}
    with translated():
        there = {found["_id"] async for found in orders.find({"_id": {"$in": list(written)}}, {"_id": True})}
        fresh = [document for order_id, document in written.items() if order_id not in there]
        if fresh:
            there |= await _inserted_elsewhere(orders, fresh)
        if there:
            await orders.bulk_write(
                [ReplaceOne({"_id": order_id}, written[order_id], upsert=True) for order_id in there], ordered=False
            )


async def _inserted_elsewhere(orders: AsyncCollection[Document], documents: list[Document]) -> set[str]:
    """Insert orders. Returns: those that were there by now and were left as they are."""
    try:
        await orders.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        details = error.details or {}
        failed = details["writeErrors"]
        if details.get("writeConcernErrors") or any(one["code"] != DUPLICATE_KEY for one in failed):
            raise
        return {documents[one["index"]]["_id"] for one in failed}
    return set()


async def read_orders(
    database: Database, since: datetime, until: datetime, *, limit: int = ORDERS_READ_MAX
) -> list[OrderStory]:
    """Read orders that were started in a window, the newest first."""
    query = {"first_at": {"$gte": since, "$lt": until}}
    with translated():
        cursor = database["shopper_orders"].find(query).sort("first_at", -1).limit(limit)
        return [_story(document) for document in await cursor.to_list()]


def _document(story: OrderStory, now: datetime) -> Document:
    document: Document = msgspec.to_builtins(story, builtin_types=(datetime,))
    document["_id"] = document.pop("order_id")
    document["first_at"] = story.first_at
    document[KEPT_SINCE] = now
    return document


def _story(document: Document) -> OrderStory:
    return msgspec.convert(document | {"order_id": document["_id"]}, OrderStory)
