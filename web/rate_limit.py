"""Slows down guessing of passwords: counts recent failures per key, in bounded memory."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Hashable


class FailureLimiter:
    """Remembers the moments of recent failures for each key; the least recently failed keys are forgotten first.

    Args:
        failures_max: failures per key within the window before it has to wait, >= 1.
        window_s: how long a failure counts, seconds, > 0.
        keys_max: keys remembered, >= 1.
    """

    def __init__(self, *, failures_max: int, window_s: float, keys_max: int = 10_000) -> None:
        self._failures_max = failures_max
        self._window_s = window_s
        self._keys_max = keys_max
        self._failed_at: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def wait_s(self, key: Hashable, now: float) -> int:
        """How many whole seconds this key must wait; 0: it may try now."""
        failed_at = self._failed_at.get(key)
        if failed_at is None:
            return 0
        while failed_at and failed_at[0] <= now - self._window_s:
            failed_at.popleft()
        if len(failed_at) < self._failures_max:
            return 0
        return max(1, math.ceil(failed_at[0] + self._window_s - now))

    def failed(self, key: Hashable, now: float) -> None:
        """Count one failure."""
        failed_at = self._failed_at.setdefault(key, deque(maxlen=self._failures_max))
        failed_at.append(now)
        self._failed_at.move_to_end(key)
        while len(self._failed_at) > self._keys_max:
            self._failed_at.popitem(last=False)

    def succeeded(self, key: Hashable) -> None:
        """Forget the failures of a key."""
        self._failed_at.pop(key, None)

    def __len__(self) -> int:
        return len(self._failed_at)
