"""Whether an experiment can be believed at all: did units arrive as they were split, and were they really exposed?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ml.experiments.arms import ArmTally
from ml.experiments.assignment import arm_ranges
from ml.experiments.design import Experiment
from ml.experiments.sample_ratio import SampleRatio, sample_ratio

MISPLACED_SHARE: Final = 0.01
"""Share of the units that may be decided in another arm than their own, or in two, as routers take over a change."""

MISPLACED_MIN: Final = 10
"""Units that must be misplaced before it is called broken."""

MISSING_FROM: Final = 200
"""Units of the other arms after which an arm without a single one is missing."""


def unsound(experiment: Experiment, arms: Mapping[str, ArmTally]) -> str | None:
    """Say why what was counted cannot be trusted, and what to do; None: it can."""
    for name, arm in arms.items():
        order = (arm.count("succeeded"), arm.count("settled"), arm.count("attempts"))
        if min(arm.counts) < 0 or list(order) != sorted(order):
            return f"the counts of arm {name!r} contradict themselves; rebuild them from the recorded attempts"
    units = {name: arm.count("units") for name, arm in arms.items()}
    total = sum(units.values())
    for name, count in units.items():
        if count == 0 and total >= MISSING_FROM:
            return (
                f"missing exposures: not one of {total:,} units was routed by arm {name!r}; see whether every router "
                "runs this version and every checkout sends the decision_id back"
            )
    for kind, told in (("disagreed", "were decided in another arm than their own"), ("crossed", "were in two arms")):
        misplaced = sum(arm.count(kind) for arm in arms.values())
        if misplaced >= MISPLACED_MIN and misplaced > MISPLACED_SHARE * total:
            return f"{misplaced:,} of {total:,} units {told}; look for a router that runs on an old allocation"
    return _bad_split(experiment, list(units.values())) if experiment.unit != "time_block" else None


def _bad_split(experiment: Experiment, units: list[int]) -> str | None:
    widths = [high - low for low, high in arm_ranges(experiment)]
    if min(widths) == 0:
        return None  # an arm that is given nothing; the experiments file refuses that, other senders may not
    ratio = sample_ratio(units, widths)
    if not (isinstance(ratio, SampleRatio) and ratio.mismatch):
        return None
    wanted = [round(sum(units) * width / sum(widths)) for width in widths]
    p = "below 0.0001" if ratio.p_value_any_time < 0.0001 else f"{ratio.p_value_any_time:.4f}"
    return (
        f"sample ratio mismatch, units arrived {' : '.join(f'{each:,}' for each in units)} where "
        f"{' : '.join(f'{each:,}' for each in wanted)} were split off (p {p}); its rates mislead, find out which "
        "payments are lost or counted twice"
    )
