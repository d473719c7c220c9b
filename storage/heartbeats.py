"""The heartbeat of every process: that it lives, how much it did, how much waits, and what last went wrong."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from storage.database import Database, Document
from storage.errors import translated


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """One process of one stage.

    Attributes:
        lag: messages that wait in its queue; None: not known.
        file_error: the mistake of the file that it watches; None: there is none, or it watches none.
        file_judged_at: when it last found that file changed, and good or bad.
    """

    instance: str
    stage: str
    host: str
    pid: int
    started_at: datetime
    at: datetime
    batches: int = 0
    messages: int = 0
    last_batch_at: datetime | None = None
    lag: int | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    file_error: str | None = None
    file_judged_at: datetime | None = None


async def write_heartbeat(database: Database, heartbeat: Heartbeat) -> None:
    """Write the heartbeat of one process over its last one."""
    document = msgspec.structs.asdict(heartbeat)
    document["_id"] = document.pop("instance")
    with translated():
        await database["heartbeats"].replace_one({"_id": document["_id"]}, document, upsert=True)


async def read_heartbeats(database: Database, *, limit: int = 500) -> list[Heartbeat]:
    """Read the heartbeats of all processes of the last day, newest first."""
    with translated():
        cursor = database["heartbeats"].find().sort("at", -1).limit(limit)
        return [Heartbeat(instance=str(document.pop("_id")), **_known(document)) async for document in cursor]


async def is_alive(
    database: Database, stage: str, now: datetime, *, age_max: timedelta, host: str | None = None
) -> bool:
    """Tell whether a process of a stage (on one host, if named) gave a heartbeat lately."""
    query: dict[str, object] = {"stage": stage, "at": {"$gte": now - age_max}}
    if host is not None:
        query["host"] = host
    with translated():
        return await database["heartbeats"].find_one(query, {"_id": True}) is not None


async def speaks_for(
    database: Database, mine: Heartbeat, since: datetime, now: datetime, *, age_max: timedelta
) -> bool:
    """Tell whether a process that hears nothing is the one to say so for its stage.

    That is the eldest of those that live, as long as no other one has heard anything since.

    Args:
        database: where heartbeats are kept.
        mine: heartbeat of the process.
        since: it has heard nothing since then.
        now: the present.
        age_max: a process without a heartbeat for so long is gone.
    """
    query = {"stage": mine.stage, "_id": {"$ne": mine.instance}, "at": {"$gte": now - age_max}}
    with translated():
        others = await database["heartbeats"].find(query, {"started_at": True, "last_batch_at": True}).to_list()
    return not any(
        (other.get("last_batch_at") is not None and other["last_batch_at"] > since)
        or (other["started_at"], str(other["_id"])) < (mine.started_at, mine.instance)
        for other in others
    )


def _known(document: Document) -> Document:
    return {name: value for name, value in document.items() if name in Heartbeat.__struct_fields__}
