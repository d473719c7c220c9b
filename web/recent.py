"""Shares one answer of the store between everybody who asks for the same within a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

Read = TypeVar("Read")

KEYS_MAX: Final = 64
"""Distinct answers kept: about ten read models, and the overview of each choice that somebody looks at."""


class RecentReads:
    """Keeps the last answer per key for a moment, and lets only one caller per key ask at a time.

    Args:
        keep_s: how old a shared answer may be, seconds, >= 0.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._answers: dict[str, tuple[float, Any]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, key: str, ask: Callable[[], Awaitable[Read]]) -> Read:
        """The answer for this key, at most ``keep_s`` old; an error is never kept."""
        if key not in self._locks and len(self._locks) >= KEYS_MAX:
            self._forget_old()
            if len(self._locks) >= KEYS_MAX:
                return await ask()
        async with self._locks.setdefault(key, asyncio.Lock()):
            known = self._answers.get(key)
            if known is not None and time.monotonic() - known[0] < self._keep_s:
                answer: Read = known[1]
                return answer
            fresh = await ask()
            self._answers[key] = (time.monotonic(), fresh)
            return fresh

    def _forget_old(self) -> None:
        """Let go of answers that are too old to be given, except those that somebody waits for."""
        now = time.monotonic()
        for key, (at, _) in list(self._answers.items()):
            if now - at >= self._keep_s and not self._locks[key].locked():
                del self._answers[key], self._locks[key]
