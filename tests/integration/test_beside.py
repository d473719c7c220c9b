"""The process beside the web's own, for what computes for seconds."""

from __future__ import annotations

import asyncio
import time
from multiprocessing.connection import wait

import pytest

from storage.errors import StoreUnavailable
from web.beside import Beside


async def test_closing_ends_the_process_whatever_it_is_at() -> None:
    """Who waits is told, nobody waits for the work to end, and the next piece of work gets a new process."""
    beside = Beside()
    assert await beside.done(beside.begin(bytes, 3)) == bytes(3)
    waiting = asyncio.create_task(beside.done(beside.begin(time.sleep, 60)))
    await asyncio.sleep(0.5)
    assert beside._pool is not None
    (process,) = beside._pool._processes.values()
    began = time.monotonic()
    beside.close()
    with pytest.raises(StoreUnavailable, match="ask again"):
        await waiting
    # Asked of the system: the executor's thread collects the process too, and may not have noted its exit yet.
    assert await asyncio.to_thread(wait, [process.sentinel], 5)
    assert time.monotonic() - began < 5
    assert await beside.done(beside.begin(bytes, 1)) == bytes(1)
    beside.close()
