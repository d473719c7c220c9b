"""What two arms say about one metric so far: the difference, bounds that hold at any look, and the evidence."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.experiments.moments import Contrast, Moments, contrast
from ml.experiments.sequences import half_width, p_value_any_time

UNITS_MIN: Final = 100
"""Units an arm needs before it is compared: the confidence sequence rests on the central limit theorem."""

OUTCOMES_MIN: Final = 10
"""Successes, and failures, an arm needs before its rate is compared, for the same reason."""

EXACT_SHARE: Final = 0.1
"""The part of alpha that is spent on exact bounds while there is too little for the others."""


class Evidence(NamedTuple):
    """B less A at one or many looks, each of shape (...). ``enough``: there is enough for bounds to be believed."""

    contrast: Contrast
    half_width: NDArray[np.float64]
    p_value: NDArray[np.float64]
    enough: NDArray[np.bool_]


def evidence(  # two arms, and the five choices of a comparison
    a: Moments,
    b: Moments,
    *,
    alpha: float,
    tuned: float,
    is_share: bool,
    adjusted: bool = True,
    units_min: int = UNITS_MIN,
) -> Evidence:
    """Compare two arms so that one may look at any time and stop at any time.

    Args:
        a: the arm compared with, sums of shape (..., strata).
        b: the arm in question.
        alpha: share of comparisons without a difference that may ever, over all looks, be called different.
        tuned: see ``sequences.precision``.
        is_share: what is above the line is a part of what is below, such as successes of attempts.
        adjusted: post-stratify.
        units_min: units that each arm needs.
    Returns: where there is not enough, the p-value is 1 and the half width infinite.
    """
    compared = contrast(a, b, adjusted=adjusted)
    enough = np.logical_and(*(enough_units(arm, is_share=is_share, units_min=units_min) for arm in (a, b)))
    enough = enough & (compared.standard_error > 0)
    error = np.where(enough, compared.standard_error, 1.0)
    units = np.maximum(compared.units, 1.0)
    half = half_width(error, units, alpha=alpha, tuned=tuned)
    p_value = p_value_any_time(np.where(enough, compared.difference, 0.0), error, units, tuned=tuned)
    return Evidence(compared, np.where(enough, half, np.inf), np.where(enough, p_value, 1.0), enough)


def enough_units(arm: Moments, *, is_share: bool, units_min: int = UNITS_MIN) -> Any:
    """Whether an arm has enough units, and enough of both outcomes, to be compared. Shape (...)."""
    units = arm.units.sum(axis=-1)
    enough = units >= units_min
    if is_share:
        top, bottom = arm.top.sum(axis=-1), arm.bottom.sum(axis=-1)
        enough = enough & (np.minimum(top, bottom - top) >= OUTCOMES_MIN)
    return enough


def units_lacking(arm: Moments, *, is_share: bool) -> int:
    """About how many more units one arm needs before it is compared; at the shares so far. 0: it has enough."""
    units = float(arm.units.sum())
    needed = float(UNITS_MIN)
    if is_share:
        top, bottom = float(arm.top.sum()), float(arm.bottom.sum())
        needed = max(needed, units * OUTCOMES_MIN / max(min(top, bottom - top), 1.0))
    return max(0, int(np.ceil(needed - units)))
