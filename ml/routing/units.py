"""Payments that vary together: those of one customer are alike, so many of them say less than as many of others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

UNITS_MIN: Final = 60
"""Customers, or orders where no customer is known, that an interval rests on at least; with fewer, its normal quantile
is too small (tests/unit/ml/routing/test_hindsight.py, test_policy_evaluation.py)."""


def units(names: Sequence[str]) -> np.ndarray:
    """Number equal names alike, from 0. Shape (names,), int.

    >>> units(["b", "a", "b"]).tolist()
    [1, 0, 1]
    """
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].reshape(-1)


def sums_of_units(parts: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """What the payments of each unit add up to, without the units of which there is no payment.

    Args:
        parts: of each payment. Shape (payments,).
        unit: of each payment. Shape (payments,), int, >= 0.

    >>> sums_of_units(np.array([1.0, 2.0, 4.0]), np.array([3, 0, 3])).tolist()
    [2.0, 5.0]
    """
    sums: np.ndarray = np.bincount(unit, parts)[np.bincount(unit) > 0]
    return sums


def deviation_of_sum(centred: np.ndarray, unit: np.ndarray) -> float:
    """Standard deviation of a sum over payments that vary together within their unit, and not across units.

    Where each payment is a unit it is the ordinary one.

    Args:
        centred: what each payment adds, less what is expected of it. Shape (payments,).
        unit: of each payment. Shape (payments,), int, >= 0.
    Source: Liang and Zeger (1986), Biometrika 73(1), 13-22.

    >>> deviation_of_sum(np.array([1.0, 1.0, -1.0, -1.0]), np.array([0, 0, 1, 1]))
    4.0
    """
    sums = sums_of_units(centred, unit)
    return math.sqrt(float(np.square(sums).sum()) * len(sums) / max(1, len(sums) - 1))
