"""The last hour of counts per cell, so that what led to an alarm can be looked at again, cell by cell."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

import numpy as np

from ml.anomalies.counting import STATISTICS, per_cell
from ml.anomalies.segments import Floats, Integers

BLOCKS_KEPT: Final = 90
DETAILED: Final = 2
"""Of so many of the last blocks the rows are kept as well, so that a part of them can be counted; at most as many rows
as there are cells times ticks."""


class Block(NamedTuple):
    """Some ticks: ``sums`` per cell, shape (cells, STATISTICS)."""

    first: int
    last: int
    sums: Floats


class Detail(NamedTuple):
    """The rows behind a block: statistics, cell and tick of each."""

    statistics: Floats
    cell: Integers
    tick: Integers


class Blocks:
    """Finished blocks and the one under way."""

    def __init__(self) -> None:
        self._blocks: deque[Block] = deque(maxlen=BLOCKS_KEPT)
        self._details: deque[list[Detail]] = deque(maxlen=DETAILED)
        self._open: list[Detail] = []

    def add(self, statistics: Floats, cell: Integers, tick: Integers) -> None:
        """Count rows of the block under way. Shapes (n, STATISTICS), (n,), (n,)."""
        if len(cell):
            self._open.append(Detail(statistics.astype(np.float32), cell, tick))

    def finish(self, first: int, last: int, cells: int) -> Block:
        """End the block under way."""
        block = Block(first, last, self._summed(self._open, cells, first).astype(np.float32))
        self._blocks.append(block)
        self._details.append(self._open)
        self._open = []
        return block

    def since(self, tick: int, cells: int) -> Floats:
        """Everything since a tick, as far as it is kept. Shape (cells, STATISTICS)."""
        total = self._summed(self._open, cells, tick)
        finished = len(self._blocks)
        for place, block in enumerate(self._blocks):
            if block.last < tick:
                continue
            behind = place - (finished - len(self._details))
            if block.first >= tick or behind < 0:
                total[: len(block.sums)] += block.sums
            else:
                total += self._summed(self._details[behind], cells, tick)
        return total

    def oldest(self) -> int | None:
        """The first tick that is kept; None when nothing is."""
        if self._blocks:
            return self._blocks[0].first
        return min((int(detail.tick.min()) for detail in self._open), default=None)

    def learnable(self, last: int) -> list[Block]:
        """Blocks that ended by a tick, oldest first."""
        return [block for block in self._blocks if block.last <= last]

    def keep(self, cells: Integers, size: int) -> None:
        """Forget all cells but these, in this order; ``size``: how many there were."""
        place = np.full(size, -1)
        place[cells] = np.arange(len(cells))
        kept = []
        for block in self._blocks:
            sums = np.zeros((len(cells), STATISTICS), dtype=np.float32)
            known = cells < len(block.sums)
            sums[known] = block.sums[cells[known]]
            kept.append(block._replace(sums=sums))
        self._blocks = deque(kept, maxlen=BLOCKS_KEPT)
        details = [_kept(one, place) for one in self._details]
        self._details = deque(details, maxlen=DETAILED)
        self._open = _kept(self._open, place)

    def _summed(self, details: list[Detail], cells: int, since: int) -> Floats:
        total = np.zeros((cells, STATISTICS))
        for detail in details:
            rows = slice(None) if detail.tick.min() >= since else detail.tick >= since
            total += per_cell(detail.statistics[rows].astype(np.float64), detail.cell[rows], cells)
        return total


def _kept(details: list[Detail], place: Integers) -> list[Detail]:
    found = []
    for detail in details:
        inside = place[detail.cell] >= 0
        if inside.any():
            found.append(Detail(detail.statistics[inside], place[detail.cell[inside]], detail.tick[inside]))
    return found
