"""The pulse of a worker: its stop signal, and its heartbeat in the store."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
import structlog

from messaging.channel import Channel
from messaging.connection import Connection
from messaging.errors import ConnectionLost
from storage.database import Database
from storage.errors import StoreError
from storage.heartbeats import Heartbeat, write_heartbeat

log = structlog.get_logger(__name__)

ERROR_CHARS_MAX = 500
COUNT_S_MAX = 1.0
"""A broker that is low on disk stops to answer; the heartbeat must go on all the same."""


def utc_now() -> datetime:
    """The time, cut to the milliseconds that MongoDB keeps; workers get it handed in."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def stop_signal() -> asyncio.Event:
    """An event that is set by SIGTERM and by Ctrl-C: finish the batch, then end."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


class Pulse:
    """What this process says about itself every few seconds.

    Args:
        stage: the worker's name.
        database: where heartbeats are kept.
    """

    def __init__(self, stage: str, database: Database) -> None:
        self._database = database
        host = socket.gethostname()
        now = utc_now()
        self.beat = Heartbeat(
            instance=f"{stage}-{host}-{os.getpid()}", stage=stage, host=host, pid=os.getpid(), started_at=now, at=now
        )

    def count_batch(self, messages: int) -> None:
        """Note one finished batch."""
        self.beat = msgspec.structs.replace(
            self.beat,
            batches=self.beat.batches + 1,
            messages=self.beat.messages + messages,
            last_batch_at=utc_now(),
        )

    def note_error(self, problem: str) -> None:
        """Note what went wrong last; people see it on the health page."""
        self.beat = msgspec.structs.replace(self.beat, last_error=problem[:ERROR_CHARS_MAX], last_error_at=utc_now())

    def note_file(self, problem: str | None) -> None:
        """Note that the file which this process watches has changed, and what is wrong with it; None: nothing."""
        if problem is not None:
            self.note_error(problem)
            problem = problem[:ERROR_CHARS_MAX]
        self.beat = msgspec.structs.replace(self.beat, file_error=problem, file_judged_at=utc_now())

    async def look_at(self, connection: Connection, channel: Channel, queue: str) -> int | None:
        """Count what waits in the worker's queue, and note when the broker takes no messages. None: not known."""
        if connection.blocked is not None:
            self.note_error(f"RabbitMQ takes no messages: {connection.blocked}; what is said waits, nothing is lost")
            return None
        try:
            async with asyncio.timeout(COUNT_S_MAX):
                return await channel.count_ready(queue)
        except (ConnectionLost, TimeoutError):
            return None

    async def go_on(self, every_s: float, count_waiting: Callable[[], Awaitable[int | None]]) -> None:
        """Write the heartbeat for ever; a store that does not answer is tried again at the next beat."""
        while True:
            self.beat = msgspec.structs.replace(self.beat, at=utc_now(), lag=await count_waiting())
            try:
                await write_heartbeat(self._database, self.beat)
            except StoreError as error:
                log.warning("heartbeat_not_written", reason=str(error))
            await asyncio.sleep(every_s)
