"""What an experiment is: who takes part, how the units are split over its arms, and how it is judged and acted upon."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ml.experiments.metrics import MetricName

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,59}$")]
Seed = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[ -~]+$")]
"""Printable ASCII, because languages disagree about how to hash other text."""

Share = Annotated[float, Meta(gt=0, le=1)]
Edge = Annotated[float, Meta(ge=0, le=1)]
AmountMinor = Annotated[int, Meta(ge=0, le=10**15)]
Word = Annotated[str, Meta(min_length=1, max_length=60)]

CONTROL: Final = "control"
"""An arm of this name is what the others are compared with; without one, it is the last arm."""

HOLDOUT: Final = "holdout"
"""The name under which the permanent control slice is counted and reported."""

OPTIMISED: Final = "optimised"
"""The arm of all that is not in the permanent control slice."""


class Arm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One side of an experiment: a routing policy, with its parameters and its share of the experiment's traffic."""

    name: Name
    policy: Name
    weight: Share
    parameters: Annotated[dict[str, int | float | list[str]], Meta(max_length=20)] = {}


class RampStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A share of the eligible units that takes part, until so many hours have passed and so many orders were seen."""

    coverage: Share
    hours: Annotated[float, Meta(ge=0, le=8760)]
    orders: Annotated[int, Meta(ge=0)] = 0


class Guardrail(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A metric that must not get worse by more than a margin, in the metric's own unit (0.005: half a point)."""

    metric: MetricName
    margin: Annotated[float, Meta(ge=0)]


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An A/B test of routing policies. What each field means stands in ``config/experiments.yaml``."""

    name: Name
    seed: Seed
    arms: Annotated[list[Arm], Meta(min_length=2, max_length=10)]
    hypothesis: Annotated[str, Meta(max_length=1000)] = ""
    enabled: bool = True
    unit: Literal["order_id", "customer_id", "time_block"] = "order_id"
    block_minutes: Annotated[int, Meta(ge=1, le=1440)] = 60
    burn_in_minutes: Annotated[int, Meta(ge=0, le=720)] = 5
    layer: Name | None = None
    slot: tuple[Edge, Edge] = (0.0, 1.0)
    coverage: Share = 1.0
    ramp: Annotated[list[RampStep], Meta(max_length=20)] = []
    start: Annotated[datetime, Meta(tz=True)] | None = None
    stop: Annotated[datetime, Meta(tz=True)] | None = None
    methods: Annotated[list[Word], Meta(max_length=50)] = []
    countries: Annotated[list[Annotated[str, Meta(pattern=r"^[A-Z]{2}$")]], Meta(max_length=250)] = []
    issuers: Annotated[list[Word], Meta(max_length=500)] = []
    currencies: Annotated[list[Annotated[str, Meta(pattern=r"^[A-Z]{3}$")]], Meta(max_length=50)] = []
    amount_minor_min: AmountMinor | None = None
    amount_minor_max: AmountMinor | None = None
    primary: MetricName = "authorization_rate"
    goals: Annotated[list[MetricName], Meta(max_length=5)] = []
    guardrails: Annotated[list[Guardrail], Meta(max_length=5)] = []
    watched: Annotated[list[Literal["method", "issuer", "country", "amount"]], Meta(max_length=4)] = msgspec.field(
        default_factory=lambda: ["method"]
    )
    watched_margin: Annotated[float, Meta(ge=0)] | None = None
    smallest_effect: Annotated[float, Meta(gt=0)] = 0.005
    alpha: Annotated[float, Meta(gt=0, lt=0.5)] | None = None
    orders_expected: Annotated[int, Meta(ge=100)] | None = None
    min_days: Annotated[float, Meta(ge=0, le=365)] = 7.0
    maturity_minutes: Annotated[float, Meta(ge=0, le=43_200)] = 30.0
    on_harm: Literal["report", "stop"] = "report"

    @property
    def phase(self) -> str:
        """Names what decides who is in which arm and what the arms do: counts of one phase belong together.

        Hypothesis, metrics, guardrails, coverage, ramp and times are no part of it, so changing them restarts nothing.
        Neither are other experiments. Coverage and slot add or remove units of all arms alike and move none.
        """
        decides = (
            self.name, self.seed, self.unit, self.arms, self.methods, self.countries, self.issuers, self.currencies,
            self.amount_minor_min, self.amount_minor_max,
            (self.block_minutes, self.burn_in_minutes) if self.unit == "time_block" else None,
        )  # fmt: skip
        digest = hashlib.sha256(msgspec.json.encode(decides, order="deterministic")).hexdigest()
        return f"{self.name}:{digest[:10]}"

    @property
    def control(self) -> Arm:
        """The arm that the others are compared with: the one named "control", else the last of the file."""
        return next((arm for arm in self.arms if arm.name == CONTROL), self.arms[-1])


class Layer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way to divide units among experiments that exclude each other: each owns a slot of the layer."""

    name: Name
    seed: Seed


class Holdout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A permanent slice of the units that no experiment and no optimisation touches, to prove what these earn.

    With ``on_harm`` "retreat" all payments that are in no experiment get its policy, from the moment on when the rest
    does surely worse than the slice, until somebody resumes "holdout".
    """

    seed: Seed
    share: Annotated[float, Meta(gt=0, le=0.5)]
    policy: Name
    unit: Literal["order_id", "customer_id"] = "order_id"
    smallest_effect: Annotated[float, Meta(gt=0)] = 0.005
    maturity_minutes: Annotated[float, Meta(ge=0, le=43_200)] = 30.0
    on_harm: Literal["report", "retreat"] = "report"

    def as_experiment(self, default_policy: str) -> Experiment:
        """What is counted and judged: all the rest against the slice."""
        return Experiment(
            name=HOLDOUT,
            seed=self.seed,
            hypothesis="What experiments and learning earn together, against a slice that has neither.",
            unit=self.unit,
            arms=[
                Arm(name=OPTIMISED, policy=default_policy, weight=1 - self.share),
                Arm(name=CONTROL, policy=self.policy, weight=self.share),
            ],
            primary="order_success_rate",
            smallest_effect=self.smallest_effect,
            maturity_minutes=self.maturity_minutes,
            on_harm="stop" if self.on_harm == "retreat" else "report",
        )
