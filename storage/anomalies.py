"""Anomalies, open and past."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from pymongo import ReplaceOne

from messaging.contracts import Anomaly, Handling, Segment
from messaging.line import Outgoing
from storage.database import Database, Document
from storage.errors import translated
from storage.outbox import write_outbox

STAGE = "anomaly_watcher"


async def record_anomalies(
    database: Database, anomalies: Sequence[Anomaly], outgoing: Sequence[Outgoing], *, now: datetime
) -> None:
    """Write anomalies as they now stand (the last of each id wins) and the outbox: all or nothing."""
    latest = {anomaly.anomaly_id: anomaly for anomaly in anomalies}
    writes: list[ReplaceOne[Document]] = [
        ReplaceOne({"_id": anomaly.anomaly_id}, _document(anomaly), upsert=True) for anomaly in latest.values()
    ]
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            await database["anomalies"].bulk_write(writes, ordered=False, session=session)
            if outgoing:
                await write_outbox(database, STAGE, outgoing, now=now, session=session)


async def replace_anomalies(database: Database, found: Sequence[Anomaly], since: datetime, until: datetime) -> None:
    """Put other anomalies in place of the closed ones that were detected in a range, but for those people spoke of.

    Of what was found, nothing is written that tells the same story as one that stays.
    """
    ranged = {"detected_at": {"$gte": since, "$lt": until}}
    spoken = ("acknowledged_by", "assigned_to", "snoozed_until", "false_by")
    silent = {f"handling.{name}": None for name in spoken}
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            await database["anomalies"].delete_many({**ranged, **silent, "closed_at": {"$ne": None}}, session=session)
            staying = [anomaly_of(one) async for one in database["anomalies"].find(ranged, session=session)]
            told = {(one.segment, one.signal) for one in staying}
            new = [_document(one) for one in found if (one.segment, one.signal) not in told]
            if new:
                await database["anomalies"].insert_many(new, session=session)


async def open_anomalies(database: Database, *, limit: int = 1_000) -> list[Anomaly]:
    """Read the anomalies that are not closed, oldest first."""
    with translated():
        cursor = database["anomalies"].find({"closed_at": None}).sort("detected_at", 1).limit(limit)
        return [anomaly_of(document) async for document in cursor]


async def find_anomalies(database: Database, anomaly_ids: Sequence[str]) -> dict[str, Anomaly]:
    """Read anomalies by id, open or closed."""
    with translated():
        cursor = database["anomalies"].find({"_id": {"$in": list(anomaly_ids)}})
        return {document["_id"]: anomaly_of(document) async for document in cursor}


async def recent_anomalies(database: Database, since: datetime, *, limit: int = 1_000) -> list[Anomaly]:
    """Read the anomalies that closed since a moment, newest first."""
    with translated():
        cursor = database["anomalies"].find({"closed_at": {"$gte": since}}).sort("closed_at", -1).limit(limit)
        return [anomaly_of(document) async for document in cursor]


async def anomalies_since(database: Database, since: datetime, *, limit: int) -> list[Anomaly]:
    """The newest anomalies that were detected from a time on, in the order in which they were."""
    with translated():
        cursor = database["anomalies"].find({"detected_at": {"$gte": since}}).sort("detected_at", -1).limit(limit)
        return [anomaly_of(document) async for document in cursor][::-1]


def anomaly_of(document: Document) -> Anomaly:
    """An anomaly as it was read from MongoDB."""
    parts = {"segment": Segment, "handling": Handling}
    fields = {name: document[name] for name in Anomaly.__struct_fields__ if name in document and name not in parts}
    parted = {name: kind(**document[name]) for name, kind in parts.items() if name in document}
    return Anomaly(anomaly_id=document["_id"], **parted, **fields)


def _document(anomaly: Anomaly) -> Document:
    document: Document = msgspec.structs.asdict(anomaly)
    document["_id"] = document.pop("anomaly_id")
    document["segment"] = msgspec.structs.asdict(anomaly.segment)
    document["handling"] = msgspec.structs.asdict(anomaly.handling)
    return document
