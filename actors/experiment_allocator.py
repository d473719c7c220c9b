"""Experiment allocator: publishes who is in which arm, counts what happens there, says what it means, and acts."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from actors.experiment_reporting import report_of
from actors.experiment_tallies import Tallies
from messaging.contracts import (
    AllocationPublished,
    AttemptsRecorded,
    ExperimentActed,
    ExperimentResumed,
    ExperimentsDefined,
    ExperimentStopped,
    Message,
)
from ml.experiments.assignment import Allocation
from ml.experiments.counting import Decided, Fee, counted, unit_keys
from ml.experiments.design import Experiment
from ml.experiments.goals import Judging
from ml.experiments.rollout import NextAction, Rollout, begun, coverage_now, in_force, next_action
from ml.experiments.units import Unit
from ml.experiments.verdict import judge
from storage.experiments import ExperimentCounts, ExperimentPoint

ALLOCATIONS_MAX: Final = 100
"""Allocations remembered: decisions made under an older one are counted under the present one."""

REPORTS_AT_ONCE_MAX: Final = 5
"""Experiments judged in one tick; one with thousands of strata takes tenths of a second, and batches wait meanwhile."""

WORKER: Final = "experiment_allocator"

Heard = ExperimentsDefined | ExperimentStopped | ExperimentResumed | AttemptsRecorded
Known = tuple[Mapping[str, Unit], Mapping[str, Decided]]
"""Stored units by key, and stored decisions by id."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the store holds for a restart: the newest allocations first, rollouts, units that still mature, and sums."""

    defined: ExperimentsDefined | None = None
    allocations: Sequence[AllocationPublished] = ()
    rollouts: Sequence[Rollout] = ()
    waiting: Sequence[Unit] = ()
    counts: Mapping[tuple[str, str, str], tuple[int, ...]] = {}
    sums: Mapping[tuple[str, str, str], tuple[float, ...]] = {}
    points: Mapping[str, int] = {}


