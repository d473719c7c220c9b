"""Who lives: the heartbeats of every process, and what was refused."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from messaging.topology import queue_names
from storage.database import Database
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX, read_as

INSTANCES_MAX: Final = 200
REJECTIONS_MAX: Final = 100

State = Literal["running", "late", "stopped", "never seen"]


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """The last sign of life of one process."""

    instance: str = msgspec.field(name="_id")
    stage: str
    host: str = ""
    pid: int = 0
    started_at: datetime
    at: datetime
    batches: int = 0
    messages: int = 0
    last_batch_at: datetime | None = None
    lag: int | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process, in a word."""

    state: State
    age_s: float
    heartbeat: Heartbeat


class StageHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the line: its best process decides; none means nobody ever ran."""

    stage: str
    state: State
    lag: int | None
    processes: list[Process]


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """Messages of one kind that were refused for one reason."""

    queue: str
    kind: str = ""
    type: str = "unknown"
    reason: str = ""
    count: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """All stages in the order of the line, and all refusals, the latest first."""

    stages: list[StageHealth]
    rejections: list[Rejection]
    rejected: int


async def read_health(database: Database, now: datetime, *, heartbeat_s: float) -> Health:
    """Everybody's last sign of life.

    Args:
        heartbeat_s: how often a worker says that it lives, seconds; after three of these it is late.
    """
    with translated():
        beats, rejections = await asyncio.gather(
            database["heartbeats"].find().sort("at", -1).limit(INSTANCES_MAX).max_time_ms(QUERY_MS_MAX).to_list(),
            database["rejections"].find().sort("last_at", -1).limit(REJECTIONS_MAX).max_time_ms(QUERY_MS_MAX).to_list(),
        )
    heartbeats = [read_as(document, Heartbeat, "heartbeats") for document in beats]
    refused = [read_as(document, Rejection, "rejections") for document in rejections]
    names = [*queue_names(), *sorted({beat.stage for beat in heartbeats} - set(queue_names()))]
    return Health(
        stages=[_stage(name, heartbeats, now, heartbeat_s) for name in names],
        rejections=refused,
        rejected=sum(rejection.count for rejection in refused),
    )


def state_of(age_s: float, heartbeat_s: float) -> State:
    """Say in a word what a heartbeat of this age means.

    >>> state_of(1, 2), state_of(7, 2), state_of(31, 2)
    ('running', 'late', 'stopped')
    """
    if age_s <= 3 * heartbeat_s:
        return "running"
    return "late" if age_s <= 15 * heartbeat_s else "stopped"


def _stage(name: str, heartbeats: list[Heartbeat], now: datetime, heartbeat_s: float) -> StageHealth:
    """Collect a stage's processes; those that stopped while another one runs are history and left out."""
    processes: list[Process] = []
    for beat in heartbeats:
        if beat.stage == name:
            age_s = max(0.0, (now - beat.at) / timedelta(seconds=1))
            processes.append(Process(state=state_of(age_s, heartbeat_s), age_s=age_s, heartbeat=beat))
    alive = [process for process in processes if process.state != "stopped"]
    shown = alive or processes[:1]
    best: list[Any] = [word for word in ("running", "late", "stopped") if any(p.state == word for p in shown)]
    return StageHealth(
        stage=name,
        state=best[0] if best else "never seen",
        lag=max((p.heartbeat.lag for p in shown if p.heartbeat.lag is not None), default=None),
        processes=shown,
    )
