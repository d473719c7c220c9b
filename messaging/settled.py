"""Acknowledges messages that are done in any order with as few words as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class Settled:
    """Says up to which message of a channel all are done, whenever that changes.

    Messages that are done while an earlier one is not stay unacknowledged until that one is done too, so a crash never
    takes one along that was not done.

    Args:
        acknowledge: tells the broker of all up to a delivery tag. Of its channel all messages have to be told here.
    """

    def __init__(self, acknowledge: Callable[[int], None]) -> None:
        self._acknowledge = acknowledge
        self._up_to = 0
        self._ahead: set[int] = set()

    def add(self, tags: Iterable[int]) -> None:
        """Take in that these messages, by their delivery tag, are done."""
        self._ahead.update(tags)
        before = self._up_to
        while self._up_to + 1 in self._ahead:
            self._up_to += 1
            self._ahead.remove(self._up_to)
        if self._up_to > before:
            self._acknowledge(self._up_to)
