"""Compares two arms by a ratio of two sums, such as successes per attempt, from sums over randomised units.

The unit that was randomised (an order, a customer, a block of time) is the unit of analysis, however many attempts it
made: the delta method on sums by unit, because attempts of one order are not independent and would make the error look
smaller than it is. Sums are kept by stratum; post-stratification takes out what method, issuer, country and amount do
to the outcome, which both arms meet alike.

All arrays may carry leading axes (many experiments at once); the last axis is the stratum.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

STRATUM_UNITS_MIN: Final = 10
"""Units that each arm needs in a stratum of its own; thinner strata are judged together."""

Floats = NDArray[np.float64]


class Moments(NamedTuple):
    """Sums over the units of one arm, by stratum. Each of shape (..., strata)."""

    units: Floats
    top: Floats
    bottom: Floats
    top_top: Floats
    top_bottom: Floats
    bottom_bottom: Floats

    @classmethod
    def of_counts(cls, successes: Any, units: Any) -> Moments:
        """Where every unit has one trial: a rate. Shapes (..., strata)."""
        won = np.asarray(successes, dtype=float)
        tried = np.asarray(units, dtype=float)
        return cls(tried, won, tried, won, won, tried)

    @classmethod
    def of_units(cls, top: Any, bottom: Any) -> Moments:
        """From what each unit did, all in one stratum. Shapes (units,)."""
        above, below = np.asarray(top, dtype=float), np.asarray(bottom, dtype=float)
        sums = (np.ones_like(above), above, below, above * above, above * below, below * below)
        return cls(*(np.atleast_1d(each.sum()) for each in sums))

    def summed(self) -> Moments:
        """All strata as one. Shapes (..., 1)."""
        return Moments(*(each.sum(axis=-1, keepdims=True) for each in self))


class Contrast(NamedTuple):
    """B less A: the difference of two ratios and its standard error, each of shape (...)."""

    ratio_a: Floats
    ratio_b: Floats
    difference: Floats
    standard_error: Floats
    units: Floats


def contrast(a: Moments, b: Moments, *, adjusted: bool = True) -> Contrast:
    """Compare two arms; NaN where an arm has no unit, or nothing below the line.

    Args:
        a: the arm compared with.
        b: the arm in question.
        adjusted: post-stratify; otherwise all units count alike.
    Source: the delta method for ratios with the randomised unit as n (Deng, Knoblich, Lu 2018, arXiv 1803.06336);
        post-stratification after Miratrix, Sekhon, Yu (2013), JRSS B 75(2).
    """
    if adjusted and a.units.shape[-1] > 1:
        a, b = merge_thin(a, b)
    else:
        a, b = a.summed(), b.summed()
    both = a.units + b.units
    total = both.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = both / total[..., None]
        ratio_a, variance_a = _ratio(a, weights)
        ratio_b, variance_b = _ratio(b, weights)
    return Contrast(ratio_a, ratio_b, ratio_b - ratio_a, np.sqrt(variance_a + variance_b), total)


def ratio_of(arm: Moments) -> tuple[Floats, Floats]:
    """The ratio of one arm over all its units, and its standard error, each of shape (...)."""
    whole = arm.summed()
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, variance = _ratio(whole, np.ones_like(whole.units))
    return ratio, np.sqrt(variance)


def merge_thin(a: Moments, b: Moments, *, units_min: int = STRATUM_UNITS_MIN) -> tuple[Moments, Moments]:
    """Put strata in which either arm has too few units together; a rest that is still too thin joins the largest.

    Returns: both arms with one stratum more than before, the last one holding what was put together.
    """
    thin = (a.units < units_min) | (b.units < units_min)
    arms = [_with_rest(arm, thin) for arm in (a, b)]
    rest_is_thin = np.minimum(arms[0].units[..., -1], arms[1].units[..., -1]) < units_min
    both = np.where(thin, -1.0, a.units + b.units)
    largest = both.argmax(axis=-1)[..., None]
    joined = []
    for arm in arms:
        columns = []
        for each in arm:
            moved = np.where(rest_is_thin, each[..., -1], 0.0)[..., None]
            changed = each.copy()
            changed[..., -1:] -= moved
            np.put_along_axis(changed, largest, np.take_along_axis(changed, largest, -1) + moved, -1)
            columns.append(changed)
        joined.append(Moments(*columns))
    return joined[0], joined[1]


def _with_rest(arm: Moments, thin: NDArray[np.bool_]) -> Moments:
    rest = [np.where(thin, each, 0.0).sum(axis=-1, keepdims=True) for each in arm]
    kept = [np.where(thin, 0.0, each) for each in arm]
    return Moments(*(np.concatenate([each, more], axis=-1) for each, more in zip(kept, rest, strict=True)))


def _ratio(arm: Moments, weights: Floats) -> tuple[Floats, Floats]:
    """The post-stratified ratio and the variance of its error; strata without units weigh nothing."""
    units = np.maximum(arm.units, 1.0)
    bottom = (weights * arm.bottom / units).sum(axis=-1)
    ratio = (weights * arm.top / units).sum(axis=-1) / bottom
    along = ratio[..., None]
    left = arm.top - along * arm.bottom
    squares = arm.top_top - 2 * along * arm.top_bottom + along**2 * arm.bottom_bottom
    spread = np.maximum(squares - left**2 / units, 0.0) / np.maximum(arm.units - 1, 1.0)
    variance = (weights**2 * spread / units).sum(axis=-1) / bottom**2
    return ratio, variance
