"""Sample-ratio mismatch: whether the units arrived in the arms as they were split; it may be looked at all the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, logsumexp
from scipy.stats import binomtest, chisquare

from ml.lack import TooFewData

ALPHA: Final = 0.001
"""How seldom a sound split may be called broken. Small, because such an alarm throws the whole experiment away."""

EXPECTED_MIN: Final = 5
"""Units expected in every arm before the split is checked: below that, chi-square is a poor approximation."""

CONCENTRATIONS: Final = (1e3, 1e4, 1e5, 1e6)
"""Pseudo-units of the priors around the wanted split. The evidence is the mean over these four: each is best at another
size of the leak, from one that 10,000 units show to one that takes millions."""


class SampleRatio(msgspec.Struct, frozen=True):
    """Whether the units arrived in the arms as they were split.

    ``chi_square`` and ``p_value_one_look`` are the usual test, which holds for one planned look. The alarm is raised by
    ``p_value_any_time``, which holds for any number of looks.
    """

    chi_square: float
    p_value_one_look: float
    p_value_any_time: float
    mismatch: bool


def sample_ratio(counts: Sequence[int], weights: Sequence[float]) -> SampleRatio | TooFewData:
    """Check that units arrived in the arms in the proportions in which they were split.

    Args:
        counts: units seen in each arm.
        weights: what each arm should get, > 0; only their ratios matter.
    Returns: the usual chi-square test, one that may be looked at all the time, and the alarm of the latter.
    Raises: ValueError: lengths differ, fewer than two arms, or a weight is not above 0.
    Source: Pearson's chi-square through scipy; see ``log_evidence_of_leak`` for the other.
    """
    if len(counts) != len(weights) or len(counts) < 2 or min(weights) <= 0:
        raise ValueError("give a count and a weight above 0 for each of two or more arms")
    total = sum(counts)
    shares = [weight / math.fsum(weights) for weight in weights]
    needed = math.ceil(EXPECTED_MIN / min(shares))
    if total < needed:
        return TooFewData(seen=total, needed=needed)
    one_look = chisquare(counts, [share * total for share in shares])
    p_value = min(1.0, math.exp(-float(log_evidence_of_leak(counts, shares))))
    return SampleRatio(
        chi_square=float(one_look.statistic),
        p_value_one_look=float(one_look.pvalue),
        p_value_any_time=p_value,
        mismatch=p_value < ALPHA,
    )


def exact_p_value(counts: tuple[int, int], share_first: float) -> float:
    """The exact binomial test of two arms, for one look at few units; through scipy."""
    return float(binomtest(counts[0], sum(counts), share_first).pvalue)


def log_evidence_of_leak(counts: ArrayLike, shares: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of the evidence that the units are not split as wanted; a valid test at any number of looks.

    Args:
        counts: units by arm on the last axis. Shape (..., arms).
        shares: what each arm should get, > 0, adding up to 1. Shape (arms,).
    Returns: shape (...,); the split is broken where this exceeds -log(alpha).
    Source: Lindon and Malek (2022), "Anytime-valid inference for multinomial count data": the Bayes factor of a
        Dirichlet-multinomial against the wanted split, here the mean over several concentrations.
    """
    seen: Any = np.asarray(counts, dtype=float)
    wanted: Any = np.asarray(shares, dtype=float)
    total = seen.sum(axis=-1)
    by_chance = (seen * np.log(wanted)).sum(axis=-1)
    evidence = []
    for concentration in CONCENTRATIONS:
        prior = concentration * wanted
        mixed = gammaln(concentration) - gammaln(concentration + total)
        mixed = mixed + (gammaln(prior + seen) - gammaln(prior)).sum(axis=-1)
        evidence.append(mixed - by_chance)
    return np.asarray(logsumexp(np.stack(evidence), axis=0) - math.log(len(CONCENTRATIONS)))
