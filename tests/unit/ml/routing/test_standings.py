"""How gateways stand is found out once for payments alike that come in a burst, and never outlives what is learned."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ml.routing import standings
from ml.routing.context import Outcome, Ranking, RoutingContext
from ml.routing.policies import AdaptivePolicy, PolicySettings
from ml.routing.standings import TRIAL_NOTED

GATEWAYS = ("alpha", "bravo", "charlie")
CARD = RoutingContext(method="card", issuer="harbour_bank")


def policy(bravo: float = 445.0, seed: int = 3) -> AdaptivePolicy:
    """One that knows alpha to be good (450 of 500), bravo to be so good, and charlie to be bad (350)."""
    made = AdaptivePolicy(PolicySettings(), np.random.default_rng(seed))
    for _ in range(10):
        for gateway, good in (("alpha", 450.0), ("bravo", bravo), ("charlie", 350.0)):
            made.learn(outcome(gateway, good, 500.0 - good), 0.0)
    return made


def outcome(gateway: str, succeeded: float, failed: float, at: float = 0.0) -> Outcome:
    """Some payments by card of one issuer."""
    return Outcome(gateway=gateway, method="card", issuer="harbour_bank", at=at, succeeded=succeeded, failed=failed)


def propensities(ranked: Ranking) -> dict[str, float]:
    """Probability of each to be first."""
    return {each.gateway: each.propensity for each in ranked.candidates}


def test_a_burst_is_ranked_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked up is what would have been found out, but for trials too small to be noted at once."""
    together = policy()
    burst = [propensities(together.rank(CARD, GATEWAYS, 60.0)) for _ in range(300)]
    monkeypatch.setattr(standings, "STANDING_S", 0.0)
    alone = policy()
    for stated in burst:
        found_out = propensities(alone.rank(CARD, GATEWAYS, 60.0))
        assert stated == pytest.approx(found_out, abs=TRIAL_NOTED)


def test_the_first_is_drawn_from_the_stated_propensities() -> None:
    """Also of standings that are used often."""
    made = policy()
    drawn: Counter[str] = Counter()
    stated: Counter[str] = Counter()
    for _ in range(4_000):
        ranked = made.rank(CARD, GATEWAYS, 60.0)
        drawn[ranked.candidates[0].gateway] += 1
        stated.update(propensities(ranked))
    for gateway in GATEWAYS:
        expected = stated[gateway]
        assert abs(drawn[gateway] - expected) < 4 * np.sqrt(expected)


def test_an_outcome_is_heeded_by_the_very_next_payment() -> None:
    """However soon it comes."""
    made = policy()
    before = propensities(made.rank(CARD, GATEWAYS, 60.0))
    made.learn(outcome("alpha", 0.0, 30.0, at=60.0), 60.0)
    after = propensities(made.rank(CARD, GATEWAYS, 60.0))
    assert before["alpha"] > 0.5 > after["alpha"]


def test_what_is_forgotten_is_heeded_by_the_very_next_payment() -> None:
    """However soon it comes."""
    made = policy(bravo=400.0)
    made.learn(outcome("alpha", 0.0, 30.0, at=60.0), 60.0)
    before = propensities(made.rank(CARD, GATEWAYS, 60.0))
    made.forget("alpha", None, None, since=61.0)
    assert propensities(made.rank(CARD, GATEWAYS, 60.0))["alpha"] > 0.5 > before["alpha"]


def test_a_trial_is_not_made_again_and_again_in_a_burst() -> None:
    """A gateway that may be back is looked at, and then the next trial waits."""
    made = policy(bravo=400.0)
    made.learn(outcome("alpha", 0.0, 40.0, at=60.0), 60.0)  # alpha fell and may be back some hours later
    later = 60.0 + 2 * 3600
    made.learn(outcome("bravo", 40.0, 10.0, at=later), later)
    firsts = [made.rank(CARD, GATEWAYS, later) for _ in range(1_000)]
    share = propensities(firsts[0])["alpha"]
    tried = sum(each.candidates[0].gateway == "alpha" for each in firsts)
    assert share > 0.02
    assert 1 <= tried < 0.5 * share * len(firsts)


def test_how_gateways_stand_does_not_outlive_its_moment() -> None:
    """Time alone makes a trial due."""
    made = policy(bravo=400.0)
    made.learn(outcome("alpha", 0.0, 40.0, at=60.0), 60.0)
    soon = propensities(made.rank(CARD, GATEWAYS, 61.0))
    later = propensities(made.rank(CARD, GATEWAYS, 61.0 + 3600))
    assert later["alpha"] > soon["alpha"]


def test_payments_of_another_kind_do_not_stand_alike() -> None:
    """Method, shifts and who may take it tell them apart."""
    made = policy()
    made.learn(Outcome(gateway="bravo", method="upi", issuer="harbour_bank", at=60.0, succeeded=990, failed=10), 60.0)
    shifted = RoutingContext(method="card", issuer="harbour_bank", shifts={"charlie": 3.0})
    card = propensities(made.rank(CARD, GATEWAYS, 60.0))
    assert propensities(made.rank(RoutingContext(method="upi", issuer="harbour_bank"), GATEWAYS, 60.0)) != card
    assert propensities(made.rank(shifted, GATEWAYS, 60.0))["charlie"] > card["charlie"]
    assert set(propensities(made.rank(CARD, GATEWAYS[:2], 60.0))) == set(GATEWAYS[:2])


def test_only_so_many_kinds_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every list has a bound."""
    monkeypatch.setattr(standings, "KINDS_MAX", 10)
    kept = standings.Standings()
    for kind in range(25):
        assert kept.get(kind, 1, 0.0) is None
        kept.put(kind, object())  # type: ignore[arg-type]
        assert len(kept._kept) <= 10
    assert kept.get(24, 1, 0.0) is not None
    assert kept.get(24, 2, 0.0) is None
