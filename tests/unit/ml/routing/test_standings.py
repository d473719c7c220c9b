"""How gateways stand is found out once for payments alike that come in a burst, and never outlives what is learned."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from ml.routing import standings
from ml.routing.context import Outcome, Ranking, RoutingContext
from ml.routing.policies import AdaptivePolicy, PolicySettings
from ml.routing.standings import TRIAL_NOTED
from ml.routing.worth import Fees

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


CASES: dict[str, tuple[RoutingContext, dict[str, Any]]] = {
    "another issuer": (RoutingContext(method="card", issuer="lotus_bank"), {}),
    "another network": (RoutingContext(method="card", issuer="harbour_bank", network="visa"), {}),
    "a retry": (RoutingContext(method="card", issuer="harbour_bank", previous_failures=("alpha",)), {}),
    "an open anomaly": (CARD, {"unwell": {"alpha": "time-outs"}}),
    "an amount": (
        RoutingContext(method="card", issuer="harbour_bank", amount_minor=1_000),
        {"fees": {"alpha": Fees(fixed_success=80), "bravo": Fees(fixed_success=1)}},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_differs_is_never_answered_from_what_is_kept(case: str) -> None:
    """After a burst of other payments, the shares are those of a policy that had none."""
    context, circumstances = CASES[case]
    margin = 0.1 if case == "an amount" else None
    rates = [{"alpha": 0.96, "bravo": 0.88, "charlie": 0.7}] + 2 * [{"alpha": 0.5, "bravo": 0.93, "charlie": 0.7}]

    def made() -> AdaptivePolicy:
        fresh = AdaptivePolicy(PolicySettings(margin_share=margin), np.random.default_rng(3))
        luck = np.random.default_rng(4)
        for _ in range(5_000):
            kind = int(luck.choice(3, p=(0.6, 0.2, 0.2)))
            gateway = GATEWAYS[int(luck.integers(3))]
            won = float(luck.random() < rates[kind][gateway])
            fresh.learn(
                Outcome(
                    gateway=gateway,
                    method="card",
                    issuer="lotus_bank" if kind == 1 else "harbour_bank",
                    network="visa" if kind == 2 else None,
                    at=0.0,
                    succeeded=won,
                    failed=1.0 - won,
                ),
                0.0,
            )
        return fresh

    burst = made()
    for _ in range(20):
        burst.rank(CARD, GATEWAYS, 60.0)
    usual = propensities(burst.rank(CARD, GATEWAYS, 60.0))
    expected = propensities(made().rank(context, GATEWAYS, 60.0, **circumstances))
    stated = propensities(burst.rank(context, GATEWAYS, 60.0, **circumstances))
    assert stated == pytest.approx(expected, abs=0.01)
    assert max(abs(stated[gateway] - usual[gateway]) for gateway in GATEWAYS) > 0.05


def test_what_was_found_out_later_is_not_used_earlier() -> None:
    """A clock that goes back finds everything out anew."""
    kept = standings.Standings()
    for _ in range(2):
        kept.get("card", 1, 100.0)
    kept.put("card", object())  # type: ignore[arg-type]
    assert kept.get("card", 1, 100.1) is not None
    assert kept.get("card", 1, 99.0) is None


def test_a_trial_that_went_elsewhere_is_news() -> None:
    """When pace or a floor moves a payment, how gateways stand is found out anew."""
    made = policy()
    made.rank(CARD, GATEWAYS, 60.0)
    before = made._estimates.learned
    made.moved(CARD, "bravo", 60.0)
    assert made._estimates.learned > before
