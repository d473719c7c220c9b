"""Runs one worker: ``python -m actors ingestor``. ``python -m actors health ingestor`` says whether one lives here."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from datetime import timedelta
from typing import Protocol

import structlog

from actors.pulse import Pulse, stop_signal, utc_now
from actors.runner import Runner
from actors.trainer import NAME as TRAINER
from actors.trainer import Trainer, jobs
from actors.wiring import wire, wire_retry
from config.errors import ConfigError
from config.logs import set_up_logs
from config.settings import Settings, load_settings
from messaging.connection import Connection
from messaging.ending import end
from messaging.errors import BrokerRefused, BrokerUnavailable, ConnectionLost
from messaging.topology import queue_names
from storage.database import Database, close, connect, declare, handle
from storage.errors import StoreError, StoreUnavailable
from storage.heartbeats import is_alive

log = structlog.get_logger(__name__)

ROUTER = "router_advisor"
WORKERS = (*queue_names(), TRAINER)
USAGE = f"usage: python -m actors [health] WORKER, where WORKER is one of: {', '.join(WORKERS)}"
HEARTBEATS_MISSED_MAX = 5
COLLECT_AFTER = 50_000
"""New objects between two searches for garbage; at Python's 700, a batch of a thousand documents is searched dozens of
times while it is built, which costs the ingestor a tenth of its processor time."""

REFUSED_PAUSE_S = 2.0
"""A broker that comes up may refuse whom it served before, until it has read its users."""


class Loop(Protocol):
    """The loop around one worker."""

    async def run(self, connection: Connection, stopping: asyncio.Event) -> None:
        """Work until ``stopping`` is set. Raises: ConnectionLost: run again on a new connection."""


async def run(stage: str, settings: Settings, stopping: asyncio.Event) -> None:
    """Run one worker until ``stopping`` is set; a lost broker is looked for again.

    The router alone does not wait for the store: it answers without one, and declares it when it is there.
    Raises: BrokerUnavailable, StoreUnavailable: nobody answered at start, or again, within the time allowed.
    """
    waits = stage != ROUTER
    database = await connect(settings.store) if waits else handle(settings.store)
    try:
        if waits:
            await declare(database, settings.store)
        pulse = Pulse(stage, database)
        if stage == TRAINER:
            await Trainer(jobs(settings), database, settings, pulse).run(stopping)
            return
        loop = _loop(stage, settings, database, pulse)
        served = False
        while not stopping.is_set():
            try:
                served |= await _until_cut(loop, stage, settings, stopping)
            except BrokerRefused as error:
                if not served:
                    raise
                log.warning("refused", stage=stage, reason=str(error))
                await asyncio.sleep(REFUSED_PAUSE_S)
        log.info("stopped", stage=stage)
    finally:
        await close(database)


def _loop(stage: str, settings: Settings, database: Database, pulse: Pulse) -> Loop:
    """Make a worker of the line with the loop around it; the wiring imports only what this worker needs."""
    if stage == ROUTER:
        from actors.router_wiring import wire_router

        return wire_router(settings, database, pulse)
    if stage == "retry_advisor":
        return wire_retry(settings, database, pulse)
    return Runner(wire(stage, settings, database, pulse.beat.instance), database, settings.runner, pulse)


async def _until_cut(loop: Loop, stage: str, settings: Settings, stopping: asyncio.Event) -> bool:
    """Work on one connection until it is cut or the worker is told to stop. Returns: whether there was one."""
    opening = asyncio.ensure_future(
        Connection.open(
            settings.broker.url,
            name=stage,
            heartbeat_s=settings.broker.heartbeat_s,
            wait_s_max=settings.broker.connect_wait_s_max,
        )
    )
    told = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({opening, told}, return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():
        await end(opening)
    await end(told)
    if opening.cancelled():
        return False
    connection = opening.result()
    try:
        await loop.run(connection, stopping)
    except ConnectionLost as error:
        log.warning("connection_lost", stage=stage, reason=str(error))
    except StoreUnavailable as error:
        log.warning("store_unavailable", stage=stage, reason=str(error))
        await asyncio.sleep(1)
    finally:
        await connection.close()
    return True


async def _until_signal(stage: str, settings: Settings) -> None:
    gc.freeze()  # what was imported stays
    gc.set_threshold(COLLECT_AFTER)
    await run(stage, settings, stop_signal())


async def healthy(stage: str, settings: Settings) -> bool:
    """Tell whether a worker of this stage on this machine gave a heartbeat lately."""
    database: Database = await connect(settings.store)
    try:
        age_max = timedelta(seconds=HEARTBEATS_MISSED_MAX * settings.runner.heartbeat_s)
        return await is_alive(database, stage, utc_now(), age_max=age_max, host=socket.gethostname())
    finally:
        await close(database)


def main(arguments: list[str]) -> int:
    """Run from the command line. Returns: the exit code, after sysexits.h."""
    asks_health = arguments[:1] == ["health"]
    names = arguments[1:] if asks_health else arguments
    if len(names) != 1 or names[0] not in WORKERS:
        print(USAGE, file=sys.stderr)  # noqa: T201
        return os.EX_USAGE
    try:
        settings = load_settings()
        if asks_health:
            return os.EX_OK if asyncio.run(healthy(names[0], settings)) else os.EX_UNAVAILABLE
        set_up_logs(settings.log, names[0])
        asyncio.run(_until_signal(names[0], settings))
    except ConfigError as error:
        print(f"ipa: {error}", file=sys.stderr)  # noqa: T201
        return os.EX_CONFIG
    except (BrokerUnavailable, BrokerRefused, StoreError) as error:
        print(f"ipa: {error}", file=sys.stderr)  # noqa: T201
        return os.EX_UNAVAILABLE
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
