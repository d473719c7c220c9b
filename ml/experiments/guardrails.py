"""Guardrails: what must not get worse by more than a margin, watched one-sided and at any time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from ml.experiments.arms import ArmTally, moments_of, share_metric
from ml.experiments.design import Experiment
from ml.experiments.evidence import enough_units
from ml.experiments.metrics import METRICS
from ml.experiments.moments import contrast
from ml.experiments.sequences import reach_below

State = Literal["collecting", "holding", "safe", "breached"]


class GuardrailFound(msgspec.Struct, frozen=True, kw_only=True):
    """One guardrail of one challenger.

    ``harm`` is how much worse it is than the control, ``harm_low`` and ``harm_high`` its one-sided bounds. Breached:
    the lower one is above the margin. Safe: the upper one is below it. Holding: neither is proven.
    """

    metric: str
    arm: str
    margin: float
    state: State
    words: str
    harm: float | None = None
    harm_low: float | None = None
    harm_high: float | None = None


def judge_guardrails(
    experiment: Experiment, arms: Mapping[str, ArmTally], *, alpha: float, tuned: float
) -> list[GuardrailFound]:
    """Judge every guardrail of every challenger; alpha is shared out among all of them."""
    control = experiment.control.name
    challengers = [name for name in arms if name != control]
    level = alpha / max(1, len(challengers) * len(experiment.guardrails))
    found = []
    for guardrail in experiment.guardrails:
        metric, is_share = METRICS[guardrail.metric], share_metric(guardrail.metric)
        by_block = experiment.unit == "time_block"
        moments = moments_of(arms, guardrail.metric, by_block=by_block)
        for arm in challengers:
            sides = (moments[control], moments[arm])
            compared = contrast(*sides)
            error = float(compared.standard_error)
            start = GuardrailFound(
                metric=metric.name, arm=arm, margin=guardrail.margin, state="collecting",
                words=f"{metric.title} of {arm!r}: too few units yet",
            )  # fmt: skip
            if not all(bool(enough_units(side, is_share=is_share and not by_block)) for side in sides) or not error > 0:
                found.append(start)
                continue
            harm = float(compared.difference) * (-1 if metric.higher_is_better else 1)
            reach = float(reach_below(error, float(compared.units), alpha=level, tuned=tuned))
            found.append(_told(start, harm, reach))
    return found


def _told(start: GuardrailFound, harm: float, reach: float) -> GuardrailFound:
    metric = METRICS[start.metric]
    low, high = harm - reach, harm + reach
    state: State = "breached" if low > start.margin else "safe" if high < start.margin else "holding"
    margin = metric.shown(start.margin, signed=True)[1:]
    by = f"{'worse' if harm > 0 else 'better'} by {metric.shown(abs(harm), signed=True)[1:]}"
    told = f"{metric.title} of {start.arm!r} is {by}"
    words = {
        "breached": f"guardrail breached: {told}, surely worse by more than the margin of {margin} "
        f"(at least {metric.shown(low, signed=True)[1:]})",
        "safe": f"{told}, surely not worse by the margin of {margin}",
        "holding": f"{told}, neither within nor beyond the margin of {margin} for sure",
    }[state]
    return msgspec.structs.replace(start, state=state, words=words, harm=harm, harm_low=low, harm_high=high)
