"""Which segments are worth watching now: the set follows the traffic, and is bounded."""

from __future__ import annotations

from typing import Final

import numpy as np

from ml.anomalies.channels import (
    AMOUNT,
    CHANNELS,
    LATENCY,
    RETRIES,
    REVERSALS,
    SILENCE,
    SMALL_DECLINED,
    UNUSUAL,
    VOLUME,
)
from ml.anomalies.segments import (
    ALL_FAMILY,
    FAMILIES,
    GATEWAY_FAMILY,
    NAMED,
    NAMES_GATEWAY,
    Flags,
    Floats,
    Integers,
    SegmentTable,
)

ATTEMPTS_PER_HOUR_MIN: Final = 6.0
"""Quieter segments are left to the wider ones that hold them."""
SAME: Final = 0.97
"""A segment with so much of the traffic of a wider one is the wider one under another name."""


NAMES_METHOD: Final = np.array([1 in named or 3 in named for named in FAMILIES])


class Watched:
    """The segments that have tests of their own.

    Args:
        table: cells and segments.
        usual: usual attempts a second of each segment, shape (segments,).
        watched_max: bound; the busiest are taken.
    """

    def __init__(self, table: SegmentTable, usual: Floats, *, watched_max: int) -> None:
        self.cells = len(table.cells)
        self.doubles: Flags = _doubles(table, usual)
        keep = (usual * 3600.0 >= ATTEMPTS_PER_HOUR_MIN) & ~self.doubles
        keep[table.family == ALL_FAMILY] = True
        chosen = np.flatnonzero(keep)
        if len(chosen) > watched_max:
            chosen = np.sort(chosen[np.argsort(-usual[chosen], kind="stable")[:watched_max]])
        self.segments: Integers = chosen
        self._place = np.full(len(table.segments), len(chosen))
        self._place[chosen] = np.arange(len(chosen))
        self.columns: Integers = self._place[table.cell_segments].reshape(-1, len(FAMILIES))
        family = table.family[chosen]
        self.channels = _channels(family, table.vague[chosen])
        whole = np.flatnonzero(family == ALL_FAMILY)
        self.all_column = int(whole[0]) if len(whole) else 0
        gateways = np.flatnonzero(family == GATEWAY_FAMILY)
        self.ebbed: Integers = np.concatenate((whole, gateways))
        """Columns of all payments, and of each gateway: what may ebb away."""
        place = {table.segments[chosen[column]][0]: number for number, column in enumerate(gateways, 1)}
        names = [table.segments[segment][0] for segment in chosen]
        self.gateway_of: Integers = np.array([place.get(name, 0) for name in names], dtype=np.int64)
        """Of each watched segment the place of its gateway in ``ebbed``; 0 for those that name none."""

    def extended(self, table: SegmentTable) -> None:
        """Take in cells that are new since; their segments are watched when the set is chosen anew."""
        if len(table.cells) == self.cells:
            return
        place = np.full(len(table.segments), len(self.segments))
        place[: len(self._place)] = np.where(self._place < len(self.segments), self._place, len(self.segments))
        self._place = place
        self.columns = place[table.cell_segments].reshape(-1, len(FAMILIES))
        self.cells = len(table.cells)

    def place_of(self, segments: Integers) -> Integers:
        """Where these segments stand among the watched ones, -1 for those that do not."""
        if not len(self._place):
            return np.full(len(segments), -1)
        place = self._place[np.minimum(segments, len(self._place) - 1)]
        known = (segments < len(self._place)) & (place < len(self.segments))
        return np.where(known, place, -1)


def _doubles(table: SegmentTable, usual: Floats) -> Flags:
    """Segments of two attributes that hold nearly all of the traffic of one of their attributes."""
    double = np.zeros(len(table.segments), dtype=np.bool_)
    parents = table.cell_segments
    for family, named in enumerate(FAMILIES):
        for wide, less in enumerate(FAMILIES):
            if len(less) == len(named) - 1 and set(less) <= set(named) and len(named) > 0:
                same = usual[parents[:, family]] >= SAME * usual[parents[:, wide]]
                double[parents[same, family]] = True
    return double


def _channels(family: Integers, vague: Flags) -> Flags:
    """Which channels each watched segment has. Shape (channels, watched).

    A router decides what a gateway gets, so neither volume nor amounts nor retries say anything about a gateway; who
    tries again often takes another method, so retries say nothing about a method. Payments of which no country or
    network is known are no place that could fall silent: after a start all of history is such, and nothing new is.
    """
    flags = np.ones((len(CHANNELS), len(family)), dtype=np.bool_)
    of_gateway = NAMES_GATEWAY[family]
    for channel in (AMOUNT, RETRIES, VOLUME):
        flags[channel] = ~of_gateway
    flags[RETRIES] &= ~NAMES_METHOD[family]
    flags[VOLUME] &= ~vague
    flags[SILENCE] = family == ALL_FAMILY
    flags[UNUSUAL] = NAMED[family] <= 1
    for channel in (SMALL_DECLINED, LATENCY, REVERSALS):
        flags[channel] = True
    return flags
