"""How much traffic an experiment gets now, and what its own rules do next: ramp up, or stop when it does harm."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from ml.experiments.design import Experiment
from ml.experiments.verdict import Verdict


class Rollout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far one phase of an experiment has come. ``stopped_at`` None: it is not stopped.

    Once a person has resumed it (``resumed_at``), it is not stopped again by its own rules in this phase: its counts
    are the same that stopped it, and would do so at once.
    """

    experiment: str
    phase: str
    started_at: datetime
    step: int = 0
    step_since: datetime
    stopped_at: datetime | None = None
    stopped_by: str | None = None
    stopped_why: str = ""
    resumed_at: datetime | None = None


class NextAction(NamedTuple):
    """What the experiment's own rules want, and why, in words."""

    action: Literal["stopped", "ramped"]
    reason: str


def begun(experiment: Experiment, now: datetime) -> Rollout:
    """The rollout of a phase that begins now."""
    return Rollout(experiment=experiment.name, phase=experiment.phase, started_at=now, step_since=now)


def coverage_now(experiment: Experiment, rollout: Rollout) -> float:
    """The share of the eligible units that takes part at this step; after the last step the whole coverage."""
    if rollout.step >= len(experiment.ramp):
        return experiment.coverage
    return experiment.ramp[rollout.step].coverage


def in_force(experiment: Experiment, rollout: Rollout, now: datetime) -> Experiment:
    """The experiment as routers see it now: not before its start, not after its stop, not when it was stopped."""
    waits = experiment.start is not None and now < experiment.start
    over = experiment.stop is not None and now >= experiment.stop
    enabled = experiment.enabled and not waits and not over and rollout.stopped_at is None
    return msgspec.structs.replace(experiment, enabled=enabled, coverage=coverage_now(experiment, rollout))


def next_action(experiment: Experiment, rollout: Rollout, verdict: Verdict, now: datetime) -> NextAction | None:
    """What is to be done by the experiment's own rules; never anything on a broken experiment.

    Args:
        experiment: as it was defined.
        rollout: how far it has come.
        verdict: how it stands.
        now: the present.
    """
    if verdict.standing == "broken" or not in_force(experiment, rollout, now).enabled:
        return None
    if verdict.standing in ("worse", "guardrail breached"):
        by_itself = experiment.on_harm == "stop" and rollout.resumed_at is None  # a person knows better than old counts
        return NextAction("stopped", verdict.words) if by_itself else None
    if rollout.step >= len(experiment.ramp):
        return None
    step = experiment.ramp[rollout.step]
    waited = now - rollout.step_since >= timedelta(hours=step.hours)
    if not waited or verdict.units < step.orders:
        return None
    after = coverage_now(experiment, msgspec.structs.replace(rollout, step=rollout.step + 1))
    return NextAction(
        "ramped",
        f"from {100 * step.coverage:g} % to {100 * after:g} % after {step.hours:g} hours and {verdict.units:,} units "
        f"without harm: {verdict.words}",
    )
