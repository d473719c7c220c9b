"""The best gateway of each group of payments, as the payments before, or all of them, tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ml.routing.hindsight.cells import Level
from ml.routing.hindsight.decided import DecisionTable

BLOCKS: Final = 10
"""Payments are dealt into so many blocks; what is best is told anew for each, from those before it."""

CAUTION: Final = 20.0
"""Weight of what the router expected, in payments: what is told from few payments is not taken at face value."""

AS_IT_WAS: Final = -1
"""The choice where no gateway can be compared."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What would have been done with each decision.

    Attributes:
        level: the level whose group tells it. Shape (decisions,), int.
        gateway: or ``AS_IT_WAS``. Shape (decisions,), int.
    """

    level: np.ndarray
    gateway: np.ndarray


def best_before(table: DecisionTable, levels: Sequence[Level], size: np.ndarray, block: np.ndarray) -> Choice:
    """Choose for each block by what the blocks before it tell: not by the payments that it will be valued on.

    Args:
        table: the decisions.
        levels: their groups.
        size: what each payment counts as: 1, or its amount. Shape (decisions,).
        block: 0 to BLOCKS - 1. Shape (decisions,), int.
    """
    return _best(table, levels, size, block, CAUTION)


def best_of_all(table: DecisionTable, levels: Sequence[Level], size: np.ndarray) -> Choice:
    """Choose by all payments, at face value."""
    return _best(table, levels, size, None, 0.0)


def decided(values: Sequence[np.ndarray], kept: np.ndarray, levels: Sequence[Level]) -> tuple[np.ndarray, np.ndarray]:
    """Choose in each group one gateway for all of it, or leave the choice to the finer groups in it.

    Args:
        values: of a whole group sent to a gateway, by level; -inf where not compared. Shapes (groups, gateways).
        kept: value of the finest groups as they were; what counts where nothing is compared. Shape (groups,).
        levels: from coarse to fine.
    Returns: level and gateway for each of the finest groups. Shapes (groups,), int.
    """
    top, worth = [], kept
    for depth in range(len(levels) - 1, -1, -1):
        own = values[depth].max(axis=1)
        if depth == len(levels) - 1:
            takes = np.isfinite(own)
        else:
            worth = np.bincount(levels[depth + 1].above, worth, minlength=len(own))
            takes = own >= worth
        worth = np.where(takes, own, worth)
        top.append(np.where(takes, values[depth].argmax(axis=1), AS_IT_WAS))
    top.reverse()
    level, gateway = np.zeros(len(top[0]), dtype=int), top[0]
    for depth in range(1, len(levels)):
        above = levels[depth].above
        is_settled = gateway[above] != AS_IT_WAS
        level, gateway = np.where(is_settled, level[above], depth), np.where(is_settled, gateway[above], top[depth])
    return level, gateway


def _best(
    table: DecisionTable, levels: Sequence[Level], size: np.ndarray, block: np.ndarray | None, caution: float
) -> Choice:
    blocks = 1 if block is None else BLOCKS
    sums = [_values(table, level, size, block, caution) for level in levels]
    finest = levels[-1]
    kept = np.bincount(finest.group, size * table.succeeded, minlength=len(finest.compared))
    chosen = [decided([each[number] for each in sums], kept, levels) for number in range(blocks)]
    level, gateway = (np.stack([each[place] for each in chosen]) for place in (0, 1))
    asked = 0 if block is None else block
    return Choice(level[asked, finest.group], gateway[asked, finest.group])


def _values(
    table: DecisionTable, level: Level, size: np.ndarray, block: np.ndarray | None, caution: float
) -> np.ndarray:
    """What each group would have brought at each gateway, by the blocks before. Shape (blocks, groups, gateways)."""
    groups, gateways = level.compared.shape
    shape = (1 if block is None else BLOCKS, groups, gateways)
    place = ((0 if block is None else block) * groups + level.group) * gateways + table.used
    weight = size / table.propensity
    error = table.succeeded - table.expected_of(table.used)
    weights, errors, squares = (
        np.bincount(place, each, minlength=math.prod(shape)).reshape(shape)
        for each in (weight, weight * error, weight**2)
    )
    if block is not None:
        weights, errors, squares = (each.cumsum(axis=0) - each for each in (weights, errors, squares))
    known = np.column_stack([np.bincount(level.group, size * column, minlength=groups) for column in table.expected.T])
    sizes = np.bincount(level.group, size, minlength=groups)[:, None]
    tries = ratio(weights**2, squares)
    values = known + sizes * ratio(errors, weights) * ratio(tries, tries + caution)
    return np.where(level.compared, values, -np.inf)


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The quotient; 0 where there is nothing to divide by."""
    out = np.zeros(np.broadcast(above, below).shape)
    np.divide(above, below, out=out, where=below > 0)
    return out
