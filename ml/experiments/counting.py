"""Turns recorded attempts and the decisions behind them into units, and units into what they add to each arm.

A unit takes part from the decision that was really used: an attempt that carries a decision made by an arm. That a unit
would have been assigned to an arm is not enough, and a payment that a checkout routed by its own list is none. Once a
unit takes part, all its later attempts count, however they were routed; those that were recorded before its first
decision was are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from ml.experiments.assignment import Allocation, Assignable, Assignment, assign, held_out, in_burn_in, unit_of
from ml.experiments.design import HOLDOUT, Experiment
from ml.experiments.units import AttemptSeen, Exposure, Unit, stratum_of


class Decided(NamedTuple):
    """What the router decided, as it was stored: by which arm, under which allocation, and the gateway it put first."""

    experiment: str | None
    arm: str | None
    allocation_version: str | None
    gateway: str | None
    overridden: bool = False
    """An operator's order decided, whatever the experiments say."""


class Countable(Assignable, Protocol):
    """What counting needs to know of a recorded attempt."""

    @property
    def attempt_id(self) -> str: ...  # noqa: D102
    @property
    def gateway(self) -> str: ...  # noqa: D102
    @property
    def attempt_number(self) -> int: ...  # noqa: D102
    @property
    def attempted_at(self) -> datetime: ...  # noqa: D102
    @property
    def occurred_at(self) -> datetime: ...  # noqa: D102
    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def latency_ms(self) -> float | None: ...  # noqa: D102
    @property
    def decision_id(self) -> str | None: ...  # noqa: D102


Fee = Callable[[str, str, int], int]
"""What an attempt costs, minor units: (gateway, status, amount in minor units)."""

Allocations = Mapping[str, Allocation]
"""The last allocations by version; a decision is counted under the one it was made under."""


def unit_keys(attempt: Assignable) -> list[str]:
    """The units that an attempt may belong to, as they are stored."""
    keys = [f"o:{attempt.order_id}"]
    return keys if attempt.customer_id is None else [*keys, f"c:{attempt.customer_id}"]


def counted(
    attempts: Iterable[Countable],
    known: Mapping[str, Unit],
    decisions: Mapping[str, Decided],
    allocations: Allocations,
    *,
    current: Allocation,
    started: Mapping[str, datetime],
    fee: Fee,
) -> dict[str, Unit]:  # what came, what is known of it, and what applies to it
    """The units of these attempts as they are now; those that take part in nothing are left out.

    Args:
        attempts: new and corrected ones.
        known: units that are stored already, by key; see ``unit_keys``.
        decisions: by id; one that is missing is taken to be what the hash says.
        allocations: see there.
        current: the allocation in force.
        started: when each phase began; without its decision, an attempt made before that is not counted.
        fee: of an attempt.
    """
    units: dict[str, Unit] = {}
    taken = list(attempts)
    for attempt in taken:
        if attempt.decision_id is None:
            continue
        decided = decisions.get(attempt.decision_id)
        version = decided.allocation_version if decided is not None else None
        allocation = allocations.get(version, current) if version is not None else current
        for key, exposures in exposures_of(attempt, decided, allocation).items():
            unit = units.get(key) or known.get(key) or Unit(unit=key)
            for exposure in exposures:
                begun = started.get(exposure.phase)
                if not exposure.unconfirmed or (begun is not None and attempt.attempted_at >= begun):
                    unit = unit.with_exposure(exposure)
            if unit.exposures:
                units[key] = unit
    for attempt in taken:
        decided = None if attempt.decision_id is None else decisions.get(attempt.decision_id)
        seen = _seen(attempt, decided, fee)
        for key in unit_keys(attempt):
            exposed = units.get(key) or known.get(key)
            if exposed is not None:
                units[key] = exposed.with_attempt(attempt.attempt_id, seen)
    return units


def exposures_of(attempt: Countable, decided: Decided | None, allocation: Allocation) -> dict[str, list[Exposure]]:
    """What an attempt that was routed here exposes its units to, by key of the unit."""
    if decided is not None and decided.overridden:
        return {}
    at = attempt.attempted_at
    by_hash = assign(allocation, attempt, at)
    found: dict[str, list[Exposure]] = {}
    experiments = {each.name: each for each in allocation.experiments}
    name, arm = _arm_of(decided, by_hash)
    experiment = experiments.get(name) if name is not None else None
    if experiment is not None and arm in {each.name for each in experiment.arms} and not in_burn_in(experiment, at):
        disagreed = decided is not None and (by_hash is None or (by_hash.experiment, by_hash.arm) != (name, arm))
        exposure = _exposure(experiment, str(arm), attempt)
        exposure = _flagged(exposure, unconfirmed=decided is None, disagreed=disagreed)
        found.setdefault(_key(experiment, attempt), []).append(exposure)
    side = held_out(allocation, attempt)
    if side is not None and allocation.holdout is not None:
        control = name == HOLDOUT
        experiment = allocation.holdout.as_experiment(allocation.default_policy)
        exposure = _exposure(experiment, "control" if control else "optimised", attempt)
        exposure = _flagged(
            exposure, unconfirmed=decided is None, disagreed=exposure.arm != side.arm and decided is not None
        )
        found.setdefault(_key(experiment, attempt), []).append(exposure)
    return found


def _arm_of(decided: Decided | None, by_hash: Assignment | None) -> tuple[str | None, str | None]:
    if decided is not None:
        return decided.experiment, decided.arm
    return (by_hash.experiment, by_hash.arm) if by_hash is not None else (None, None)


def _key(experiment: Experiment, attempt: Countable) -> str:
    """Where the unit of an experiment is stored. Payments of a block of time are stored by order, added up by block."""
    return f"c:{attempt.customer_id}" if experiment.unit == "customer_id" else f"o:{attempt.order_id}"


def _exposure(experiment: Experiment, arm: str, attempt: Countable) -> Exposure:
    stratum = stratum_of(attempt.method, attempt.issuer, attempt.country, attempt.amount_minor)
    if experiment.unit == "time_block":
        stratum = unit_of(experiment, attempt, attempt.attempted_at) or stratum
    since = _ms(attempt.attempted_at)
    return Exposure(
        phase=experiment.phase,
        experiment=experiment.name,
        arm=arm,
        stratum=stratum,
        since_ms=since,
        matures_ms=since + round(experiment.maturity_minutes * 60_000),
    )


def _flagged(exposure: Exposure, *, unconfirmed: bool, disagreed: bool) -> Exposure:
    if not unconfirmed and not disagreed:
        return exposure
    return msgspec.structs.replace(exposure, unconfirmed=unconfirmed, disagreed=disagreed)


def _seen(attempt: Countable, decided: Decided | None, fee: Fee) -> AttemptSeen:
    advised = decided.gateway if decided is not None else None
    return AttemptSeen(
        order_id=attempt.order_id,
        number=attempt.attempt_number,
        status=attempt.status,
        attempted_ms=_ms(attempt.attempted_at),
        occurred_ms=_ms(attempt.occurred_at),
        amount_minor=attempt.amount_minor,
        cost_minor=fee(attempt.gateway, attempt.status, attempt.amount_minor),
        latency_ms=None if attempt.latency_ms is None else round(attempt.latency_ms),
        off_advice=advised is not None and advised != attempt.gateway,
    )


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
