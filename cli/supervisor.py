"""Starts processes, sees that they are ready, starts them again when they die, and ends them in reverse order.

Each process has a group of its own, a log of its own, and is tied to this one: when the supervisor is killed with -9,
Linux ends them too (``cli/services/tether.py``), so there are no pid files to clean up after.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from cli.errors import ServiceFailed
from cli.services.process import Child

READY_POLL_S = 0.1
BACKOFF_S_FIRST = 0.5
BACKOFF_S_MAX = 15.0
RESTARTS_MAX = 8
"""More restarts than this within ``RESTARTS_WINDOW_S`` are not bad luck: the process is left down, and it is said."""

RESTARTS_WINDOW_S = 300.0
STOP_PATIENCE_S = 10.0

ReadyCheck = Callable[[int], Awaitable[bool]]
"""Asked with the process id until it says yes."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A process to be kept running."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ready: ReadyCheck
    ready_s_max: float = 60
    restarts: bool = True


class Supervisor:
    """Keeps a set of programs running.

    Args:
        logs: directory of the logs, one NAME.log each.
        say: called with a line for the person who watches, when something unexpected happens.
    """

    def __init__(self, logs: Path, say: Callable[[str], None]) -> None:
        self._logs = logs
        self._say = say
        self._children: dict[str, Child] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self.restarts = 0
        self.finished: dict[str, int] = {}

    def pid(self, name: str) -> int | None:
        """Process id of a program that runs; None: it does not."""
        child = self._children.get(name)
        return child.pid if child and child.returncode is None else None

    def spawn(self, program: Program) -> None:
        """Start a program without waiting for it."""
        command = list(program.command)
        self._children[program.name] = Child(
            program.name, command, program.environment, self._logs / f"{program.name}.log"
        )

    async def ready(self, program: Program) -> float:
        """Wait until a spawned program is ready, then watch over it; returns the seconds since its start.

        Raises: ServiceFailed: it ended, or was not ready in time; carries the end of its log.
        """
        child = self._children[program.name]
        while not await program.ready(child.pid):
            if child.returncode is not None:
                raise ServiceFailed(program.name, f"ended with status {child.returncode} while starting", child.log)
            if time.monotonic() - child.started_at > program.ready_s_max:
                raise ServiceFailed(program.name, f"not ready after {program.ready_s_max:.0f} s", child.log)
            await asyncio.sleep(READY_POLL_S)
        self._watches[program.name] = asyncio.create_task(self._watch(program), name=f"watch {program.name}")
        return time.monotonic() - child.started_at

    async def start(self, program: Program) -> float:
        """Start a program and wait until it is ready; see ``ready``."""
        self.spawn(program)
        return await self.ready(program)

    async def stop(self, name: str, patience_s: float = STOP_PATIENCE_S) -> None:
        """End one program: SIGTERM, patience, SIGKILL."""
        if watch := self._watches.pop(name, None):
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        child = self._children.pop(name, None)
        if child is not None and not await child.stop(patience_s):
            self._say(f"{name} did not end within {patience_s:.0f} s and was killed")

    async def stop_all(self) -> None:
        """End all programs, the last started first; each gets its own patience."""
        for name in reversed(list(self._children)):
            await self.stop(name)

    def kill_all(self) -> None:
        """End all programs at once, with SIGKILL."""
        for watch in self._watches.values():
            watch.cancel()
        for child in reversed(list(self._children.values())):
            child.kill()
        self._children.clear()
        self._watches.clear()

    async def _watch(self, program: Program) -> None:
        """Start a program again whenever it dies, with growing pauses and a bounded rate."""
        died: deque[float] = deque(maxlen=RESTARTS_MAX)
        backoff_s = BACKOFF_S_FIRST
        while True:
            child = self._children[program.name]
            await child.wait(math.inf)
            child.kill()  # what may be left of its group
            assert child.returncode is not None
            self.finished[program.name] = child.returncode
            if not program.restarts:
                return
            now = time.monotonic()
            if len(died) == RESTARTS_MAX and now - died[0] < RESTARTS_WINDOW_S:
                self._say(f"{program.name} died {RESTARTS_MAX + 1} times; it stays down, see {child.log}")
                return
            backoff_s = BACKOFF_S_FIRST if now - child.started_at > BACKOFF_S_MAX * 2 else backoff_s
            died.append(now)
            how = ended(child.returncode)
            self._say(f"{program.name} died ({how}), starting it again in {backoff_s:.1f} s; see {child.log}")
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)
            self.restarts += 1
            with suppress(OSError):
                self.spawn(program)


def ended(returncode: int) -> str:
    """Say how a process ended.

    >>> ended(-9), ended(3)
    ('killed by signal 9', 'exit status 3')
    """
    return f"killed by signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
