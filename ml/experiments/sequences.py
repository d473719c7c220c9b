"""Bounds that hold at all sample sizes at once: look whenever you like, stop whenever you like.

All functions take numbers or arrays that broadcast, so that a benchmark runs through thousands of experiments with the
very code that judges one.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betaln

from ml.experiments.intervals import Interval

LOG_E_MAX: Final = 700.0
"""exp of more overflows."""

EXACT_CONCENTRATION_MIN: Final = 1e-3
"""Pseudo-trials of the prior behind an exact sequence that is tuned for no trial at all."""

EXACT_TUNED_ALPHA: Final = 0.05
"""The error for which the prior is tuned, whatever the bounds' own; as the published values have it."""

EXACT_TRIALS_EXPECTED: Final = 50
"""Exact bounds of two arms are needed only until there is enough for the others, so they are tuned for few trials."""

EDGE: Final = 1e-12
"""How near to 0 and 1 a rate is looked for."""

Floats = NDArray[np.float64]


def precision(alpha: float, units_expected: float) -> float:
    """Tune the normal mixture: the one for which bounds of error ``alpha`` are tightest at this sample size.

    One precision may serve bounds of several alphas (Holm); each holds, and only the tuned one is tightest there.

    Args:
        alpha: probability that the bounds ever miss, 0..1.
        units_expected: sample size at which a decision is expected, > 0.
    Source: Howard et al. (2021), Annals of Statistics 49(2), section 3.5, in the parametrisation of Waudby-Smith.
    """
    return (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / units_expected


def half_width(standard_error: ArrayLike, units: ArrayLike, *, alpha: float, tuned: float) -> Floats:
    """How far two-sided bounds reach to each side of any estimate whose error is asymptotically normal.

    At alpha 0.05 this is 1.55 times the reach of a single look at the sample size that was tuned for, and 1.72 times
    at a fifth of it.

    Args:
        standard_error: of the estimate at this sample size, >= 0.
        units: sample size, >= 1.
        alpha: probability that the bounds ever miss, 0..1.
        tuned: see ``precision``.
    Source: asymptotic confidence sequences, Waudby-Smith et al., arXiv 2103.06476, eq. 9; the same bound as the
        two-sided normal mixture of Howard et al. (2021), against whose published values it is checked.
    """
    scaled = np.asarray(units, dtype=float) * tuned
    spread = scaled + 1
    return np.asarray(standard_error * np.sqrt(2 * spread / scaled * (np.log(spread) / 2 - math.log(alpha))))


def confidence_sequence(
    estimate: float, standard_error: float, units: float, *, alpha: float, tuned: float
) -> Interval:
    """Two-sided bounds around one estimate; see ``half_width``."""
    half = float(half_width(standard_error, units, alpha=alpha, tuned=tuned))
    return Interval(estimate, estimate - half, estimate + half)


def log_e_value(estimate: ArrayLike, standard_error: ArrayLike, units: ArrayLike, *, tuned: float) -> Floats:
    """Logarithm of the evidence against zero: so much money would be won by betting one on a difference.

    It reaches -log(alpha) exactly where the bounds of ``half_width`` leave out zero.
    """
    scaled = np.asarray(units, dtype=float) * tuned
    spread = scaled + 1
    squared = (np.asarray(estimate) / np.asarray(standard_error)) ** 2
    return np.asarray(scaled * squared / (2 * spread) - np.log(spread) / 2)


def p_value_any_time(estimate: ArrayLike, standard_error: ArrayLike, units: ArrayLike, *, tuned: float) -> Floats:
    """One over the evidence, at most 1: at most alpha of the experiments without a difference ever show p <= alpha."""
    log_e = log_e_value(estimate, standard_error, units, tuned=tuned)
    return np.asarray(np.exp(-np.clip(log_e, 0.0, LOG_E_MAX)))


def reach_below(standard_error: ArrayLike, units: ArrayLike, *, alpha: float, tuned: float) -> Floats:
    """How far a one-sided lower bound lies below the estimate (and an upper bound above it).

    Source: Waudby-Smith et al., arXiv 2103.06476, the one-sided sequence of its appendix.
    """
    scaled = np.asarray(units, dtype=float) * tuned
    spread = scaled + 1
    reach = 2 * spread / scaled * np.log1p(np.sqrt(spread) / (2 * alpha))
    return np.asarray(standard_error * np.sqrt(reach))


def p_value_above(estimate: ArrayLike, standard_error: ArrayLike, units: ArrayLike, *, tuned: float) -> Floats:
    """One-sided: the smallest alpha at which the lower bound of ``reach_below`` lies above zero, at most 1."""
    scaled = np.asarray(units, dtype=float) * tuned
    spread = scaled + 1
    score = np.maximum(np.asarray(estimate) / np.asarray(standard_error), 0.0)
    exponent = np.minimum(scaled * score**2 / (2 * spread), LOG_E_MAX)
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(1.0, np.sqrt(spread) / (2 * np.expm1(exponent))))


