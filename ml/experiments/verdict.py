"""What an experiment says so far, in plain words: is it sound, is an arm harmful, better, or not worth a difference?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

import msgspec
import numpy as np

from ml.experiments.arms import ArmTally, moments_of, share_metric
from ml.experiments.design import Experiment
from ml.experiments.evidence import units_lacking
from ml.experiments.goals import BLOCKS_MIN, GoalFound, Judging, alpha_of, compare_goals, tuned_of
from ml.experiments.guardrails import GuardrailFound, judge_guardrails
from ml.experiments.metrics import METRICS
from ml.experiments.moments import ratio_of
from ml.experiments.planning import units_any_time
from ml.experiments.segments import harm_in_parts
from ml.experiments.sequences import half_width
from ml.experiments.soundness import unsound
from ml.experiments.units import MATURE

Standing = Literal[
    "collecting", "better", "worse", "no difference", "guardrail breached", "broken",
]  # fmt: skip


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Where an experiment stands.

    ``harmful`` and ``proven`` are what may be acted upon: a challenger worse than the control or through a guardrail,
    and one that is better, past its minimum run time. Never on a broken experiment.
    """

    standing: Standing
    words: str
    challenger: str | None = None
    control: str
    goals: tuple[GoalFound, ...] = ()
    guardrails: tuple[GuardrailFound, ...] = ()
    units: int = 0
    immature_share: float = 0.0
    units_needed: int | None = None
    days_needed: float | None = None

    @property
    def primary(self) -> GoalFound | None:
        """The best challenger by the primary metric; None: nothing can be said yet."""
        return next((goal for goal in self.goals if goal.arm == self.challenger), None)


def judge(experiment: Experiment, arms: Mapping[str, ArmTally], judging: Judging) -> Verdict:
    """Judge one experiment by what its arms have gathered so far.

    Every challenger is compared with the control by every goal; Holm answers for all of them together. Guardrails are
    one-sided and have an alpha of their own, shared out among them and the challengers.

    Args:
        experiment: its arms, goals and guardrails.
        arms: by name; an arm without anything may be left out.
        judging: see there.
    """
    arms = {arm.name: arms.get(arm.name, ArmTally()) for arm in experiment.arms}
    control = experiment.control.name
    units = sum(arm.count("units") for arm in arms.values())
    mature = sum(arm.mature for arm in arms.values())
    immature = 1 - mature / units if units else 0.0
    seen = Verdict(standing="collecting", words="", control=control, units=units, immature_share=immature)
    if why := unsound(experiment, arms):
        return msgspec.structs.replace(seen, standing="broken", words=f"broken: {why}")
    goals = compare_goals(experiment, arms, judging)
    guardrails = judge_guardrails(
        experiment, arms, alpha=alpha_of(experiment, judging), tuned=tuned_of(experiment, judging)
    )
    seen = msgspec.structs.replace(seen, goals=tuple(goals), guardrails=tuple(guardrails))
    primary = [goal for goal in goals if goal.metric == experiment.primary]
    if breached := next((each for each in guardrails if each.state == "breached"), None):
        return msgspec.structs.replace(
            seen, standing="guardrail breached", words=breached.words, challenger=breached.arm
        )
    if not primary or all(goal.exact and goal.gain.high >= 0 for goal in primary):
        stands = _too_few(experiment, arms, judging, seen)
    else:
        stands = _compared(experiment, judging, seen, primary)
    harm = harm_in_parts(experiment, arms, alpha=alpha_of(experiment, judging), tuned=tuned_of(experiment, judging))
    if harm is None or stands.standing == "worse":
        return stands
    return msgspec.structs.replace(seen, standing="guardrail breached", words=harm.words, challenger=harm.arm)


def _too_few(experiment: Experiment, arms: Mapping[str, ArmTally], judging: Judging, seen: Verdict) -> Verdict:
    """Say what the arm that is furthest behind still lacks before it can be compared at all."""
    if experiment.unit == "time_block":
        blocks = {name: len(arm.sums) for name, arm in arms.items()}
        name = min(blocks, key=lambda each: blocks[each])
        lacking, kind = max(1, BLOCKS_MIN - blocks[name]), "blocks of time"
        days: float | None = lacking * len(arms) * experiment.block_minutes / 1440
    else:
        moments = moments_of(arms, experiment.primary)
        lack = {
            name: max(1, units_lacking(each, is_share=share_metric(experiment.primary)))
            for name, each in moments.items()
        }
        name = max(lack, key=lambda each: lack[each])
        lacking, kind = lack[name], MATURE[experiment.unit]
        days = lacking / (arms[name].count("units") / judging.days) if arms[name].count("units") else None
    words = f"collecting: arm {name!r} needs about {lacking:,} more {kind}{_in_days(days)} before it is compared"
    return msgspec.structs.replace(seen, words=words + _waiting(seen), units_needed=lacking, days_needed=days)