class ExperimentAllocator:
    """Turns definitions into allocations, recorded attempts into counts by arm, and counts into verdicts and actions.

    What it says is stored in the transaction that marks what it heard as consumed; ``warm_start`` takes all of it
    back, so a restart changes nothing. Counts belong to a phase: to what decides who is in which arm. They go on when
    anything else changes, such as another experiment or the words of this one.

    Args:
        alpha: how often an experiment without a difference may ever be called different, 0..0.5.
        orders_expected: sample size at which a decision is expected, where an experiment does not say.
        report_s: seconds between two reports of an experiment.
        fee: what an attempt costs.
    """

    def __init__(self, *, alpha: float, orders_expected: int, report_s: float, fee: Fee) -> None:
        self._alpha = alpha
        self._orders_expected = orders_expected
        self._report_s = report_s
        self._fee = fee
        self._defined: ExperimentsDefined | None = None
        self._published: AllocationPublished | None = None
        self._allocations: OrderedDict[str, Allocation] = OrderedDict()
        self._rollouts: dict[str, Rollout] = {}
        self._tallies = Tallies()
        self._reported_at: datetime | None = None
        self._due: list[str] = []
        self._has_heard = False

    def warm_start(self, memory: Memory) -> None:
        """Take back what was stored before a restart."""
        self._defined = memory.defined
        for published in reversed(memory.allocations):
            self._remember(published)
        self._rollouts = {rollout.phase: rollout for rollout in memory.rollouts}
        self._tallies = Tallies(memory.counts, memory.sums, memory.waiting, memory.points)
        self._tallies.touch(self._phases())

    # --- what comes down the line ------------------------------------------------------------------------------------

    def handle(self, messages: Sequence[Heard], now: datetime, known: Known | None = None) -> Iterator[Any]:
        """Count what was recorded, then publish what is newly defined and obey operators, in the order of the messages.

        Args:
            messages: one batch.
            now: when a new definition comes into force.
            known: the stored units and decisions of the attempts in this batch.
        """
        self._has_heard = True
        yield from self._count([each for each in messages if isinstance(each, AttemptsRecorded)], known)
        for message in messages:
            match message:
                case ExperimentsDefined():
                    yield from self._define(message, now)
                case ExperimentStopped() | ExperimentResumed():
                    yield from self._obey(message, now)

    def _count(self, recorded: Sequence[AttemptsRecorded], known: Known | None) -> Iterator[ExperimentCounts]:
        if not recorded or self._published is None:
            return
        stored, decisions = known if known is not None else ({}, {})
        attempts = [attempt for batch in recorded for attempt in batch.attempts]
        before = {key: self._tallies.newest(key, stored) for each in attempts for key in unit_keys(each)}
        units = counted(
            attempts,
            {key: unit for key, unit in before.items() if unit is not None},
            decisions,
            self._allocations,
            current=self._allocations[self._published.version],
            started={phase: rollout.started_at for phase, rollout in self._rollouts.items()},
            fee=self._fee,
        )
        changed = {key: unit for key, unit in units.items() if unit != before.get(key)}
        if changed:
            yield self._tallies.add(before, changed)

    # --- what is in force --------------------------------------------------------------------------------------------

    def _define(self, defined: ExperimentsDefined, now: datetime) -> Iterator[Any]:
        if self._defined is not None and self._defined.version == defined.version:
            return
        self._defined = defined
        yield defined
        yield from self._publish(now, who=defined.defined_by, cause=f"{defined.source} defines {defined.version}")

    def _publish(self, now: datetime, *, who: str, cause: str) -> Iterator[AllocationPublished | Rollout]:
        """Bring into force what is defined, as far as each experiment has come; nothing when that is in force."""
        assert self._defined is not None
        defined = self._defined
        effective = []
        for experiment in defined.experiments:
            rollout = self._rollouts.get(experiment.phase)
            if rollout is None:
                rollout = self._rollouts[experiment.phase] = begun(experiment, now)
                yield rollout
            effective.append(in_force(experiment, rollout, now))
        default_policy = defined.default_policy
        if defined.holdout is not None:
            held = defined.holdout.as_experiment(defined.default_policy)
            if held.phase not in self._rollouts:
                yield self._rollouts.setdefault(held.phase, begun(held, now))
            if self._rollouts[held.phase].stopped_at is not None:  # the retreat: what serves the slice serves all
                default_policy = defined.holdout.policy
        content = msgspec.json.encode(
            [default_policy, effective, defined.layers, defined.holdout], order="deterministic"
        )
        digest = hashlib.sha256(content).hexdigest()[:12]
        if self._published is not None and self._published.version.endswith(digest):
            return
        published = AllocationPublished(
            version=f"alc_{int(now.timestamp() * 1000):x}_{digest}",
            published_at=now,
            experiments=effective,
            default_policy=default_policy,
            layers=defined.layers,
            holdout=defined.holdout,
            defined_version=defined.version,
            published_by=who[:60],
            cause=cause[:500],
        )
        self._remember(published)
        self._tallies.touch(self._phases())
        yield published

    def _remember(self, published: AllocationPublished) -> None:
        self._published = published
        self._allocations[published.version] = published.allocation()
        while len(self._allocations) > ALLOCATIONS_MAX:
            self._allocations.popitem(last=False)

    def _phases(self) -> list[Experiment]:
        """Every experiment that is counted, and the permanent control slice as one."""
        if self._defined is None:
            return []
        held = self._defined.holdout
        more = [] if held is None else [held.as_experiment(self._defined.default_policy)]
        return [*self._defined.experiments, *more]

    # --- operators and rules -----------------------------------------------------------------------------------------

    def _obey(self, order: ExperimentStopped | ExperimentResumed, now: datetime) -> Iterator[Any]:
        experiment = next((each for each in self._phases() if each.name == order.experiment), None)
        rollout = self._rollouts.get(experiment.phase) if experiment is not None else None
        stops = isinstance(order, ExperimentStopped)
        if experiment is None or rollout is None or (rollout.stopped_at is not None) == stops:
            return
        yield from self._act(experiment, rollout, "stopped" if stops else "resumed", now, order)

    def _act(
        self,
        experiment: Experiment,
        rollout: Rollout,
        action: Any,
        now: datetime,
        order: ExperimentStopped | ExperimentResumed | NextAction,
    ) -> Iterator[Any]:  # which experiment, how far it is, what to do, when, and who wants it why
        automatic = isinstance(order, NextAction)
        who = WORKER if isinstance(order, NextAction) else order.who
        match action:
            case "stopped":
                told = {"stopped_at": now, "stopped_by": who, "stopped_why": order.reason[:500]}
                rollout = msgspec.structs.replace(rollout, **told)
            case "resumed":
                rollout = msgspec.structs.replace(
                    rollout, stopped_at=None, stopped_by=None, stopped_why="", step_since=now, resumed_at=now
                )
            case _:
                rollout = msgspec.structs.replace(rollout, step=rollout.step + 1, step_since=now)
        self._rollouts[experiment.phase] = rollout
        yield rollout
        change = f"act_{experiment.name}_{int(now.timestamp() * 1000):x}"
        yield ExperimentActed(
            change_id=change if isinstance(order, NextAction) else order.change_id,
            experiment=experiment.name,
            phase=experiment.phase,
            action=action,
            at=now,
            who=who,
            automatic=automatic,
            reason=order.reason[:500],
            coverage=coverage_now(experiment, rollout),
        )
        yield from self._publish(now, who=who, cause=f"{experiment.name} {action}: {order.reason}")

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self, now: datetime) -> Iterator[Any]:
        """Take in units that became mature; every ``report_s`` report what changed, and act where that is asked for.

        Experiments whose start or stop has come are published at once. A replica that has heard nothing since its start
        is not the active one, and says nothing: the line has one allocator at a time.
        """
        if self._defined is None or not self._has_heard:
            return
        matured = self._tallies.mature(now)
        if matured is not None:
            yield matured
        yield from self._publish(now, who=WORKER, cause="a start or stop has come")
        phases = {experiment.phase: experiment for experiment in self._phases()}
        if self._reported_at is None or (now - self._reported_at).total_seconds() >= self._report_s:
            self._reported_at = now
            self._due += [phase for phase in phases if phase not in self._due and self._tallies.take_changed(phase)]
        due, self._due = self._due[:REPORTS_AT_ONCE_MAX], self._due[REPORTS_AT_ONCE_MAX:]
        for phase in due:
            if phase in phases:
                yield from self._report(phases[phase], now)

    def _report(self, experiment: Experiment, now: datetime) -> Iterator[Message | ExperimentPoint | Rollout]:
        rollout = self._rollouts.get(experiment.phase)
        if rollout is None or self._published is None:
            return
        if not experiment.enabled and not self._tallies.any(experiment.phase):
            return
        arms = self._tallies.arms(experiment)
        judging = Judging(alpha=self._alpha, units_expected=self._orders_expected, now=now, since=rollout.started_at)
        verdict = judge(experiment, arms, judging)
        wanted = next_action(experiment, rollout, verdict, now)
        if wanted is not None:
            yield from self._act(experiment, rollout, wanted.action, now, wanted)
            rollout = self._rollouts[experiment.phase]
            self._tallies.touch([experiment])
        report = report_of(experiment, arms, verdict, rollout, self._published.version, now)
        yield report
        if self._tallies.point_is_due(experiment.phase, verdict.units, report.difference is not None):
            yield ExperimentPoint.of(report)
