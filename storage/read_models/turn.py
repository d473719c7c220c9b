"""A turn: of all who share an event loop one has it at a time, the others wait in the order they came."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakKeyDictionary


class Turn:
    """Something that one does at a time. A lock belongs to the loop it is waited for in, and each loop has its own."""

    def __init__(self) -> None:
        self._locks: WeakKeyDictionary[AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for the turn, and have it; whoever has it must not ask for it again."""
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            yield


SINGLES: Final = Turn()
"""Of reading single attempts or failures: each costs up to a second, and two at a time would make both slow."""
