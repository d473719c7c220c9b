"""Faults by seed: what breaks, when, and for how long; everything that breaks comes back."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.chaos.system import System

PAUSE_S = (0.3, 1.5)
"""Between the beginnings of two faults; the next one may begin before the last one is mended."""

DOWN_S = (0.1, 2.0)
"""How long a killed process stays dead."""


class Faults:
    """Breaks a system in random ways.

    Args:
        system: what to break.
        draw: decides everything.
    """

    def __init__(self, system: System, draw: random.Random) -> None:
        self._system = system
        self._draw = draw
        self._mending: dict[str, asyncio.Task[None]] = {}
        self.done: Counter[str] = Counter()

    async def run(self, count: int) -> None:
        """Make so many faults, every kind at least once if there is room, and wait until all is mended."""
        once = ["broker killed", "store killed", *(f"{name} killed" for name in self._system.workers)]
        once += [f"{name} {how}" for name in self._system.links for how in ("cut", "stalled", "slowed")]
        self._draw.shuffle(once)
        for number in range(count):
            await self._begin(once[number] if number < len(once) else self._any())
            await asyncio.sleep(self._draw.uniform(*PAUSE_S))
        await asyncio.gather(*self._mending.values())

    def _any(self) -> str:
        kind = self._draw.choices(
            ["ingestor", "worker", "link", "store killed", "broker killed"], weights=[30, 25, 33, 7, 5]
        )[0]
        if kind == "ingestor":
            return f"ingestor.{self._draw.randrange(2)} killed"
        if kind == "worker":
            return f"{self._draw.choice([name for name in self._system.workers if 'ingestor' not in name])} killed"
        if kind == "link":
            return f"{self._draw.choice(list(self._system.links))} {self._draw.choice(['cut', 'stalled', 'slowed'])}"
        return kind

    async def _begin(self, fault: str) -> None:
        name, _, how = fault.partition(" ")
        place = name if how == "killed" else f"link to {name}"
        if (last := self._mending.get(place)) is not None:
            await last  # what is broken cannot be broken again
        act = self._killed(name) if how == "killed" else self._disturbed(name, how)
        self._mending[place] = asyncio.create_task(act)
        self.done[f"{name.partition('.')[0]} {how}"] += 1

    async def _killed(self, name: str) -> None:
        down_s = self._draw.uniform(*DOWN_S)
        system = self._system
        server = {"broker": system.broker, "store": system.store}.get(name)
        if server is None:
            system.kill_worker(name)
            await asyncio.sleep(down_s)
            system.start_worker(name)
        else:
            server.kill()
            await asyncio.sleep(down_s)
            await server.start()

    async def _disturbed(self, name: str, how: str) -> None:
        link, seconds = self._system.links[name], self._draw.uniform(0.5, 3.0)
        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "stalled": lambda: link.stall(seconds),
            "slowed": lambda: link.slow(self._draw.uniform(0.02, 0.2), seconds),
        }
        if how == "cut":
            link.cut()
        else:
            await acts[how]()
