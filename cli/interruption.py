"""Ctrl-C: the first one ends the work in order, the second one at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

EXIT_INTERRUPTED = 130


class Interruption:
    """Listens for SIGINT, SIGTERM and the closing of the terminal. Make it inside a running event loop.

    Args:
        at_once: called at the second signal, right before the process ends; must not wait for anything.
    """

    def __init__(self, at_once: Callable[[], None]) -> None:
        self._at_once = at_once
        self._first = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._came)

    def _came(self) -> None:
        if self._first.is_set():
            self._at_once()
            os._exit(EXIT_INTERRUPTED)
        self._first.set()

    async def unless(self, work: Coroutine[Any, Any, int]) -> int | None:
        """Do the work; None when a signal came first, and the work was cancelled."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._first.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for one in (task, stop):
                one.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)
