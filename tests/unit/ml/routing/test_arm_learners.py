"""Learners by arm: one arm does not learn from another, keeps what it knows while it stays the same, and has its own
parameters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from ml.experiments.assignment import Allocation
from ml.experiments.design import Arm, Experiment, Holdout
from ml.routing.context import Outcome, RoutingContext
from ml.routing.learners import DEFAULT, ArmLearners
from ml.routing.policies import Policy, PolicySettings, settings_of_arm

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
GATEWAYS = ("alpha", "bravo", "charlie")
UPI = RoutingContext(method="upi", issuer="harbour_bank", currency="INR", amount_minor=10_000)
LEARNER = Arm(name="learner", policy="adaptive", weight=0.5)
CONTROL = Arm(name="control", policy="adaptive", weight=0.5)


def learners() -> ArmLearners:
    """Learners of a router that explores hardly at all."""
    settings = PolicySettings(
        memory_half_life_s=3600.0, exploration_floor=0.0, canary_share=0.0, draws=256, cells_max=1000
    )
    return ArmLearners(settings, default_policy="adaptive", generator=np.random.default_rng(1))


def allocation(*arms: Arm, version: str = "v1", **other: Any) -> Allocation:
    """One experiment with these arms."""
    experiment = Experiment(name="e", seed="s", arms=list(arms))
    return Allocation(version, (experiment,), "adaptive", **other)


def learner_of(made: ArmLearners, arm: str, experiment: str = "e") -> Policy:
    """The learner of an arm."""
    return made.learner((experiment, arm))


def first_shares(policy: Policy) -> dict[str, float]:
    """How often each gateway would be put first."""
    return {one.gateway: one.propensity for one in policy.rank(UPI, GATEWAYS, NOW).candidates}


def teach(policy: Policy, gateway: str, succeeded: int, failed: int) -> None:
    """Let a learner see payments."""
    policy.learn(
        Outcome(gateway=gateway, method="upi", issuer="harbour_bank", at=NOW, succeeded=succeeded, failed=failed), NOW
    )


def test_one_arm_does_not_learn_from_another() -> None:
    """What an arm found out moves its own choices only."""
    made = learners()
    made.put_in_force(allocation(LEARNER, CONTROL), NOW)
    for gateway in GATEWAYS:
        teach(learner_of(made, "learner"), gateway, *((95, 5) if gateway == "bravo" else (30, 70)))
    assert first_shares(learner_of(made, "learner"))["bravo"] > 0.95
    assert first_shares(learner_of(made, "control"))["bravo"] < 0.6
    assert first_shares(made.learner(DEFAULT))["bravo"] < 0.6


def test_an_arm_that_stays_the_same_keeps_what_it_knows() -> None:
    """A new allocation with another experiment, or another coverage, makes nobody forget; other parameters do."""
    made = learners()
    made.put_in_force(allocation(LEARNER, CONTROL), NOW)
    before = {name: learner_of(made, name) for name in ("learner", "control")}
    other = msgspec.structs.replace(LEARNER, parameters={"exploration_floor": 0.3})
    changed = Experiment(name="e", seed="s", arms=[other, CONTROL], coverage=0.5)
    beside = Experiment(name="f", seed="t", arms=[LEARNER, CONTROL])
    made.put_in_force(Allocation("v2", (changed, beside), "adaptive"), NOW)
    assert learner_of(made, "control") is before["control"]
    assert learner_of(made, "learner") is not before["learner"]


def test_arms_have_parameters_of_their_own() -> None:
    """Exploring 60 % evenly gives every gateway its fifth; a fixed order puts its first eligible gateway first."""
    bold = Arm(name="bold", policy="adaptive", weight=0.4, parameters={"exploration_floor": 0.6})
    fixed = Arm(name="fixed", policy="fixed_order", weight=0.3, parameters={"order": ["delta", "charlie", "alpha"]})
    made = learners()
    made.put_in_force(allocation(bold, fixed, Arm(name="control", policy="adaptive", weight=0.3)), NOW)
    for name in ("bold", "control"):
        for gateway in GATEWAYS:
            teach(learner_of(made, name), gateway, *((95, 5) if gateway == "bravo" else (5, 95)))
    shares = first_shares(learner_of(made, "bold"))
    assert shares["alpha"] == pytest.approx(0.2, abs=0.02)
    assert first_shares(learner_of(made, "control"))["alpha"] < 0.05
    ranking = learner_of(made, "fixed").rank(UPI, GATEWAYS, NOW)
    assert (ranking.candidates[0].gateway, ranking.candidates[0].propensity) == ("charlie", 1.0)


def test_parameters_that_nobody_checked_do_not_end_a_router() -> None:
    """A sender of its own may write nonsense; the router's own settings stand in."""
    wild = Arm(name="wild", policy="adaptive", weight=0.5, parameters={"memory_half_life_s": -1.0})
    made = learners()
    made.put_in_force(allocation(wild, CONTROL), NOW)
    assert learner_of(made, "wild").name == "adaptive"


def test_permanent_control_slice_has_its_own_policy() -> None:
    """Its learner is made from the allocation, as those of arms are."""
    made = learners()
    held = Holdout(seed="held", share=0.1, policy="uniform")
    made.put_in_force(allocation(LEARNER, CONTROL, holdout=held), NOW)
    assert learner_of(made, "control", experiment="holdout").name == "uniform"


def test_what_is_defined_by_its_floor_gets_it_whole() -> None:
    """Unless it also says what the floor may cost; everything else is the router's."""
    router = PolicySettings(boldness=0.5, exploration_cost_max=0.002)
    assert settings_of_arm(router, {}) == router
    floored = settings_of_arm(router, {"exploration_floor": 0.1})
    assert (floored.exploration_floor, floored.exploration_cost_max, floored.boldness) == (0.1, 1.0, 0.5)
    priced = settings_of_arm(router, {"exploration_floor": 0.1, "exploration_cost_max": 0.01})
    assert priced.exploration_cost_max == 0.01
