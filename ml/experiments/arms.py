"""What an arm has gathered so far, ready to be compared: counts of all its units, sums of the mature ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from ml.experiments.metrics import METRICS
from ml.experiments.moments import Moments
from ml.experiments.units import COUNT_NAMES, NO_COUNTS, PARTS, SUM_NAMES

REST: Final = "rest"
DIMENSIONS: Final = ("method", "issuer", "country", "amount")
"""What a stratum is made of, in this order."""

BANDS: Final = ("small", "middle", "large", "very large")


class ArmTally(NamedTuple):
    """One arm: ``counts`` in the order of ``COUNT_NAMES``; ``sums`` by stratum in the order of ``SUM_NAMES``."""

    counts: tuple[int, ...] = NO_COUNTS
    sums: Mapping[str, tuple[float, ...]] = {}

    def count(self, name: str) -> int:
        """One of the counts."""
        return self.counts[COUNT_NAMES.index(name)]

    @property
    def mature(self) -> int:
        """Units whose outcome is old enough to be judged."""
        return int(sum(each[0] for each in self.sums.values()))


def moments_of(arms: Mapping[str, ArmTally], metric: str, *, by_block: bool = False) -> dict[str, Moments]:
    """The moments of every arm for one metric, all over the same strata.

    Args:
        arms: by name.
        metric: one of ``METRICS``.
        by_block: strata are blocks of time, each a unit of its own: what counts is what a block did as a whole.
    """
    at = SUM_NAMES.index(f"{metric}.{PARTS[0]}")
    if by_block:
        return {name: _of_blocks(tally, at) for name, tally in arms.items()}
    strata = sorted({stratum for tally in arms.values() for stratum in tally.sums}) or [REST]
    return {name: _of_strata(tally, strata, at) for name, tally in arms.items()}


def parts_of(arms: Mapping[str, ArmTally], dimension: str) -> dict[str, dict[str, ArmTally]]:
    """Every arm divided by one dimension of the strata, by its value."""
    place = DIMENSIONS.index(dimension)
    found: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {}
    for name, tally in arms.items():
        for stratum, sums in tally.sums.items():
            values = stratum.split("|")
            if len(values) == len(DIMENSIONS):
                value = BANDS[int(values[place])] if dimension == "amount" else values[place]
                found.setdefault(value, {}).setdefault(name, {})[stratum] = sums
    return {
        value: {name: ArmTally(NO_COUNTS, of_arm.get(name, {})) for name in arms} for value, of_arm in found.items()
    }


def _of_strata(tally: ArmTally, strata: list[str], at: int) -> Moments:
    empty = (0.0,) * len(SUM_NAMES)
    table: Any = np.array([tally.sums.get(stratum, empty) for stratum in strata], dtype=float)
    return Moments(table[:, 0], *(table[:, at + offset] for offset in range(len(PARTS))))


def _of_blocks(tally: ArmTally, at: int) -> Moments:
    blocks = [(sums[at], sums[at + 1]) for sums in tally.sums.values() if sums[at + 1]]
    top, bottom = zip(*blocks, strict=True) if blocks else ((), ())
    return Moments.of_units(top, bottom)


def share_metric(metric: str) -> bool:
    """Whether a metric is a share, so that both outcomes must have been seen before it is compared."""
    return METRICS[metric].is_share
