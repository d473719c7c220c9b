"""Which parts of the traffic are watched: gateway, method, issuer, network and country, each alone and in pairs."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

ATTRIBUTES: Final = ("gateway", "method", "issuer", "network", "country")
SegmentKey = tuple[str | None, str | None, str | None, str | None, str | None]
"""One value per attribute; None stands for all."""
CellKey = tuple[str, str, str, str, str, bool]
"""The five values of an attempt ("" when not known), and whether it is a retry of its order."""

ALL: Final[SegmentKey] = (None, None, None, None, None)
ELSE: Final = "(other)"
"""Stands for the values that found no room any more."""

FAMILIES: Final[tuple[tuple[int, ...], ...]] = (
    (),
    *((place,) for place in range(len(ATTRIBUTES))),
    *combinations(range(len(ATTRIBUTES)), 2),
)
"""The attributes that each family of segments names, by place: none (all payments), one, or two of them."""

ALL_FAMILY: Final = 0
GATEWAY_FAMILY: Final = 1
NAMES_GATEWAY: Final = np.array([0 in named for named in FAMILIES])
NAMED: Final = np.array([len(named) for named in FAMILIES])
"""How many attributes each family names."""


class SegmentTable:
    """Numbers cells (what an attempt is, in full) and segments, and adds cells up to segments.

    Bounded: no more than ``segments_max`` segments and four times as many cells. What finds no room loses country,
    network and issuer, in this order, until it does; :meth:`keep` makes room.

    >>> table = SegmentTable(segments_max=100)
    >>> cell = table.cell(("alpha", "card", "harbour_bank", "visa", "IN", False))
    >>> cell, len(table.segments), table.segments[table.cell_segments[cell][1]]
    (0, 16, ('alpha', None, None, None, None))
    """

    def __init__(self, *, segments_max: int) -> None:
        if segments_max < len(FAMILIES):
            raise ValueError(f"segments_max is {segments_max}; one kind of attempt alone needs {len(FAMILIES)}")
        self.segments_max = segments_max
        self.cells_max = 4 * segments_max
        self._build([])

    def _build(self, cells: list[CellKey]) -> None:
        self.cells: list[CellKey] = []
        self.segments: list[SegmentKey] = []
        self._families: list[int] = []
        self._vague: list[bool] = []
        self._cell_ids: dict[CellKey, int] = {}
        self._segment_ids: dict[SegmentKey, int] = {}
        self._parents: list[list[int]] = []
        self._arrays: tuple[Integers, Flags, csr_array] | None = None
        self._family: Integers | None = None
        self._parts: dict[tuple[int, ...], tuple[Integers, csr_array]] = {}
        self.refused = 0
        for key in cells:
            self.cell(key)

    def cell(self, key: CellKey) -> int:
        """Number a cell, new or known; -1 when the table is full even for less of it."""
        known = self._cell_ids.get(key)
        if known is not None:
            return known
        gateway, method, issuer, network, _, retry = key
        for narrowed in (
            key,
            (gateway, method, issuer, network, ELSE, retry),
            (gateway, method, issuer, ELSE, ELSE, retry),
            (gateway, method, ELSE, ELSE, ELSE, retry),
        ):
            number = self._cell_ids.get(narrowed)
            number = self._added(narrowed) if number is None else number
            if number is not None:
                return number
        self.refused += 1
        return -1

    def _added(self, key: CellKey) -> int | None:
        keys = [_masked(key, family) for family in FAMILIES]
        fresh = [(segment, family) for family, segment in enumerate(keys) if segment not in self._segment_ids]
        if len(self.segments) + len(fresh) > self.segments_max or len(self.cells) >= self.cells_max:
            return None
        for segment, family in fresh:
            self._segment_ids[segment] = len(self.segments)
            self.segments.append(segment)
            self._families.append(family)
            self._vague.append("" in segment or ELSE in segment)
        self._cell_ids[key] = len(self.cells)
        self.cells.append(key)
        self._parents.append([self._segment_ids[segment] for segment in keys])
        self._arrays = self._family = None
        self._parts.clear()
        return len(self.cells) - 1

    def segment(self, key: SegmentKey) -> int | None:
        """The number of a segment, None if nothing of it was seen."""
        return self._segment_ids.get(key)

    @property
    def full(self) -> float:
        """How full the table is, 0 to 1."""
        return max(len(self.segments) / self.segments_max, len(self.cells) / self.cells_max)

    def _built(self) -> tuple[Integers, Flags, csr_array]:
        if self._arrays is None:
            parents = np.array(self._parents, dtype=np.int64).reshape(-1, len(FAMILIES))
            retry = np.array([key[-1] for key in self.cells], dtype=np.bool_)
            columns = np.repeat(np.arange(len(self.cells)), len(FAMILIES))
            shape = (len(self.segments), len(self.cells))
            matrix = csr_array((np.ones(parents.size), (parents.ravel(), columns)), shape=shape)
            self._arrays = parents, retry, matrix
        return self._arrays

    @property
    def cell_segments(self) -> Integers:
        """The segment of each cell in each family. Shape (cells, families)."""
        return self._built()[0]

    @property
    def retry(self) -> Flags:
        """Which cells hold retries. Shape (cells,)."""
        return self._built()[1]

    @property
    def family(self) -> Integers:
        """The family of each segment. Shape (segments,)."""
        if self._family is None:
            self._family = np.array(self._families, dtype=np.int64)
        return self._family

    @property
    def vague(self) -> Flags:
        """Which segments are named by what is not known of payments, or found no room. Shape (segments,).

        How many payments lie in such a one is up to what checkouts say, or stored sums tell, and not up to shoppers.
        """
        return np.array(self._vague, dtype=np.bool_)

    def roll_up(self, of_cells: Floats) -> Floats:
        """Add cells up to segments. Shape (cells, columns) in, (segments, columns) out."""
        summed: Floats = self._built()[2] @ of_cells
        return summed

    def roll_up_to(self, families: tuple[int, ...], of_cells: Floats) -> tuple[Integers, Floats]:
        """Add cells up to the segments of some families only.

        Shape (cells, columns) in; the numbers of the segments, rising, and (segments, columns) out.
        """
        if families not in self._parts:
            segments = np.flatnonzero(np.isin(self.family, families))
            self._parts[families] = segments, self._built()[2][segments]
        segments, matrix = self._parts[families]
        summed: Floats = matrix @ of_cells
        return segments, summed

    def covered(self, key: SegmentKey) -> Flags:
        """Which cells a segment holds. Shape (cells,)."""
        number = self.segment(key)
        if number is None:
            return np.zeros(len(self.cells), dtype=np.bool_)
        inside: Flags = (self.cell_segments == number).any(axis=1)
        return inside

    def overlapping(self, cells: Flags) -> Flags:
        """Which segments hold at least one of these cells. Shape (cells,) in, (segments,) out."""
        hit = np.zeros(len(self.segments), dtype=np.bool_)
        hit[self.cell_segments[cells].ravel()] = True
        return hit

    def keep(self, cells: Integers) -> tuple[Integers, Integers]:
        """Forget all cells but these. Returns the old numbers of the cells and segments, in their new order."""
        old = dict(self._segment_ids)
        self._build([self.cells[number] for number in cells])
        return cells, np.array([old[segment] for segment in self.segments], dtype=np.int64)


def contains(wide: SegmentKey, narrow: SegmentKey) -> bool:
    """Whether every attempt of the narrow segment is one of the wide segment.

    >>> contains(("bravo", None, None, None, None), ("bravo", "card", None, None, None))
    True
    """
    return all(outer is None or outer == inner for outer, inner in zip(wide, narrow, strict=True))


def overlap(one: SegmentKey, other: SegmentKey) -> bool:
    """Whether an attempt may lie in both.

    >>> overlap(("bravo", None, None, None, None), (None, "card", None, None, None)), overlap(("a",) * 5, ("b",) * 5)
    (True, False)
    """
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def text_of(key: SegmentKey) -> str:
    """Name a segment for a person.

    >>> text_of(("bravo", None, "harbour_bank", None, None)), text_of(ALL)
    ('gateway bravo, issuer harbour_bank', 'all payments')
    """
    named = [f"{name} {value or 'none'}" for name, value in zip(ATTRIBUTES, key, strict=True) if value is not None]
    return ", ".join(named) or "all payments"


def _masked(key: CellKey, named: tuple[int, ...]) -> SegmentKey:
    gateway, method, issuer, network, country = (key[place] if place in named else None for place in range(5))
    return gateway, method, issuer, network, country  # type: ignore[return-value]
