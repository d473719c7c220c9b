"""Compares every challenger with the control by every goal, so that all questions pay for each other."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ml.experiments.arms import ArmTally, moments_of, share_metric
from ml.experiments.design import Experiment
from ml.experiments.evidence import EXACT_SHARE, UNITS_MIN, evidence
from ml.experiments.intervals import Interval
from ml.experiments.metrics import METRICS
from ml.experiments.moments import Moments
from ml.experiments.multiplicity import holm_levels
from ml.experiments.sequences import exact_difference, half_width, precision

BLOCKS_MIN: Final = 20
"""Blocks of time each arm needs before blocks are compared."""


class GoalFound(msgspec.Struct, frozen=True, kw_only=True):
    """One challenger against the control by one metric.

    The interval, of the arm less the control, and the p-value hold at any look. ``alpha`` is the level at which Holm
    tests this one among all goals and challengers; the interval is of that level, so both always agree. ``exact``: from
    exact bounds, because there are too few units for the others; it has no p-value.
    """

    metric: str
    arm: str
    value_control: float
    value_arm: float
    interval: Interval
    alpha: float
    p_value: float | None
    units: int
    exact: bool = False

    @property
    def gain(self) -> Interval:
        """The difference, turned so that more is better."""
        one = self.interval
        if METRICS[self.metric].higher_is_better:
            return one
        return Interval(-one.estimate, -one.high, -one.low)


class Judging(msgspec.Struct, frozen=True, kw_only=True):
    """How to judge: ``alpha`` and ``units_expected`` where the experiment has none of its own, and the time."""

    alpha: float
    units_expected: int
    now: datetime
    since: datetime

    @property
    def days(self) -> float:
        """How long the experiment has run."""
        return max((self.now - self.since) / timedelta(days=1), 1e-9)


def alpha_of(experiment: Experiment, judging: Judging) -> float:
    """How often the experiment may ever be called different without a difference."""
    return experiment.alpha if experiment.alpha is not None else judging.alpha


def tuned_of(experiment: Experiment, judging: Judging) -> float:
    """The precision of its bounds: tightest at the units that were expected."""
    expected = experiment.orders_expected or judging.units_expected
    if experiment.unit == "time_block":
        expected = 10 * BLOCKS_MIN
    return precision(alpha_of(experiment, judging), expected)


def compare_goals(experiment: Experiment, arms: Mapping[str, ArmTally], judging: Judging) -> list[GoalFound]:
    """Every comparison that can be made, at the level that Holm gives it."""
    alpha, tuned = alpha_of(experiment, judging), tuned_of(experiment, judging)
    control, by_block = experiment.control.name, experiment.unit == "time_block"
    metrics = list(dict.fromkeys([experiment.primary, *experiment.goals]))
    pairs = [(metric, arm) for metric in metrics for arm in arms if arm != control]
    moments = {metric: moments_of(arms, metric, by_block=by_block) for metric in metrics}
    asymptotic = alpha * (1 - EXACT_SHARE)
    compared = [
        evidence(moments[metric][control], moments[metric][arm], alpha=asymptotic, tuned=tuned,
                 is_share=share_metric(metric) and not by_block, units_min=BLOCKS_MIN if by_block else UNITS_MIN)
        for metric, arm in pairs
    ]  # fmt: skip
    levels = holm_levels([float(each.p_value) for each in compared], alpha=asymptotic)
    found = []
    for (metric, arm), each, level in zip(pairs, compared, levels, strict=True):
        if bool(each.enough):
            estimate, units = float(each.contrast.difference), float(each.contrast.units)
            reach = float(half_width(float(each.contrast.standard_error), units, alpha=level, tuned=tuned))
            found.append(
                GoalFound(
                    metric=metric, arm=arm, value_control=float(each.contrast.ratio_a),
                    value_arm=float(each.contrast.ratio_b),
                    interval=_within(metric, Interval(estimate, estimate - reach, estimate + reach)),
                    alpha=level, p_value=float(each.p_value), units=int(units),
                )
            )  # fmt: skip
        elif metric in ("order_success_rate", "authorization_rate", "first_attempt_rate") and not by_block:
            level = EXACT_SHARE * alpha / len(pairs)
            found += _exact(metric, arm, (moments[metric][control], moments[metric][arm]), level)
    return found


def _exact(metric: str, arm: str, moments: tuple[Moments, Moments], level: float) -> list[GoalFound]:
    """Exact bounds where every unit had one trial; nothing where units had several, or an arm has none."""
    sides = []
    for each in moments:
        top, bottom = float(each.top.sum()), float(each.bottom.sum())
        if bottom == 0 or float(each.bottom_bottom.sum()) != bottom:
            return []
        sides.append((int(top), int(bottom)))
    interval = exact_difference(sides[0], sides[1], alpha=level)
    values = [top / bottom for top, bottom in sides]
    return [
        GoalFound(metric=metric, arm=arm, value_control=values[0], value_arm=values[1], interval=interval,
                  alpha=level, p_value=None, units=sides[0][1] + sides[1][1], exact=True)
    ]  # fmt: skip


def _within(metric: str, interval: Interval) -> Interval:
    if not share_metric(metric):
        return interval
    return Interval(interval.estimate, max(-1.0, interval.low), min(1.0, interval.high))
