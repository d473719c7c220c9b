"""The process beside the web's own, for what computes for seconds."""

from __future__ import annotations

import asyncio
import time

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
    await asyncio.to_thread(process.join, 5)
    assert not process.is_alive()
    assert time.monotonic() - began < 5
    assert await beside.done(beside.begin(bytes, 1)) == bytes(1)
    beside.close()
