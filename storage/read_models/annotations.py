"""What happened meanwhile, for the charts: anomalies, and what people and automatic actions did."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

import msgspec

from storage.database import Database, Document
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX

ANNOTATIONS_MAX: Final = 60
WORDS: Final = {
    "gateway.paused": "paused",
    "gateway.resumed": "resumed",
    "gateway.maintenance_planned": "maintenance planned",
    "model.promoted": "model promoted",
    "model.rolled_back": "model rolled back",
}


class Annotation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened at a moment, or lasted from then; ``until`` None: it lasts, or it took no time."""

    kind: Literal["anomaly", "action", "experiment"]
    at: datetime
    until: datetime | None
    words: str
    who: str
    link: str


async def read_annotations(database: Database, since: datetime, until: datetime) -> list[Annotation]:
    """What began within a time range or lasted into it, oldest first; the newest when there are too many."""
    lasted = {
        "started_at": {"$lt": until},
        "$or": [{"closed_at": None}, {"closed_at": {"$gte": since}}],
    }
    within = {
        "at": {"$gte": since, "$lt": until},
        "what": {"$regex": r"^(gateway|model|experiment|routing|settings)\."},
    }
    allocated = {"published_at": {"$gte": since, "$lt": until}}
    with translated():
        anomalies, actions, allocations = await asyncio.gather(
            _find(database, "anomalies", lasted, "started_at"),
            _find(database, "audit", within, "at"),
            _find(database, "allocations", allocated, "published_at"),
        )
    found = [
        Annotation(
            kind="anomaly",
            at=document["started_at"],
            until=document.get("closed_at"),
            words=f"{document['severity']} anomaly, {document['signal'].replace('_', ' ')} of "
            + (" · ".join(str(part) for part in document["segment"].values() if part) or "all traffic"),
            who="anomaly watcher",
            link=f"/anomalies/{document['_id']}",
        )
        for document in anomalies
    ]
    found += [
        Annotation(
            kind="action",
            at=document["at"],
            until=None,
            words=f"{document['subject'].partition(':')[2]} "
            + WORDS.get(document["what"], document["what"].replace(".", " ").replace("_", " ")),
            who=document["who"],
            link=f"/audit?subject={document['subject']}",
        )
        for document in actions
    ]
    found += [
        Annotation(
            kind="experiment",
            at=document["published_at"],
            until=None,
            words="experiments: " + (", ".join(each["name"] for each in document.get("experiments", [])) or "none"),
            who="experiment allocator",
            link="/experiments",
        )
        for document in allocations
    ]
    return sorted(found, key=lambda one: one.at)[-ANNOTATIONS_MAX:]


async def _find(database: Database, name: str, query: Mapping[str, object], newest_by: str) -> list[Document]:
    cursor = database[name].find(query).sort(newest_by, -1).limit(ANNOTATIONS_MAX).max_time_ms(QUERY_MS_MAX)
    return await cursor.to_list()
