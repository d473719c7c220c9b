"""Which arm a payment belongs to: a pure hash that any language can repeat, so that no answer waits for another worker.

A unit (an order, a customer or a block of time) falls into one of 10,000 buckets of its experiment; every arm owns a
range of them. Each experiment hashes with its own seed, each layer and the permanent control slice with theirs: no hash
ever decides two things, so that any two decisions are independent.

In this order: the permanent control slice keeps its units out of everything. Then experiments are asked as they stand
in the file, and the first that takes a unit keeps it: a unit is in at most one, because a payment is routed only once.
Experiments of one layer own disjoint slots of it, so that none ever touches the units of another. Raising the coverage
of an experiment adds units and moves nobody between its arms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Final, NamedTuple, Protocol

import msgspec

from ml.experiments.design import CONTROL, HOLDOUT, OPTIMISED, Experiment, Holdout, Layer

BUCKETS: Final = 10_000
"""How finely an experiment can split its units: one bucket is 0.01 %."""

_FNV_START: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193
_MASK_32: Final = 0xFFFFFFFF


class Assignment(msgspec.Struct, frozen=True):
    """The arm of one unit in one experiment; ``bucket`` (0..9999) is the unit's place in it."""

    experiment: str
    arm: str
    policy: str
    bucket: int


class _ArmRange(NamedTuple):
    low: int
    high: int
    arm: str
    policy: str


class _Plan(NamedTuple):
    """An enabled experiment, made ready for asking often."""

    experiment: Experiment
    seed_state: int
    layer_state: int | None
    layer_low: int
    layer_high: int
    methods: frozenset[str]
    countries: frozenset[str]
    issuers: frozenset[str]
    currencies: frozenset[str]
    ranges: tuple[_ArmRange, ...]


