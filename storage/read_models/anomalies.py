"""What is or was unwell, as the anomaly watcher told it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

import msgspec

from messaging.contracts import Anomaly
from storage.database import Database
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX, read_as

OPEN_MAX: Final = 200
CLOSED_MAX: Final = 100
COVERING_MAX: Final = 20
SIMILAR_MAX: Final = 8
SIMILAR_READ_MAX: Final = 100
SEVERITY_ORDER: Final = {"critical": 0, "major": 1, "minor": 2}


class Anomalies(msgspec.Struct, frozen=True, kw_only=True):
    """Open anomalies, the worst first, and the latest closed ones."""

    open: list[Anomaly]
    closed: list[Anomaly]


async def read_anomalies(database: Database) -> Anomalies:
    """All open anomalies and the latest closed ones."""
    with translated():
        opened, closed = await asyncio.gather(
            _find(database, {"closed_at": None}, "detected_at", OPEN_MAX),
            _find(database, {"closed_at": {"$ne": None}}, "closed_at", CLOSED_MAX),
        )
    opened.sort(key=lambda anomaly: SEVERITY_ORDER.get(anomaly.severity, 3))
    return Anomalies(open=opened, closed=closed)


async def find_anomaly(database: Database, anomaly_id: str) -> Anomaly | None:
    """One anomaly by its id."""
    with translated():
        found = await _find(database, {"_id": {"$eq": anomaly_id}}, "detected_at", 1)
    return found[0] if found else None


async def read_covering(database: Database, at: datetime, *, gateway: str, method: str, issuer: str) -> list[Anomaly]:
    """The anomalies that an attempt at this moment in this segment fell into, oldest first."""
    query: dict[str, Any] = {
        "started_at": {"$lte": at},
        "segment.gateway": {"$in": [None, gateway]},
        "segment.method": {"$in": [None, method]},
        "segment.issuer": {"$in": [None, issuer]},
        "$or": [{"closed_at": None}, {"closed_at": {"$gte": at}}],
    }
    with translated():
        found = await _find(database, query, "detected_at", COVERING_MAX)
    return sorted(found, key=lambda anomaly: anomaly.detected_at)


async def read_similar(database: Database, anomaly: Anomaly) -> list[Anomaly]:
    """Earlier anomalies of the same signal that touched the same gateway, issuer, method, network or country.

    Those of the very same segment come first, then the newest; one of all traffic is like others of all traffic.
    """
    named = {f"segment.{name}": value for name, value in msgspec.structs.asdict(anomaly.segment).items() if value}
    everything = {f"segment.{name}": None for name in anomaly.segment.__struct_fields__}
    alike: list[dict[str, Any]] = [{name: {"$eq": value}} for name, value in named.items()] or [everything]
    query: dict[str, Any] = {
        "_id": {"$ne": anomaly.anomaly_id},
        "detected_at": {"$lt": anomaly.detected_at},
        "signal": anomaly.signal,
        "$or": alike,
    }
    with translated():
        found = await _find(database, query, "detected_at", SIMILAR_READ_MAX)
    found.sort(key=lambda other: other.segment != anomaly.segment)
    return found[:SIMILAR_MAX]


async def _find(database: Database, query: dict[str, Any], newest_by: str, limit: int) -> list[Anomaly]:
    cursor = database["anomalies"].find(query).sort(newest_by, -1).limit(limit).max_time_ms(QUERY_MS_MAX)
    return [read_as({"anomaly_id": document["_id"], **document}, Anomaly, "anomalies") async for document in cursor]
