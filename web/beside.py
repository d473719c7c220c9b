"""A process beside the web's own, for what computes for seconds: pages must not wait for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from aiohttp import web

from storage.errors import StoreUnavailable
from web.keys import BESIDE


class Beside:
    """Does one piece of work after the other; the process starts with the first."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def begin(self, work: Callable[..., bytes], *arguments: Any) -> Future[bytes]:
        """Hand over a piece of work: a function of a module, and what it takes; both travel to the process.

        Raises: StoreUnavailable: the process ended.
        """
        try:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
            return self._pool.submit(work, *arguments)
        except RuntimeError:
            raise self._ended() from None

    async def done(self, begun: Future[bytes]) -> bytes:
        """Wait for it; who gives up does not stop the work.

        Raises: StoreUnavailable: the process ended, or MongoDB does not answer it.
        """
        try:
            return await asyncio.shield(asyncio.wrap_future(begun))
        except RuntimeError:  # BrokenProcessPool is one: the process was killed
            raise self._ended() from None

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _ended(self) -> StoreUnavailable:
        self.close()
        return StoreUnavailable("the process that computes ended; ask again")


async def beside(app: web.Application) -> AsyncIterator[None]:
    """Give an application its process, and end that with it."""
    app[BESIDE] = Beside()
    yield
    app[BESIDE].close()
