"""Estimates of a policy's success from decisions of another policy: arrays in, estimates with intervals out.

Every decision carries the probability (propensity) with which its gateway was put first. A candidate policy that would
have put it first with another probability is judged by weighting the decision with the ratio of the two. The payments
of one customer are alike, and a rule may send them all to one gateway; so an interval rests on sums over customers.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
from scipy.stats import norm

from ml.experiments.intervals import CONFIDENCE_ALPHA, Interval
from ml.routing.units import UNITS_MIN, deviation_of_sum, sums_of_units

ESS_MIN: Final = 1_000.0
"""Below so many effective decisions there is no answer: at 95 % success the interval would be 3 points wide."""

UNSUPPORTED_MAX: Final = 0.01
"""So much of what the candidate would have done may be something that the logged policy could not do. Nothing is known
about this part, so the interval grows by it; beyond a point of success there is no answer."""


class Weighted(msgspec.Struct, frozen=True):
    """Decisions whose outcome is known, as arrays of one length.

    Attributes:
        weights: candidate's probability of the gateway that was used, divided by its propensity, >= 0.
        rewards: 1 succeeded, 0 failed.
        predicted_used: what a model that knew only earlier outcomes said of the gateway that was used, 0 to 1.
        predicted_candidate: what it said of the candidate's choice, on average over the candidate's probabilities.
        unsupported: the candidate's probability of gateways whose propensity was 0.
        unit: number of the customer, or of what else varies together, >= 0.
    """

    weights: np.ndarray
    rewards: np.ndarray
    predicted_used: np.ndarray
    predicted_candidate: np.ndarray
    unsupported: np.ndarray
    unit: np.ndarray

    def of(self, chosen: np.ndarray) -> Weighted:
        """Some of the decisions."""
        return Weighted(*(getattr(self, name)[chosen] for name in self.__struct_fields__))


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """No answer, and what is missing."""

    why: str
    decisions: int
    effective: float
    unsupported: float


class Estimates(msgspec.Struct, frozen=True, kw_only=True, tag="estimated"):
    """What the candidate would have achieved; all shares of success, 0 to 1, all intervals 95 %.

    Attributes:
        decisions: with a known outcome.
        effective: effective sample size, see ``effective_payments``.
        unsupported: share of the candidate's choices that the logged policy could not have made.
        snips: self-normalised inverse propensity score; the figure to go by.
        ips: inverse propensity score.
        doubly_robust: a model of success, corrected by the weighted errors that it made.
        observed: what really happened.
        gain: ``snips`` less ``observed``.
    """

    decisions: int
    effective: float
    unsupported: float
    snips: Interval
    ips: Interval
    doubly_robust: Interval
    observed: Interval
    gain: Interval


def effective_size(weights: np.ndarray) -> float:
    """How many equally weighted decisions say as much as these.

    >>> effective_size(np.array([1.0, 1.0, 0.0, 0.0]))
    2.0
    """
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def effective_payments(weights: np.ndarray, values: np.ndarray, unit: np.ndarray) -> float:
    """How many payments of the candidate's own, each of another customer, say as much as these.

    (Sum of weights)² / sum of squared weights, less what is lost because the payments of a customer are alike: divided
    by the variance of the estimate with customers taken as they are, over that with every payment taken for itself (the
    design effect), where that is above 1. Where all went alike and nothing varies, a customer counts as one.

    Args:
        weights: candidate's probability of what was done, divided by its propensity.
        values: what became of each: success, or money.
        unit: number of the customer, >= 0.
    Source: Kish (1965), Survey Sampling, 8.2.

    >>> went = np.array([1.0, 0.0, 1.0, 0.0])
    >>> effective_payments(np.ones(4), went, np.array([0, 1, 2, 3]))
    4.0
    >>> round(effective_payments(np.ones(4), went, np.array([0, 1, 0, 1])), 6)
    1.333333
    """
    effective, sums = effective_size(weights), sums_of_units(weights, unit)
    if len(sums) == len(weights) or effective == 0:
        return effective
    _, pull = self_normalised(weights, values)
    alone = float(np.square(pull).sum()) * len(pull) / (len(pull) - 1)
    together = deviation_of_sum(pull, unit) ** 2
    if alone == 0:
        return effective_size(sums)
    return effective * min(1.0, alone / together) if together > 0 else effective


def estimate(data: Weighted, *, alpha: float = CONFIDENCE_ALPHA) -> Estimates | Refused:
    """Estimate the candidate's success, or say why that cannot be done.

    The interval of ``snips`` is Wilson's, at the number of payments that would give its variance (linearised, as of a
    ratio): near 100 % success, where payment rates lie, an interval of estimate ± deviations misses too often on one
    side. ``gain`` and the other two have a normal interval. All intervals also hold what the unsupported part may hide,
    and rest on sums over the payments of each customer, which are alike.

    Args:
        data: the decisions.
        alpha: share of intervals that may miss the true value, 0..1.
    Source: Swaminathan and Joachims (2015), NeurIPS 28 (SNIPS); Dudík et al. (2011), ICML (doubly robust); Wilson
        (1927). Coverage against a known truth is measured in benchmarks/policy_evaluation.py.
    """
    refused = why_not(data.weights, data.rewards, data.unsupported, data.unit)
    if refused is not None:
        return refused
    weights, rewards, unit = data.weights, data.rewards, data.unit
    count, effective = len(weights), effective_payments(weights, rewards, unit)
    unsupported = float(data.unsupported.mean())
    quantile = float(norm.ppf(1 - alpha / 2))
    value, pull = self_normalised(weights, rewards)
    observed = float(rewards.mean())
    corrected = data.predicted_candidate + weights * (rewards - data.predicted_used)
    gain = normal_interval(pull - (rewards - observed), unit, quantile, centre=value - observed)
    return Estimates(
        decisions=count,
        effective=effective,
        unsupported=unsupported,
        snips=_hiding(_wilson(value, variance_of_mean(pull, unit), effective, quantile), unsupported),
        ips=_hiding(_clipped(normal_interval(weights * rewards, unit, quantile)), unsupported),
        doubly_robust=_hiding(_clipped(normal_interval(corrected, unit, quantile)), unsupported),
        observed=_wilson(observed, variance_of_mean(rewards, unit), float(len(np.unique(unit))), quantile),
        gain=Interval(gain.estimate, gain.low - unsupported, gain.high + unsupported),
    )


def why_not(weights: np.ndarray, values: np.ndarray, unsupported: np.ndarray, unit: np.ndarray) -> Refused | None:
    """Say why these decisions allow no answer; None: they do.

    Args:
        weights: candidate's probability of what was done, divided by its propensity.
        values: what became of each decision: success, or money.
        unsupported: the candidate's probability of what could not have been done.
        unit: number of the customer, >= 0.
    """
    count, effective = len(weights), effective_payments(weights, values, unit)
    customers = effective_size(sums_of_units(weights, unit))
    share = float(unsupported.mean()) if count else 0.0
    why = ""
    if share > UNSUPPORTED_MAX:
        why = (
            f"{share:.1%} of the candidate's choices could not have been made by what was logged "
            f"(at most {UNSUPPORTED_MAX:.0%}); let an experiment arm try them first, and write rules that are in force "
            "into the candidate"
        )
    elif effective < ESS_MIN:
        why = (
            f"the {count:,} decisions say as much about this candidate as {effective:,.0f} of its own would, "
            f"at least {ESS_MIN:,.0f} are needed; look further back, or explore more"
        )
    elif customers < UNITS_MIN:
        why = (
            f"the payments say as much about this candidate as those of {customers:,.0f} customers of like weight, "
            f"at least {UNITS_MIN} are needed: a customer's are alike; look further back"
        )
    return Refused(why=why, decisions=count, effective=effective, unsupported=share) if why else None


def self_normalised(weights: np.ndarray, rewards: np.ndarray) -> tuple[float, np.ndarray]:
    """The self-normalised mean, and how much each decision pulls at it (the ratio, linearised)."""
    total = float(weights.sum())
    usual = float(rewards[weights.argmax()])  # so that where all went alike, nothing pulls, by not even a rounding
    value = usual + float(weights @ (rewards - usual)) / total
    return value, weights * (rewards - value) * (len(weights) / total)


def variance_of_mean(parts: np.ndarray, unit: np.ndarray) -> float:
    """Of the mean of these, which vary together within a unit."""
    return (deviation_of_sum(parts - parts.mean(), unit) / len(parts)) ** 2


def normal_interval(parts: np.ndarray, unit: np.ndarray, quantile: float, *, centre: float | None = None) -> Interval:
    """Of the mean of these, which vary together within a unit, around it or around ``centre``."""
    centre = float(parts.mean()) if centre is None else centre
    reach = quantile * math.sqrt(variance_of_mean(parts, unit))
    return Interval(centre, centre - reach, centre + reach)


def _clipped(interval: Interval) -> Interval:
    return Interval(interval.estimate, max(0.0, interval.low), min(1.0, interval.high))


def _hiding(interval: Interval, unsupported: float) -> Interval:
    """Widen by a part of the choices of which nothing is known: all of it may fail, or succeed."""
    low, high = interval.low * (1 - unsupported), interval.high * (1 - unsupported) + unsupported
    return Interval(interval.estimate, low, high)


def _wilson(value: float, variance: float, effective: float, quantile: float) -> Interval:
    """Wilson's interval of a rate whose estimate has this variance; without any variance that of ``effective``."""
    payments = value * (1 - value) / variance if variance > 0 and 0 < value < 1 else effective
    spread = quantile**2 / payments
    centre = (value + spread / 2) / (1 + spread)
    reach = math.sqrt(spread * (value * (1 - value) + spread / 4)) / (1 + spread)
    return Interval(value, max(0.0, centre - reach), min(1.0, centre + reach))
