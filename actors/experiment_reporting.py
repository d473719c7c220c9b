"""Puts a verdict and the counts behind it into the report that flows down the line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from messaging.contracts import ArmCount, ExperimentReported, GoalReported, GuardrailReported
from ml.experiments.arms import ArmTally, moments_of
from ml.experiments.design import Arm, Experiment
from ml.experiments.goals import GoalFound
from ml.experiments.intervals import Interval, Proportion, wilson_interval
from ml.experiments.moments import ratio_of
from ml.experiments.rollout import Rollout, coverage_now, in_force
from ml.experiments.verdict import Verdict, rates_of


def report_of(  # what an experiment is, what it gathered, what that means, how far it is, under which allocation, when
    experiment: Experiment,
    arms: Mapping[str, ArmTally],
    verdict: Verdict,
    rollout: Rollout,
    version: str,
    now: datetime,
) -> ExperimentReported:
    """The standing of one experiment as a message."""
    values = rates_of(experiment, arms)
    money = {name: moments_of(arms, name) for name in ("cost_minor_per_order", "revenue_minor_per_order")}
    means = {
        metric: {name: float(ratio_of(each)[0]) if float(each.bottom.sum()) else None for name, each in sides.items()}
        for metric, sides in money.items()
    }
    primary = verdict.primary
    return ExperimentReported(
        experiment=experiment.name,
        version=version,
        reported_at=now,
        arms=[
            _arm_count(arm, arms[arm.name], values[arm.name], {metric: of[arm.name] for metric, of in means.items()})
            for arm in experiment.arms
        ],
        verdict=verdict.words[:500],
        difference=primary.interval.estimate if primary else None,
        difference_low=primary.interval.low if primary else None,
        difference_high=primary.interval.high if primary else None,
        challenger=verdict.challenger,
        control=verdict.control,
        phase=experiment.phase,
        standing=verdict.standing,
        metric=experiment.primary,
        started_at=rollout.started_at,
        units=verdict.units,
        immature_share=round(max(0.0, verdict.immature_share), 6),
        units_needed=verdict.units_needed,
        days_needed=verdict.days_needed,
        coverage=coverage_now(experiment, rollout),
        running=in_force(experiment, rollout, now).enabled,
        stopped_by=rollout.stopped_by,
        stopped_why=rollout.stopped_why,
        goals=[_goal(goal) for goal in verdict.goals],
        guardrails=[
            GuardrailReported(
                metric=each.metric,
                arm=each.arm,
                margin=each.margin,
                state=each.state,
                words=each.words[:500],
                harm=each.harm,
                harm_low=each.harm_low,
                harm_high=each.harm_high,
            )
            for each in verdict.guardrails
        ],
    )


def _goal(goal: GoalFound) -> GoalReported:
    return GoalReported(
        metric=goal.metric,
        arm=goal.arm,
        value_control=goal.value_control,
        value_arm=goal.value_arm,
        difference=goal.interval.estimate,
        difference_low=goal.interval.low,
        difference_high=goal.interval.high,
        alpha=goal.alpha,
        units=goal.units,
        p_value=goal.p_value,
    )


def _arm_count(
    arm: Arm, tally: ArmTally, value: tuple[float, float] | None, money: Mapping[str, float | None]
) -> ArmCount:
    """The counts of one arm with its rate so far, where they make one."""
    rate = None
    settled, succeeded = tally.count("settled"), tally.count("succeeded")
    if 0 <= succeeded <= settled:
        interval = wilson_interval(Proportion(succeeded, settled))
        rate = interval if isinstance(interval, Interval) else None
    return ArmCount(
        arm=arm.name,
        policy=arm.policy,
        weight=arm.weight,
        attempts=tally.count("attempts"),
        orders=tally.count("orders"),
        settled=settled,
        succeeded=succeeded,
        rate=rate.estimate if rate else None,
        rate_low=rate.low if rate else None,
        rate_high=rate.high if rate else None,
        units=tally.count("units"),
        mature=tally.mature,
        value=value[0] if value else None,
        standard_error=value[1] if value else None,
        off_advice=tally.count("off_advice"),
        **money,
    )
