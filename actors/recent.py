"""What a worker remembers of late, within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping that keeps the most recently put entries."""

    def __init__(self, size_max: int) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._size_max = size_max

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The entry, or None."""
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep an entry, and drop the oldest when there are too many."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size_max:
            self._entries.popitem(last=False)

    def pop(self, key: K) -> V | None:
        """Take an entry out, or None."""
        return self._entries.pop(key, None)

    def values(self) -> Iterable[V]:
        """Every entry, the oldest first."""
        return self._entries.values()

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
