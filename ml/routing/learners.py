"""One learner for every experiment arm, so that no arm profits from what another tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
import numpy as np

from ml.experiments.assignment import Allocation, Assignable, Assignment, assign
from ml.experiments.design import CONTROL, HOLDOUT
from ml.routing.policies import POLICIES, Policy, PolicySettings, settings_of_arm

Arm = tuple[str, str]
DEFAULT: Final[Arm] = ("", "default")
"""The learner of payments that are in no experiment."""


def arm_of(assigned: Assignment | None) -> Arm:
    """The arm that learns from a payment and decides on it."""
    return (assigned.experiment, assigned.arm) if assigned else DEFAULT


class _Wanted(NamedTuple):
    """What an arm asks for: a policy, and the settings in which it differs from the router's own."""

    policy: str
    parameters: Mapping[str, int | float | list[str]]


class ArmLearners:
    """The policies in force, one learner for each arm of each experiment, and one for all other payments.

    Args:
        settings: how policies learn and explore.
        default_policy: for payments in no experiment, until an allocation says otherwise; also stands in for a policy
            that an allocation names and this version does not know (decisions carry the name of what was used).
        generator: source of all randomness.
    Raises: ValueError: default_policy is no known policy.
    """

    def __init__(self, settings: PolicySettings, *, default_policy: str, generator: np.random.Generator) -> None:
        if default_policy not in POLICIES:
            raise ValueError(f"default_policy is {default_policy!r}, must be one of {', '.join(POLICIES)}")
        self._settings = settings
        self._default_policy = default_policy
        self._generator = generator
        self.allocation: Allocation | None = None
        self._made: dict[Arm, _Wanted] = {DEFAULT: _Wanted(default_policy, {})}
        self._learners: dict[Arm, Policy] = {DEFAULT: self._make(self._made[DEFAULT])}

    def assignment(self, payment: Assignable, at: datetime) -> Assignment | None:
        """Find the arm of a payment that is routed at this time; None: it is in no experiment."""
        return None if self.allocation is None else assign(self.allocation, payment, at)

    def learner(self, arm: Arm) -> Policy:
        """The learner of an arm."""
        return self._learners[arm]

    def all(self) -> Iterable[Policy]:
        """Every learner."""
        return self._learners.values()

    def put_in_force(self, allocation: Allocation, now: float) -> None:
        """Keep the learners of arms that stay, drop those that go; a new arm starts from what the default knows."""
        if self.allocation is not None and self.allocation.version == allocation.version:
            return
        self.allocation = allocation
        wanted = {DEFAULT: _Wanted(allocation.default_policy, {})}
        if allocation.holdout is not None:
            wanted[HOLDOUT, CONTROL] = _Wanted(allocation.holdout.policy, {})
        for experiment in allocation.experiments:
            wanted |= {(experiment.name, arm.name): _Wanted(arm.policy, arm.parameters) for arm in experiment.arms}
        before, made = self._learners, self._made
        evidence = list(before[DEFAULT].evidence(now))
        self._learners, self._made = {}, wanted
        for arm, asked in wanted.items():
            kept = before.get(arm)
            if kept is not None and made.get(arm) == asked:
                self._learners[arm] = kept
            else:
                self._learners[arm] = self._make(asked)
                self._learners[arm].inherit(evidence, now)

    def _make(self, asked: _Wanted) -> Policy:
        policy = asked.policy if asked.policy in POLICIES else self._default_policy
        known = {name: value for name, value in asked.parameters.items() if name in PolicySettings.__struct_fields__}
        try:
            return POLICIES[policy](settings_of_arm(self._settings, known), self._generator)
        except (ValueError, msgspec.ValidationError):  # a sender that did not check them; routing goes on
            return POLICIES[policy](self._settings, self._generator)
