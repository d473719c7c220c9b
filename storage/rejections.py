"""Why messages were refused: counted by reason, and never with a value from the message."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec
from pymongo import UpdateOne

from storage.database import Database
from storage.errors import translated

REASON_CHARS_MAX: Final = 500


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """One refused message. ``body_digest`` finds the reason of a dead letter; of card data nothing is kept."""

    queue: str
    kind: Literal["malformed", "refused", "poison", "card_data"]
    type: str
    reason: str
    body_digest: str | None = None


def body_digest(body: bytes) -> str:
    """Name a body without keeping it."""
    return hashlib.sha256(body).hexdigest()[:32]


async def count_rejections(database: Database, rejections: Sequence[Rejection], now: datetime) -> None:
    """Count refused messages, each under its queue, reason and (for dead letters) body."""
    writes = []
    for rejection in rejections:
        reason = rejection.reason[:REASON_CHARS_MAX]
        key = f"{rejection.queue}|{rejection.body_digest or rejection.kind + '|' + reason}"
        fields = {
            "queue": rejection.queue,
            "kind": rejection.kind,
            "type": rejection.type[:60],
            "reason": reason,
            "last_at": now,
        }
        update = {"$set": fields, "$setOnInsert": {"first_at": now}, "$inc": {"count": 1}}
        writes.append(UpdateOne({"_id": key}, update, upsert=True))
    if writes:
        with translated():
            await database["rejections"].bulk_write(writes, ordered=False)


async def reason_of(database: Database, queue: str, body: bytes) -> str | None:
    """Find why a dead letter was refused; None when that was not kept."""
    with translated():
        document = await database["rejections"].find_one({"_id": f"{queue}|{body_digest(body)}"})
    return None if document is None else str(document["reason"])
