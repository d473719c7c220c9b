"""Everything there is to tell about one experiment: question, design, course, parts, cost, and what to do next."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from messaging.contracts import ExperimentActed, ExperimentReported
from ml.experiments.arms import ArmTally
from ml.experiments.design import HOLDOUT, Experiment
from ml.experiments.metrics import METRICS
from ml.experiments.segments import FALSE_SHARE, SegmentFound, segments_of
from storage.database import Database
from storage.errors import translated
from storage.experiments import ExperimentPoint, arm_counts, arm_sums, last_definition, points_of
from storage.read_models.measures import QUERY_MS_MAX, read_as

ACTIONS_MAX: Final = 100


class Toll(msgspec.Struct, frozen=True, kw_only=True):
    """What the experiment cost: payments lost (or won, below 0) by giving its units to the challenger, and not to the
    control; with the bounds that the difference has."""

    arm: str
    units: int
    payments_lost: float
    low: float
    high: float


class ExperimentStory(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment, told whole. ``definition`` None: it is not defined any more."""

    name: str
    definition: Experiment | None
    report: ExperimentReported
    points: list[ExperimentPoint]
    segments: list[SegmentFound]
    segments_note: str
    actions: list[ExperimentActed]
    toll: Toll | None
    next_step: str
    told_at: datetime


NEXT_STEPS: Final = {
    "collecting": "Let it run. Looking is free: the bounds hold at any time.",
    "better": "Make the policy of the better arm the default, and keep a small control to go on proving it.",
    "worse": "End it, and keep the control. Look at the parts below for where the harm came from before trying again.",
    "no difference": "Choose by cost and simplicity: whatever difference there is, it is smaller than what matters.",
    "guardrail breached": "End it, whatever the goal shows; see below which guardrail or part it was.",
    "broken": "Do not use any number of it. Find what loses or doubles payments, then begin anew with another seed.",
}


async def read_story(database: Database, name: str, now: datetime) -> ExperimentStory | None:
    """Read one experiment; None: none of this name was ever reported."""
    with translated():
        document = await database["experiment_reports"].find_one({"_id": name}, max_time_ms=QUERY_MS_MAX)
    if document is None:
        return None
    report = read_as(document, ExperimentReported, "experiment_reports")
    definition = await _definition(database, name)
    with translated():
        cursor = database["experiment_actions"].find({"experiment": name}).sort("at", 1).limit(ACTIONS_MAX)
        actions = [read_as(entry, ExperimentActed, "experiment_actions") async for entry in cursor]
    phase = report.phase or ""
    segments: list[SegmentFound] = []
    if definition is not None and definition.phase == phase:
        segments = segments_of(definition, await _arms(database, definition))
    return ExperimentStory(
        name=name,
        definition=definition,
        report=report,
        points=await points_of(database, phase),
        segments=segments,
        segments_note=(
            f"{len(segments)} parts were looked at. Each is drawn towards the whole as far as its distance looks like "
            f"chance, and marked only where at most {100 * FALSE_SHARE:.0f} % of the marks are expected to be false. "
            "They were not planned: take them as questions for the next experiment."
        ),
        actions=actions,
        toll=_toll(report),
        next_step=NEXT_STEPS[report.standing],
        told_at=now,
    )


async def _definition(database: Database, name: str) -> Experiment | None:
    defined = await last_definition(database)
    if defined is None:
        return None
    if name == HOLDOUT and defined.holdout is not None:
        return defined.holdout.as_experiment(defined.default_policy)
    return next((each for each in defined.experiments if each.name == name), None)


async def _arms(database: Database, experiment: Experiment) -> dict[str, ArmTally]:
    counts = await arm_counts(database, [experiment.phase])
    sums = await arm_sums(database, [experiment.phase])
    arms = {}
    for arm in experiment.arms:
        of_arm = {stratum: total for (_, name, stratum), total in sums.items() if name == arm.name}
        counted = counts.get((experiment.phase, experiment.name, arm.name))
        arms[arm.name] = ArmTally(sums=of_arm) if counted is None else ArmTally(counted, of_arm)
    return arms


def _toll(report: ExperimentReported) -> Toll | None:
    """What the challenger's units lost by not being in the control; only where the metric is a share."""
    told = (report.difference, report.difference_low, report.difference_high)
    metric = METRICS.get(report.metric or "")
    if metric is None or not metric.is_share or None in told:
        return None
    units = next((arm.units for arm in report.arms if arm.arm == report.challenger), 0)
    difference, low, high = (float(each) for each in told if each is not None)
    return Toll(
        arm=str(report.challenger), units=units,
        payments_lost=-difference * units, low=-high * units, high=-low * units,
    )  # fmt: skip
