"""What a payment is worth at a gateway, and what a policy makes of it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.routing.context import Outcome, Ranking, RoutingContext
from ml.routing.policies import AdaptivePolicy, PolicySettings, version_of
from ml.routing.worth import Fees, Worth, worth_at

SETTINGS = PolicySettings(exploration_floor=0.0, canary_share=0.0, draws=256)
PAYMENT = RoutingContext(method="card", issuer="harbour_bank", currency="INR", amount_minor=10_000)
NAMES = ("dear", "cheap")
FEES = {"dear": Fees(fixed_success=600, fixed_failure=0), "cheap": Fees(fixed_success=0, fixed_failure=10)}


def rank(margin_share: float | None, payment: RoutingContext = PAYMENT) -> Ranking:
    """The ranking of a policy that knows 93 % success of the dear gateway and 90 % of the cheap one."""
    settings = msgspec.structs.replace(SETTINGS, margin_share=margin_share)
    policy = AdaptivePolicy(settings, np.random.default_rng(1))
    for gateway, rate in (("dear", 0.93), ("cheap", 0.90)):
        policy.learn(
            Outcome(gateway=gateway, method="card", issuer="harbour_bank", at=0.0,
                    succeeded=20_000 * rate, failed=20_000 * (1 - rate)),
            0.0,
        )  # fmt: skip
    return policy.rank(payment, NAMES, 1.0, {}, FEES)


def test_success_alone_counts_without_a_margin() -> None:
    """Fees are not looked at, and no value is told."""
    ranking = rank(None)
    assert ranking.best == "dear"
    assert ranking.candidates[0].value is None
    assert ranking.runner_up == "cheap"
    assert ranking.runner_up_needs == pytest.approx(0.93, abs=0.005)


def test_fees_outweigh_a_little_success() -> None:
    """At a margin of 10 % of 100.00 the dear gateway's 6.00 cost more than its 3 points earn; the value is told."""
    ranking = rank(0.10)
    assert ranking.best == "cheap"
    values = {one.gateway: one.value for one in ranking.candidates}
    assert values["cheap"] == pytest.approx(0.90 * 1000 - 0.10 * 10, abs=5)
    assert values["dear"] == pytest.approx(0.93 * 400, abs=5)
    assert ranking.runner_up_needs is None  # 1,000 x 0.9 is beyond what 400 can earn
    assert "minor units" in ranking.candidates[0].reason


def test_a_high_margin_makes_success_count_again() -> None:
    """At a margin of 40 %, three points of success are worth more than the fee of a payment of 1,000.00."""
    ranking = rank(0.40, msgspec.structs.replace(PAYMENT, amount_minor=100_000))
    assert ranking.best == "dear"
    assert ranking.runner_up_needs == pytest.approx(0.93 * 39_400 / 40_000, abs=0.005)


def test_an_unknown_amount_is_ranked_by_success() -> None:
    """Without an amount nobody can say what a success earns."""
    assert rank(0.10, msgspec.structs.replace(PAYMENT, amount_minor=0)).best == "dear"


def test_a_gateway_that_always_loses_money_needs_more_than_certainty() -> None:
    """Where a success earns less than its fee, no success makes up for it: such payments are ranked by success, and
    never sent to whoever fails most."""
    assert Worth(-500.0, 0.0).needs(1.0) is None
    assert worth_at(["dear", "cheap"], 1_000, 0.10, FEES) is None
    ranking = rank(0.10, msgspec.structs.replace(PAYMENT, amount_minor=1_000))
    assert ranking.best == "dear"
    assert {one.value for one in ranking.candidates} == {None}


@given(st.floats(1, 1e6), st.floats(-1e4, 0), st.floats(0, 1))
def test_what_is_needed_is_worth_as_much(won: float, lost: float, success: float) -> None:
    """``needs`` undoes ``at``."""
    worth = Worth(won, lost)
    assert worth.needs(worth.at(success)) == pytest.approx(success, abs=1e-6)


def test_versions_tell_policies_and_parameters_apart() -> None:
    """The same settings have one version, others another."""
    versions = {version_of(name, each) for name in ("adaptive", "uniform") for each in (SETTINGS, PolicySettings())}
    assert len(versions) == 4
    assert version_of("adaptive", SETTINGS) == version_of("adaptive", msgspec.structs.replace(SETTINGS))
