"""Groups of like payments, from coarse to fine, and the gateways that can be compared in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ml.routing.hindsight.decided import DecisionTable

TRIES_MIN: Final = 100.0
"""Effective tries of a gateway in a group before it is compared there: its rate is then known to six points."""


@dataclass(frozen=True, slots=True)
class Level:
    """Groups of one kind; payments of one group could all have gone to the same gateways.

    Attributes:
        group: of each decision. Shape (decisions,), int.
        compared: gateways that were tried often enough there. Shape (groups, gateways), bool.
        above: the group of the coarser level that each one lies in; 0 where there is none. Shape (groups,), int.
    """

    group: np.ndarray
    compared: np.ndarray
    above: np.ndarray


def levels_of(table: DecisionTable) -> tuple[Level, ...]:
    """Group payments by currency, by method in it, and by issuer in that.

    Groups, and what is compared in them, depend on numbers of tries alone, never on how payments ended.
    """
    count, gateways = table.offered.shape
    group = np.unique(table.offered, axis=0, return_inverse=True)[1].reshape(-1)
    above = np.zeros(count, dtype=int)
    levels = []
    for column in table.parts.T:
        names = np.unique(column, return_inverse=True)[1].reshape(-1)
        _, first, group = np.unique(group * (len(names) + 1) + names, return_index=True, return_inverse=True)
        group = group.reshape(-1)
        tried = tries(group, table.used, table.propensity, len(first), gateways)
        levels.append(Level(group, tried >= TRIES_MIN, above[first]))
        above = group
    return tuple(levels)


def tries(group: np.ndarray, used: np.ndarray, propensity: np.ndarray, groups: int, gateways: int) -> np.ndarray:
    """How many even-handed tries say as much about each gateway as the ones that were made.

    Args:
        group: of each decision. Shape (decisions,), int.
        used: gateway of each. Shape (decisions,), int.
        propensity: its probability, above 0 to 1. Shape (decisions,).
        groups: how many there are.
        gateways: how many there are.
    Returns: (sum of weights)² / sum of squared weights. Shape (groups, gateways).
    """
    flat, size = group * gateways + used, groups * gateways
    weights = np.bincount(flat, 1 / propensity, minlength=size)
    squares = np.bincount(flat, 1 / propensity**2, minlength=size)
    return np.divide(weights**2, squares, out=np.zeros(size), where=squares > 0).reshape(groups, gateways)
