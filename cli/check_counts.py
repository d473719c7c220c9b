"""Counts what is stored, twice: from the sums, and again from the single attempts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args

import msgspec

from messaging.connection import Connection
from messaging.contracts import AttemptStatus
from messaging.topology import durable_queues
from storage.database import Database

STATUSES = get_args(AttemptStatus)
BROKER_S_MAX = 10.0


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What the store holds. Statuses that nobody has are left out."""

    attempts: int
    statuses: dict[str, int]
    rollup_attempts: int
    rollup_statuses: dict[str, int]
    failures: int
    rollup_failures: int


async def count(database: Database) -> Counts:
    """Count everything in the store."""
    by_status = await database["attempts"].aggregate([{"$group": {"_id": "$status", "n": {"$sum": 1}}}])
    statuses = {found["_id"]: found["n"] async for found in by_status}
    sums = await _sums(database, "attempt_rollups", ("attempts", *STATUSES))
    failure_sums = await _sums(database, "failure_rollups", ("failures",))
    return Counts(
        attempts=sum(statuses.values()),
        statuses=statuses,
        rollup_attempts=sums["attempts"],
        rollup_statuses={status: sums[status] for status in STATUSES if sums[status]},
        failures=await database["failures"].count_documents({"withdrawn": False}),
        rollup_failures=failure_sums["failures"],
    )


async def share_of_gateway(
    database: Database, gateway: str, since: datetime, until: datetime
) -> tuple[float | None, int]:
    """The share of the attempts in a span that went to one gateway, and how many attempts that span had."""
    within = {"attempted_at": {"$gte": since, "$lt": until}}
    total = await database["attempts"].count_documents(within)
    there = await database["attempts"].count_documents(within | {"gateway": gateway})
    return (round(there / total, 4) if total else None), total


async def dead_letters(url: str) -> dict[str, int]:
    """Messages in each queue of dead letters."""
    connection = await Connection.open(url, name="ipa check", wait_s_max=BROKER_S_MAX)
    try:
        channel = await connection.channel()
        names = [queue.name for queue in durable_queues() if queue.name.endswith(".dead")]
        return {name: await channel.count_ready(name) for name in names}
    finally:
        await connection.close()


async def _sums(database: Database, collection: str, fields: tuple[str, ...]) -> dict[str, int]:
    group: dict[str, Any] = {"_id": None} | {field: {"$sum": f"${field}"} for field in fields}
    found = await (await database[collection].aggregate([{"$group": group}])).to_list()
    return {field: int(found[0][field]) if found else 0 for field in fields}
