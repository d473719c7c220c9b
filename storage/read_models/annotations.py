"""What happened meanwhile, for the charts: anomalies, and what people and automatic actions did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import urlencode

import msgspec

from storage.database import Database, Document
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX

ANNOTATIONS_MAX: Final = 60
TOLD_WITHIN: Final = timedelta(seconds=30)
"""What the audit log tells of a model within so long is that promotion, not another one."""
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
    with translated():
        anomalies, actions = await asyncio.gather(
            _find(database, "anomalies", lasted, "started_at"), read_actions(database, since, until)
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
    return _newest([*found, *actions])


async def read_actions(database: Database, since: datetime, until: datetime) -> list[Annotation]:
    """What people and automatic actions did within a time range, oldest first; the newest when there are too many."""
    within = {"$gte": since, "$lt": until}
    told = {"at": within, "what": {"$regex": r"^(gateway|model|experiment|routing|settings)\."}}
    in_force = {"$or": [{"in_force_since": within}, {"served": {"$elemMatch": {"since": within}}}]}
    maintained = {"kind": "maintenance", "$or": [{"starts_at": within}, {"ends_at": within}]}
    with translated():
        audit, allocations, models, pauses = await asyncio.gather(
            _find(database, "audit", told, "at"),
            _find(database, "allocations", {"published_at": within}, "published_at"),
            _find(database, "models", in_force, "in_force_since", ("kind", "version", "served")),
            _find(database, "gateway_pauses", maintained, "starts_at"),
        )
    actions = [
        *map(_told, audit),
        *map(_allocated, allocations),
        *(one for one in _put_in_force(models, audit) if since <= one.at < until),
        *(end for pause in pauses for end in _maintained(pause) if since <= end.at < until),
    ]
    return _newest(actions)


def _told(entry: Document) -> Annotation:
    """What the audit log tells."""
    done = WORDS.get(entry["what"], entry["what"].replace(".", " ").replace("_", " "))
    name = "" if entry["what"].startswith("routing.") else f"{entry['subject'].partition(':')[2]} "
    return _action(entry["at"], name + done, entry["who"], f"/audit?{urlencode({'subject': entry['subject']})}")


def _allocated(allocation: Document) -> Annotation:
    """Experiments as they were put in force."""
    names = ", ".join(each["name"] for each in allocation.get("experiments", [])) or "none"
    return Annotation(
        kind="experiment",
        at=allocation["published_at"],
        until=None,
        words=f"experiments: {names}",
        who="experiment allocator",
        link="/experiments",
    )


def _put_in_force(models: Sequence[Document], audit: Sequence[Document]) -> Iterator[Annotation]:
    """Each time that the trainer promoted or a command took back; what people did on the pages the audit log tells."""
    for model in models:
        subject, version = f"model:{model['kind']}", model["version"]
        told = [
            one["at"] for one in audit if one["subject"] == subject and one.get("details", {}).get("version") == version
        ]
        for term in model.get("served") or [{"since": model["in_force_since"]}]:
            if all(abs(at - term["since"]) > TOLD_WITHIN for at in told):
                yield _action(term["since"], f"{model['kind']} model in force, version {version}", "trainer", "/models")


def _maintained(pause: Document) -> Iterator[Annotation]:
    """The two ends of a planned maintenance, as far as it was not taken back before."""
    resumed_at = pause.get("resumed_at")
    for at, words in ((pause["starts_at"], "maintenance begins"), (pause["ends_at"], "maintenance ends")):
        if at is not None and (resumed_at is None or at < resumed_at):
            yield _action(at, f"{pause['gateway']} {words}", pause["who"], "/gateways")


def _action(at: datetime, words: str, who: str, link: str) -> Annotation:
    return Annotation(kind="action", at=at, until=None, words=words, who=who, link=link)


def _newest(found: Sequence[Annotation]) -> list[Annotation]:
    return sorted(found, key=lambda one: one.at)[-ANNOTATIONS_MAX:]


async def _find(
    database: Database, name: str, query: Mapping[str, object], newest_by: str, fields: Sequence[str] = ()
) -> list[Document]:
    """The newest documents; of some collections only a few fields, as they hold bodies."""
    wanted = [*fields, newest_by] if fields else None
    cursor = database[name].find(query, wanted).sort(newest_by, -1).limit(ANNOTATIONS_MAX).max_time_ms(QUERY_MS_MAX)
    return await cursor.to_list()
