"""A process beside the web's own, for what computes for seconds: pages must not wait for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from typing import Any, Final

import msgspec
from aiohttp import web

from config.settings import StoreSettings
from storage.database import Database, close, connect
from storage.errors import StoreUnavailable
from web.keys import BESIDE

WORK_S_MAX: Final = 60.0
"""How long a piece of work may read from the store."""

CONNECT_S_MAX: Final = 5.0
"""Who asks waits for an answer, not for MongoDB to come back."""


@asynccontextmanager
async def opened(settings: StoreSettings) -> AsyncIterator[Database]:
    """A connection of the process to the store, for one piece of work.

    Raises: StoreUnavailable: MongoDB does not answer, or not in time.
    """
    database = await connect(msgspec.structs.replace(settings, connect_wait_s_max=CONNECT_S_MAX))
    try:
        async with asyncio.timeout(WORK_S_MAX):
            yield database
    except TimeoutError:
        raise StoreUnavailable(f"MongoDB did not answer within {WORK_S_MAX:.0f} s") from None
    finally:
        await close(database)


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
        """End the process, whatever it is at: nobody waits for the answer any more."""
        if self._pool is None:
            return
        # An executor has no way to end what runs before Python 3.14; without it the web process would wait for it.
        processes = tuple((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None
        for process in processes:
            process.terminate()

    def _ended(self) -> StoreUnavailable:
        self.close()
        return StoreUnavailable("the process that computes ended; ask again")


async def beside(app: web.Application) -> AsyncIterator[None]:
    """Give an application its process, and end that with it."""
    app[BESIDE] = Beside()
    yield
    app[BESIDE].close()
