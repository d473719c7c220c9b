"""Ends tasks for good."""

from __future__ import annotations

import asyncio
from typing import Any, Final

AGAIN_S: Final = 1.0
"""How long a cancelled task gets before it is told once more, seconds."""


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until every one is over; what they raise is not raised here.

    One cancellation is not enough: before Python 3.12 ``asyncio.wait_for``, which MongoDB's driver waits with, swallows
    one that comes in the moment its answer does, and a task that loops for ever would go on doing so.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)  # so that no error counts as never looked at
