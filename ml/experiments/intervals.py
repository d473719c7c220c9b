"""Intervals that hold for one look: of one rate, of two rates, of two means, absolute and relative.

They are what the always-valid ones in ``sequences`` are measured against, and what a single figure on a page carries.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import msgspec
from scipy.stats import norm, t
from statsmodels.stats.proportion import confint_proportions_2indep

from ml.lack import TooFewData

CONFIDENCE_ALPHA: Final = 0.05


class Interval(msgspec.Struct, frozen=True):
    """An estimate, and the bounds that hold the true value with the stated confidence."""

    estimate: float
    low: float
    high: float


class Proportion(msgspec.Struct, frozen=True):
    """So many successes in so many trials.

    Raises: ValueError: not 0 <= successes <= trials.
    """

    successes: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.trials:
            raise ValueError(f"{self.successes} successes in {self.trials} trials cannot be")

    @property
    def rate(self) -> float:
        """Successes per trial; there must be a trial."""
        return self.successes / self.trials


class Sample(msgspec.Struct, frozen=True):
    """So many values with this mean and variance (of one value, not of the mean)."""

    count: int
    mean: float
    variance: float

    @classmethod
    def of_sums(cls, count: int, total: float, squares: float) -> Sample:
        """From the number of values, their sum and the sum of their squares; two values or more."""
        return cls(count, total / count, (squares - total**2 / count) / (count - 1))

    @classmethod
    def of_proportion(cls, proportion: Proportion) -> Sample:
        """Successes as ones, failures as zeros."""
        return cls(proportion.trials, proportion.rate, proportion.rate * (1 - proportion.rate))


class Comparison(msgspec.Struct, frozen=True):
    """B against A at one look: the difference or the relative lift, its standard error, interval and p-value."""

    interval: Interval
    standard_error: float
    p_value: float


def wilson_interval(proportion: Proportion, *, alpha: float = CONFIDENCE_ALPHA) -> Interval | TooFewData:
    """Wilson's score interval of one rate; good at any number of trials from 1, for one look.

    Args:
        proportion: successes in trials.
        alpha: share of intervals that may miss the true rate, 0..1.
    Returns: rate with bounds in 0..1, or TooFewData when there is no trial at all.
    Source: Wilson (1927), JASA 22(158), 209-212; checked against Newcombe (1998) and statsmodels, which takes far
    longer: a page has thousands of them.

    >>> interval = wilson_interval(Proportion(81, 263))
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.2553, 0.3662)
    """
    if proportion.trials == 0:
        return TooFewData(seen=0, needed=1)
    return score_interval(proportion.rate, proportion.trials, _normal_quantile(1 - alpha / 2))


def score_interval(rate: float, trials: float, quantile: float) -> Interval:
    """Wilson's interval of a rate that says as much as so many trials drawn one by one.

    Args:
        rate: 0..1.
        trials: > 0, not necessarily whole.
        quantile: how many standard errors the interval reaches, of the normal or a t distribution.
    """
    scale = 1 + quantile**2 / trials
    centre = (rate + quantile**2 / (2 * trials)) / scale
    reach = quantile * math.sqrt(rate * (1 - rate) / trials + quantile**2 / (4 * trials**2)) / scale
    # At the ends the bound is the rate itself; rounding would put it on the other side.
    low = 0.0 if rate == 0 else centre - reach
    high = 1.0 if rate == 1 else centre + reach
    return Interval(estimate=rate, low=low, high=high)


def newcombe_interval(a: Proportion, b: Proportion, *, alpha: float = CONFIDENCE_ALPHA) -> Interval:
    """The difference of two rates, B less A, from their Wilson intervals; good for small samples, for one look.

    Source: Newcombe (1998), method 10, through statsmodels.

    >>> interval = newcombe_interval(Proportion(48, 80), Proportion(56, 70))
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.0524, 0.3339)
    """
    low, high = confint_proportions_2indep(
        b.successes, b.trials, a.successes, a.trials, method="newcomb", compare="diff", alpha=alpha
    )
    return Interval(b.rate - a.rate, float(low), float(high))


def welch(a: Sample, b: Sample, *, alpha: float = CONFIDENCE_ALPHA) -> Comparison:
    """The difference of two means, B less A, with unequal variances (Welch), for one look."""
    return _by_t(b.mean - a.mean, difference_variances(a, b), _freedom(a, b), alpha)


def relative_lift(a: Sample, b: Sample, *, alpha: float = CONFIDENCE_ALPHA) -> Comparison:
    """By which share the mean of B is above that of A, by the delta method, for one look.

    Args:
        a: what is compared with; its mean is not 0.
        b: what is in question.
        alpha: share of intervals that may miss, 0..1.
    """
    return _by_t((b.mean - a.mean) / a.mean, lift_variances(a, b), _freedom(a, b), alpha)


def difference_variances(a: Sample, b: Sample) -> tuple[float, float]:
    """What A and B each add to the squared error of the difference of their means."""
    return a.variance / a.count, b.variance / b.count


def lift_variances(a: Sample, b: Sample) -> tuple[float, float]:
    """What A and B each add to the squared error of the lift of B over A, by the delta method."""
    return a.variance * b.mean**2 / (a.count * a.mean**4), b.variance / (b.count * a.mean**2)


class SecondOpinion(msgspec.Struct, frozen=True):
    """What a Bayesian with a flat prior believes of the lift: its spread, the chance to be best, what a mistake costs.

    ``risk_a`` and ``risk_b`` are the expected loss from choosing A or B. Not to be acted on while it is being watched:
    unlike the confidence sequence it does not bound the errors of somebody who looks often.
    """

    lift: Interval
    spread: float
    chance_b_wins: float
    risk_a: float
    risk_b: float


def second_opinion(a: Sample, b: Sample, *, alpha: float = CONFIDENCE_ALPHA) -> SecondOpinion:
    """Believe in the relative lift as a normal distribution around what was measured (flat prior)."""
    spread = math.sqrt(sum(lift_variances(a, b)))
    lift = (b.mean - a.mean) / a.mean
    reach = _normal_quantile(1 - alpha / 2) * spread
    chance = float(norm.cdf(lift / spread))
    density = float(norm.pdf(lift / spread)) * spread
    return SecondOpinion(
        lift=Interval(lift, lift - reach, lift + reach),
        spread=spread,
        chance_b_wins=chance,
        risk_a=lift * chance + density,
        risk_b=-lift * (1 - chance) + density,
    )


def _freedom(a: Sample, b: Sample) -> float:
    """Degrees of freedom after Welch and Satterthwaite; for a lift too, those of the difference."""
    parts = [sample.variance / sample.count for sample in (a, b)]
    return sum(parts) ** 2 / sum(part**2 / (each.count - 1) for part, each in zip(parts, (a, b), strict=True))


def _by_t(estimate: float, variances: tuple[float, float], freedom: float, alpha: float) -> Comparison:
    error = math.sqrt(sum(variances))
    reach = float(t.ppf(1 - alpha / 2, freedom)) * error
    return Comparison(
        interval=Interval(estimate, estimate - reach, estimate + reach),
        standard_error=error,
        p_value=float(2 * t.sf(abs(estimate) / error, freedom)),
    )


@lru_cache(maxsize=64)
def _normal_quantile(share: float) -> float:
    return float(norm.ppf(share))