def log_e_of_rate(rate: ArrayLike, successes: ArrayLike, trials: ArrayLike, *, trials_expected: float) -> Floats:
    """Logarithm of the exact evidence against one rate: what betting against it with a beta prior around it has won.

    Args:
        rate: in doubt, above 0 and below 1.
        successes: 0..trials.
        trials: >= 0.
        trials_expected: sample size at which the evidence shall grow fastest, >= 1.
    Source: the beta-binomial mixture of Howard et al. (2021), section 3.
    """
    p, won, tried = np.asarray(rate, float), np.asarray(successes, float), np.asarray(trials, float)
    log_odds = -math.log(EXACT_TUNED_ALPHA)
    tuned_for = trials_expected / (2 * log_odds + math.log(1 + 2 * log_odds))
    concentration = max(tuned_for - 1, EXACT_CONCENTRATION_MIN)
    of_one, of_zero = concentration * p, concentration * (1 - p)
    mixed = betaln(of_one + won, of_zero + tried - won) - betaln(of_one, of_zero)
    return np.asarray(mixed - won * np.log(p) - (tried - won) * np.log1p(-p))


def exact_rate(successes: int, trials: int, *, alpha: float, trials_expected: float) -> Interval:
    """Bounds of one rate that hold at all sample sizes from the very first, without any approximation.

    Args:
        successes: 0..trials.
        trials: >= 0; with none the bounds are 0 and 1.
        alpha: probability that the bounds ever miss, 0..1.
        trials_expected: sample size at which the bounds shall be tightest, >= 1.
    Source: see ``log_e_of_rate``; checked against the published values of its authors.

    >>> bounds = exact_rate(15, 50, alpha=0.05, trials_expected=50)
    >>> round(bounds.low, 4), round(bounds.high, 4)
    (0.1296, 0.5119)
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials cannot be")
    if trials == 0:
        return Interval(0.5, 0.0, 1.0)
    limit = -math.log(alpha)

    def excess(rate: float) -> float:
        return float(log_e_of_rate(rate, successes, trials, trials_expected=trials_expected)) - limit

    estimate = successes / trials
    inner = min(max(estimate, EDGE), 1 - EDGE)
    low = _root(excess, EDGE, inner) if successes else 0.0
    high = _root(excess, 1 - EDGE, inner) if successes < trials else 1.0
    return Interval(estimate, low, high)


def exact_difference(a: tuple[int, int], b: tuple[int, int], *, alpha: float) -> Interval:
    """The difference of two rates, B less A, from exact bounds of each: wide, but right at any size.

    Args:
        a: successes and trials of the arm that is compared with.
        b: the same of the arm in question.
        alpha: probability that the bounds ever miss; each arm gets half of it.
    """
    of_a, of_b = (exact_rate(*arm, alpha=alpha / 2, trials_expected=EXACT_TRIALS_EXPECTED) for arm in (a, b))
    return Interval(of_b.estimate - of_a.estimate, of_b.low - of_a.high, of_b.high - of_a.low)


def mixture_bound(variance: float, *, alpha: float, variance_expected: float) -> float:
    """The normal-mixture boundary in the form of Howard et al.: how far a sum may stray at this variance.

    >>> round(mixture_bound(100, alpha=0.05, variance_expected=100), 5)
    30.35209
    """
    tuned = precision(alpha, variance_expected)
    return variance * float(half_width(1 / math.sqrt(variance), variance, alpha=alpha, tuned=tuned))


def _root(excess: Any, edge: float, inner: float) -> float:
    """Where the excess is 0 between the edge and the estimate; the edge itself where it never is above 0."""
    if excess(edge) <= 0:
        return float(round(edge))
    return float(brentq(excess, edge, inner, xtol=1e-10))