def _compared(experiment: Experiment, judging: Judging, seen: Verdict, primary: list[GoalFound]) -> Verdict:
    """Say better, worse, no difference worth having, or how much longer it takes."""
    worst = min(primary, key=lambda goal: goal.gain.high)
    best = max(primary, key=lambda goal: goal.gain.estimate)
    metric, smallest, kind = METRICS[experiment.primary], experiment.smallest_effect, MATURE[experiment.unit]
    early = judging.days < experiment.min_days
    until = (judging.since + timedelta(days=experiment.min_days)).strftime("%Y-%m-%d")
    if worst.gain.high < 0:
        words = f"worse: {_said(worst, seen.control, kind)}"
        if best.gain.low > 0:
            words += f"; better: {_said(best, seen.control, kind)}"
        return msgspec.structs.replace(seen, standing="worse", words=words, challenger=worst.arm)
    seen = msgspec.structs.replace(seen, challenger=best.arm)
    if best.gain.low > 0 and not early:
        return msgspec.structs.replace(seen, standing="better", words=f"better: {_said(best, seen.control, kind)}")
    if best.gain.low > 0:
        words = f"collecting: better so far ({_said(best, seen.control, kind)}), but it runs until {until} at least"
        left = experiment.min_days - judging.days
        return msgspec.structs.replace(seen, words=words, units_needed=0, days_needed=left)
    inside = all(-smallest < goal.gain.low and goal.gain.high < smallest for goal in primary)
    if inside and not early:
        words = f"no difference of {metric.shown(smallest, signed=True)[1:]} or more: {_said(best, seen.control, kind)}"
        return msgspec.structs.replace(seen, standing="no difference", words=words)
    needed, days = _still_needed(experiment, judging, best)
    so_far = f"so far {_said(best, seen.control, kind)}{_waiting(seen)}"
    words = f"collecting: needs about {needed:,} more {kind}{_in_days(days)}; {so_far}"
    return msgspec.structs.replace(seen, words=words, units_needed=needed, days_needed=days)


def _still_needed(experiment: Experiment, judging: Judging, goal: GoalFound) -> tuple[int, float | None]:
    """Units until the smallest effect that matters is told from none, at the error seen so far."""
    alpha, tuned = goal.alpha, tuned_of(experiment, judging)
    reach_of_one = float(half_width(1.0, goal.units, alpha=alpha, tuned=tuned))
    error = (goal.interval.high - goal.interval.low) / 2 / reach_of_one
    effect = max(experiment.smallest_effect, abs(goal.interval.estimate) / 2)
    expected = experiment.orders_expected or judging.units_expected
    needed = units_any_time(effect, error**2 * goal.units, alpha=alpha, power=0.5, tuned_for=expected)
    lacking = max(1, needed - goal.units)
    per_day = goal.units / judging.days
    return lacking, lacking / per_day if per_day else None


def _said(goal: GoalFound, control: str, kind: str) -> str:
    metric = METRICS[goal.metric]
    low, high = metric.shown(goal.interval.low, signed=True), metric.shown(goal.interval.high, signed=True)
    p = "" if goal.p_value is None else f", p {_p(goal.p_value)}"
    return (
        f"{metric.title} of {goal.arm!r} {metric.shown(goal.interval.estimate, signed=True)} against {control!r} "
        f"({low} to {high} at any time of looking{p}, n {goal.units:,} {kind})"
    )


def _waiting(seen: Verdict) -> str:
    if seen.immature_share < 0.01:
        return ""
    return f"; {100 * seen.immature_share:.0f} % of {seen.units:,} units still wait for their outcome"


def _in_days(days: float | None) -> str:
    if days is None or not math.isfinite(days):
        return ""
    minutes = max(1, round(days * 1440))
    return f" / {days:.1f} days" if days >= 0.1 else f" / {minutes} minute{'s' if minutes > 1 else ''}"


def _p(p_value: float) -> str:
    return "below 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def rates_of(experiment: Experiment, arms: Mapping[str, ArmTally]) -> dict[str, tuple[float, float] | None]:
    """The primary metric of each arm with its standard error, over all its mature units; None: nothing yet."""
    found: dict[str, tuple[float, float] | None] = {}
    for name, each in moments_of(arms, experiment.primary, by_block=experiment.unit == "time_block").items():
        ratio, error = ratio_of(each)
        found[name] = (float(ratio), float(error)) if np.isfinite(ratio) else None
    return found
