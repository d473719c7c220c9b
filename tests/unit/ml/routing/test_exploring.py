"""Trials: how often a gateway is tried that may have changed."""

import numpy as np
import pytest

from ml.routing.belief import Belief
from ml.routing.context import Outcome, RoutingContext
from ml.routing.estimates import Estimates
from ml.routing.exploring import TRIALS_MAX, trial_shares
from ml.routing.node import logit
from ml.routing.policies import AdaptivePolicy, PolicySettings

DAY_S = 86_400.0


def believed(mean: float, **seen: float) -> Belief:
    """A gateway that is thought to succeed so often."""
    belief = Belief(logit(mean), 0.1, 100.0, 2.0, mean)
    for name, value in seen.items():
        setattr(belief, name, value)
    return belief


def weak(**seen: float) -> float:
    """Share of trials of a gateway thought far below the best one."""
    return trial_shares([believed(0.94), believed(0.7, **seen)])[1]


def test_the_best_gateway_needs_no_trial() -> None:
    """What is chosen anyway is looked at anyway."""
    assert trial_shares([believed(0.94), believed(0.7)])[0] == 0.0


def test_a_gateway_long_unseen_is_tried_more() -> None:
    """The longer ago, the likelier a change."""
    assert 0 < weak(unseen_s=600) < weak(unseen_s=6_000)


def test_payments_that_go_too_well_bring_trials_by_how_likely_a_rise_is() -> None:
    """Ten of ten and evidence of 4 in an hour: far more trials than without, by the odds of a change in that time."""
    well = {"unseen_s": 60.0, "rising": 4.0, "risen": 11 / 12, "risen_payments": 10.0}
    once = weak(**well)
    for_an_hour = weak(**well, rising_s=3_600.0)
    assert once > 3 * weak(unseen_s=60.0)
    assert for_an_hour > 5 * once
    assert weak(**well, rising_s=1e9) == pytest.approx(TRIALS_MAX, abs=0.1)


def test_a_rise_that_stays_below_the_best_brings_few_trials() -> None:
    """Eighty of a hundred is surely more than .7, and surely not .94."""
    below = weak(unseen_s=60.0, rising=6.0, rising_s=3_600.0, risen=0.8, risen_payments=100.0)
    above = weak(unseen_s=60.0, rising=6.0, rising_s=3_600.0, risen=0.96, risen_payments=100.0)
    assert below < 0.001
    assert above > 0.05


def test_one_that_fell_is_expected_back() -> None:
    """The same payments say more of a gateway that was good before it fell."""
    well = {"unseen_s": 60.0, "rising": 2.0, "rising_s": 600.0, "risen": 0.9, "risen_payments": 5.0}
    fallen = believed(0.7, **well)
    fallen.base = 0.96
    assert trial_shares([believed(0.94), fallen])[1] > 5 * weak(**well)


def test_while_outcomes_are_awaited_a_rise_does_not_pile_up_trials() -> None:
    """The time a rise has lasted counts once everything that was sent to the gateway has been answered."""
    estimates, now = Estimates(half_life_s=4 * DAY_S, cells_max=100), 0.0
    for step in range(300):
        now = step * 60.0
        estimates.learn(Outcome(gateway="a", method="card", issuer="x", at=now, succeeded=0.6, failed=0.4), now)
    for _ in range(5):
        now += 60.0
        estimates.learn(Outcome(gateway="a", method="card", issuer="x", at=now, succeeded=1.0, failed=0.0), now)
    (answered,) = estimates.beliefs("card", "x", ("a",), now)
    estimates.note_probe("card", "x", "a", now + 1)
    (awaited,) = estimates.beliefs("card", "x", ("a",), now + 1)
    assert answered.rising > 1
    assert answered.rising_s >= 240
    assert awaited.rising == pytest.approx(answered.rising)
    assert awaited.rising_s == 0.0


def test_a_weak_gateway_that_becomes_the_best_is_found_within_hours() -> None:
    """One starts at .69 and does .97 after half a day, the others .94 and .90; nothing else tells of it."""
    found = []
    for seed in range(4):
        policy = AdaptivePolicy(PolicySettings(), np.random.default_rng([seed, 2]))
        luck, context, names = np.random.default_rng([seed, 1]), RoutingContext(method="card", issuer="x"), tuple("abc")
        chosen = []
        for step in range(12_000):  # one payment in eleven seconds
            now = step * 10.8
            rates = (0.94, 0.90, 0.69 if now < DAY_S / 2 else 0.97)
            gateway = policy.rank(context, names, now).candidates[0].gateway
            good = float(luck.random() < rates[names.index(gateway)])
            policy.learn(
                Outcome(gateway=gateway, method="card", issuer="x", at=now, succeeded=good, failed=1 - good), now
            )
            chosen.append(gateway == "c")
        found.append(float(np.mean(chosen[-1_000:])))
    assert np.mean(found) > 0.8, found
