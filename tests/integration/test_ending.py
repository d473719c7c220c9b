"""Tasks are ended for good."""

from __future__ import annotations

import asyncio

import pytest

from messaging import ending
from messaging.ending import end


async def test_a_task_that_swallows_a_cancellation_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told again, until it is over."""
    monkeypatch.setattr(ending, "AGAIN_S", 0.01)
    swallowed = 0

    async def deaf_twice() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if swallowed == 2:
                    raise
                swallowed += 1

    task = asyncio.create_task(deaf_twice())
    await asyncio.sleep(0)
    await end(task)
    assert task.cancelled()
    assert swallowed == 2


async def test_ending_raises_nothing_of_what_the_tasks_raise() -> None:
    """A task that failed long ago, one that is over, and one that fails when it is told: all are over, quietly."""

    async def fails_when_told() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("no")

    async def over() -> None:
        return None

    tasks = [asyncio.create_task(fails_when_told()), asyncio.create_task(over())]
    await asyncio.sleep(0)
    await end(*tasks)
    assert all(task.done() for task in tasks)


async def test_ending_nothing_is_fine() -> None:
    """No tasks, no wait."""
    await end()