class Assignable(Protocol):
    """What the assignment to an arm needs to know of a payment."""

    @property
    def order_id(self) -> str: ...  # noqa: D102
    @property
    def customer_id(self) -> str | None: ...  # noqa: D102
    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def country(self) -> str | None: ...  # noqa: D102
    @property
    def issuer(self) -> str: ...  # noqa: D102
    @property
    def currency(self) -> str: ...  # noqa: D102
    @property
    def amount_minor(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Allocation:
    """The experiments in force, and the policy of all payments that take part in none.

    Args:
        version: names this set of experiments.
        experiments: in the order in which they are asked.
        default_policy: for units without an assignment.
        layers: that the experiments name; the name of a layer that is missing here serves as its seed.
        holdout: the permanent control slice; None: there is none.
    """

    version: str
    experiments: tuple[Experiment, ...]
    default_policy: str
    layers: tuple[Layer, ...] = ()
    holdout: Holdout | None = None
    _plans: tuple[_Plan, ...] = field(init=False, repr=False, compare=False)
    _holdout_state: int = field(init=False, repr=False, compare=False)
    _holdout_edge: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        seeds = {layer.name: layer.seed for layer in self.layers}
        plans = tuple(_plan(experiment, seeds) for experiment in self.experiments if experiment.enabled)
        held = self.holdout
        object.__setattr__(self, "_plans", plans)
        object.__setattr__(self, "_holdout_state", _fnv1a(_FNV_START, held.seed) if held else 0)
        object.__setattr__(self, "_holdout_edge", round(_exact(held.share) * BUCKETS) if held else 0)


def assign(allocation: Allocation, payment: Assignable, at: datetime) -> Assignment | None:
    """Find the arm of one payment.

    Args:
        allocation: the experiments in force.
        payment: all attempts of an order carry its ``order_id``, so that all of them are in one arm. An experiment by
            customer, and one that is limited to some countries, pass a payment over where these are not known.
        at: when the payment is routed; decides the block of time of experiments that switch back and forth.
    Returns: the permanent control slice, or the arm in the first enabled experiment that takes the payment, or None: it
        is in no experiment.
    """
    if (held := held_out(allocation, payment)) is not None and held.arm == CONTROL:
        return held
    for plan in allocation._plans:
        unit = unit_of(plan.experiment, payment, at)
        if unit is None or not _takes(plan, payment):
            continue
        bucket = _bucket(plan.seed_state, unit)
        for low, high, arm, policy in plan.ranges:
            if low <= bucket < high:
                return Assignment(plan.experiment.name, arm, policy, bucket)
    return None


def held_out(allocation: Allocation, payment: Assignable) -> Assignment | None:
    """On which side of the permanent control slice a payment is; None: there is none, or its unit is not known."""
    held = allocation.holdout
    if held is None:
        return None
    unit = payment.order_id if held.unit == "order_id" else payment.customer_id
    if unit is None:
        return None
    bucket = _bucket(allocation._holdout_state, unit)
    if bucket < allocation._holdout_edge:
        return Assignment(HOLDOUT, CONTROL, held.policy, bucket)
    return Assignment(HOLDOUT, OPTIMISED, allocation.default_policy, bucket)


def unit_of(experiment: Experiment, payment: Assignable, at: datetime) -> str | None:
    """What is randomised: an id, or the block of time; None: it is not known of this payment."""
    if experiment.unit == "order_id":
        return payment.order_id
    if experiment.unit == "customer_id":
        return payment.customer_id
    return f"block:{int(at.timestamp()) // (60 * experiment.block_minutes)}"


def in_burn_in(experiment: Experiment, at: datetime) -> bool:
    """Whether a moment lies so near to a switch that what happens still belongs to the arm before it."""
    if experiment.unit != "time_block":
        return False
    return at.timestamp() % (60 * experiment.block_minutes) < 60 * experiment.burn_in_minutes


def bucket_of(seed: str, unit: str) -> int:
    """Place a unit in one of the 10,000 buckets of a seed.

    Args:
        seed: of the experiment; other seeds give independent places.
        unit: an order id or a customer id.
    Returns: 0..9999.
    Source: GrowthBook's hash version 2: the 32-bit FNV-1a of the decimal digits of the 32-bit FNV-1a of seed + unit,
        modulo 10,000. Checked against its published cases. Text outside ASCII is hashed as UTF-8.

    >>> bucket_of("foo", "ab")
    2575
    """
    return _bucket(_fnv1a(_FNV_START, seed), unit)


def arm_ranges(experiment: Experiment) -> tuple[tuple[int, int], ...]:
    """The buckets that each arm owns, as [low, high), in the order of the arms.

    An arm has a place for its whole weight and fills it from the bottom up to the coverage, so that raising the
    coverage adds units and moves none. Weights count as they are written in decimal: 0.1 is a tenth exactly.

    >>> from ml.experiments.design import Arm, Experiment
    >>> halves = [Arm(name="a", policy="p", weight=0.5), Arm(name="b", policy="q", weight=0.5)]
    >>> arm_ranges(Experiment(name="e", seed="s", arms=halves, coverage=0.2))
    ((0, 1000), (5000, 6000))
    """
    coverage = _exact(experiment.coverage)
    ranges = []
    weight_below = Fraction(0)
    for arm in experiment.arms:
        low = round(weight_below * BUCKETS)
        weight_below += _exact(arm.weight)
        width = round(weight_below * BUCKETS) - low
        ranges.append((low, low + round(width * coverage)))
    return tuple(ranges)


def _plan(experiment: Experiment, layer_seeds: dict[str, str]) -> _Plan:
    ranges = zip(arm_ranges(experiment), experiment.arms, strict=True)
    seed = None if experiment.layer is None else layer_seeds.get(experiment.layer, experiment.layer)
    low, high = (round(_exact(edge) * BUCKETS) for edge in experiment.slot)
    return _Plan(
        experiment=experiment,
        seed_state=_fnv1a(_FNV_START, experiment.seed),
        layer_state=None if seed is None else _fnv1a(_FNV_START, seed),
        layer_low=low,
        layer_high=high,
        methods=frozenset(experiment.methods),
        countries=frozenset(experiment.countries),
        issuers=frozenset(experiment.issuers),
        currencies=frozenset(experiment.currencies),
        ranges=tuple(_ArmRange(low, high, arm.name, arm.policy) for (low, high), arm in ranges),
    )


def _takes(plan: _Plan, payment: Assignable) -> bool:
    """Whether a payment is eligible, and its unit in the experiment's slot of its layer."""
    experiment = plan.experiment
    if plan.methods and payment.method not in plan.methods:
        return False
    if plan.countries and payment.country not in plan.countries:
        return False
    if plan.issuers and payment.issuer not in plan.issuers:
        return False
    if plan.currencies and payment.currency not in plan.currencies:
        return False
    if experiment.amount_minor_min is not None and payment.amount_minor < experiment.amount_minor_min:
        return False
    if experiment.amount_minor_max is not None and payment.amount_minor > experiment.amount_minor_max:
        return False
    if plan.layer_state is None:
        return True
    unit = payment.customer_id if experiment.unit == "customer_id" else payment.order_id
    return unit is not None and plan.layer_low <= _bucket(plan.layer_state, unit) < plan.layer_high


def _exact(written: float) -> Fraction:
    """The decimal number that was written, not its nearest binary neighbour."""
    return Fraction(repr(float(written)))


def _bucket(seed_state: int, unit: str) -> int:
    return _fnv1a(_FNV_START, str(_fnv1a(seed_state, unit))) % BUCKETS


def _fnv1a(state: int, text: str) -> int:
    """Continue a 32-bit FNV-1a hash over a text: 70 ns a byte, nearly all that an assignment costs."""
    for byte in text.encode():
        state = (state ^ byte) * _FNV_PRIME & _MASK_32
    return state
