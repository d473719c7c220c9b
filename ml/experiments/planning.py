"""How many units a comparison needs, and how many days that takes: for one look, for planned looks, for any look."""

from __future__ import annotations

import math
from typing import Final

import msgspec
from scipy.optimize import brentq
from scipy.stats import norm
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_effectsize

from ml.experiments.evidence import EXACT_SHARE
from ml.experiments.group_sequential import size_inflation
from ml.experiments.intervals import Sample, lift_variances
from ml.experiments.sequences import half_width, precision

ALPHA: Final = 0.05
POWER: Final = 0.8
PLANNED_LOOKS: Final = 5
UNITS_MAX: Final = 10**12
"""More than anybody will ever collect; what needs more is told as this."""

LOG_UNITS_MAX: Final = math.log(UNITS_MAX)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison of two rates needs, in units of both arms together.

    ``units_any_time`` are enough for the stated power when anybody may look at any time; half of the experiments with
    the planned effect are decided after ``units_any_time_median``. The others are what one look at the end, or five
    planned ones, would need. Days are at the stated traffic.
    """

    rate: float
    effect: float
    alpha: float
    power: float
    units_one_look: int
    units_planned_looks: int
    units_any_time: int
    units_any_time_median: int
    units_per_day: float | None = None

    def days(self, units: int) -> float | None:
        """How long it takes to collect so many units; None where the traffic is not known."""
        return None if not self.units_per_day else units / self.units_per_day


def units_per_arm_of_rates(rate: float, effect: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Units in each of two equal arms that show a difference of two rates at one look.

    Args:
        rate: of the arm compared with, 0..1.
        effect: what is added to it, not 0; rate + effect within 0..1.
        alpha: two-sided error, 0..1.
        power: probability to see the effect, alpha..1.
    Source: the formula of Evan Miller's calculator.

    >>> units_per_arm_of_rates(0.20, 0.05)
    1030
    """
    other = rate + effect
    if not (0 < rate < 1 and 0 <= other <= 1 and effect):
        raise ValueError(f"a rate of {rate} and an effect of {effect} cannot be planned for")
    pooled = norm.ppf(1 - alpha / 2) * math.sqrt(2 * rate * (1 - rate))
    apart = norm.ppf(power) * math.sqrt(rate * (1 - rate) + other * (1 - other))
    return round(float((pooled + apart) / effect) ** 2)


def units_per_arm_arcsine(rate: float, other: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """The same on the arcsine scale, through statsmodels; a second opinion for rates near 0 or 1."""
    effect = proportion_effectsize(rate, other)
    return float(NormalIndPower().solve_power(effect, alpha=alpha, power=power, ratio=1.0))


def power_of_lift(lift: float, *, mean: float, variance: float, units_per_arm: float, alpha: float = ALPHA) -> float:
    """Probability that one look at two equal arms shows a relative lift of a mean, by the delta method.

    Args:
        lift: the true relative lift.
        mean: of the arm compared with, not 0.
        variance: of one value, in both arms.
        units_per_arm: in each arm.
        alpha: two-sided error.
    """
    changed = Sample(1, mean * (1 + lift), variance)
    error = math.sqrt(sum(lift_variances(Sample(1, mean, variance), changed)) / units_per_arm)
    critical = float(norm.ppf(1 - alpha / 2))
    return float(norm.sf(critical - lift / error) + norm.cdf(-critical - lift / error))


def units_any_time(
    effect: float,
    variance_of_unit: float,
    *,
    alpha: float = ALPHA,
    power: float = POWER,
    tuned_for: float | None = None,
) -> int:
    """Units of both arms together after which bounds that hold at any time leave out zero with this power.

    Args:
        effect: the true difference, not 0.
        variance_of_unit: n times the squared standard error of the difference after n units of both arms together.
        alpha: probability that the bounds ever miss.
        power: probability to be decided by then, looking at the end; those who look earlier are decided earlier too.
        tuned_for: sample size for which the bounds are tightest; None: the answer itself.
    """

    def lacking(log_units: float) -> float:
        units = math.exp(log_units)
        error = math.sqrt(variance_of_unit / units)
        half = float(half_width(error, units, alpha=alpha, tuned=precision(alpha, tuned_for or units)))
        return abs(effect) - half - float(norm.ppf(power)) * error

    if lacking(0.0) >= 0:
        return 1
    if lacking(LOG_UNITS_MAX) <= 0:
        return UNITS_MAX
    return math.ceil(math.exp(brentq(lacking, 0.0, LOG_UNITS_MAX)))


def plan_rates(
    rate: float,
    effect: float,
    *,
    shares: tuple[float, float] = (0.5, 0.5),
    alpha: float = ALPHA,
    power: float = POWER,
    units_per_day: float | None = None,
) -> Plan:
    """Plan a comparison of two rates.

    Args:
        rate: of the arm compared with, 0..1.
        effect: smallest difference that matters, not 0.
        shares: of the units, of the arm compared with and of the one in question; together 1 at most.
        alpha: two-sided error.
        power: probability to see the effect.
        units_per_day: that these two arms get together; None: not known.
    """
    total = sum(shares)
    share_a, share_b = shares[0] / total, shares[1] / total
    other = rate + effect
    equal = units_per_arm_of_rates(rate, effect, alpha=alpha, power=power)
    by_unit = rate * (1 - rate) / share_a + other * (1 - other) / share_b
    stretched = by_unit / (2 * (rate * (1 - rate) + other * (1 - other)))
    one_look = math.ceil(2 * equal * stretched)
    return Plan(
        rate=rate,
        effect=effect,
        alpha=alpha,
        power=power,
        units_one_look=one_look,
        units_planned_looks=math.ceil(
            one_look * size_inflation("lan_demets_obrien_fleming", PLANNED_LOOKS, alpha=alpha, power=power)
        ),
        units_any_time=units_any_time(effect, by_unit, alpha=alpha * (1 - EXACT_SHARE), power=power),
        units_any_time_median=units_any_time(effect, by_unit, alpha=alpha * (1 - EXACT_SHARE), power=0.5),
        units_per_day=units_per_day,
    )
