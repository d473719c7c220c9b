"""What is believed of the gateways: forgetting, corrections, pooling, changes, bounds."""

from __future__ import annotations

import numpy as np
import pytest

from ml.routing.context import Outcome
from ml.routing.estimates import Estimates
from ml.routing.node import surprises

HOUR = 3600.0


def outcome(  # an outcome has so many sides
    gateway: str = "a", issuer: str = "harbour_bank", *, at: float, succeeded: float = 0, failed: float = 0,
    method: str = "card",
) -> Outcome:  # fmt: skip
    """Payments of one gateway and issuer, by card if nothing else is said."""
    return Outcome(gateway=gateway, method=method, issuer=issuer, at=at, succeeded=succeeded, failed=failed)


def estimates(half_life_s: float = HOUR, cells_max: int = 1000, *, alert: bool = False) -> Estimates:
    """Estimates with a half-life of an hour."""
    return Estimates(half_life_s=half_life_s, cells_max=cells_max, alert=alert)


def own(held: Estimates, now: float, gateway: str = "a", issuer: str = "harbour_bank") -> float:
    """Payments of its own that a cell knows."""
    return held.beliefs("card", issuer, (gateway,), now)[0].own


def mean(held: Estimates, now: float, gateway: str = "a", issuer: str = "harbour_bank") -> float:
    """Expected success of a cell."""
    return held.beliefs("card", issuer, (gateway,), now)[0].mean


@pytest.mark.parametrize("payments", [1, 10, 1000])
def test_forgets_with_time_not_with_count(payments: int) -> None:
    """After one half-life half of the evidence is left, however many payments there were."""
    held = estimates()
    for _ in range(payments):
        held.learn(outcome(at=0, succeeded=1), 0)
    assert own(held, 0) == pytest.approx(payments)
    assert own(held, HOUR) == pytest.approx(payments / 2)
    assert own(held, 10 * HOUR) == pytest.approx(payments / 1024)


def test_late_outcome_weighs_by_the_time_of_its_payment() -> None:
    """An outcome that comes two half-lives late weighs a quarter, as it would have, had it come in time."""
    held = estimates()
    held.learn(outcome(at=2 * HOUR, succeeded=1), 2 * HOUR)
    held.learn(outcome("b", at=0, succeeded=1), 2 * HOUR)
    assert own(held, 2 * HOUR, "b") == pytest.approx(0.25)


def test_outcome_from_the_future_weighs_like_now() -> None:
    """A checkout whose clock is ahead gets no more weight than others."""
    held = estimates()
    held.learn(outcome(at=5 * HOUR, succeeded=1), 0)
    assert own(held, 0) == pytest.approx(1)


def test_correction_takes_back_exactly_what_was_counted() -> None:
    """A failure that turns out a success leaves the same belief as if it had been known at once."""
    corrected, known = estimates(), estimates()
    for held in (corrected, known):
        for _ in range(20):
            held.learn(outcome(at=0, succeeded=1), 0)
    corrected.learn(outcome(at=0, failed=1), 0)
    corrected.learn(outcome(at=0, succeeded=1, failed=-1), 3 * HOUR)
    known.learn(outcome(at=0, succeeded=1), 3 * HOUR)
    one, other = (held.beliefs("card", "harbour_bank", ("a",), 3 * HOUR)[0] for held in (corrected, known))
    assert (one.mean, one.own) == pytest.approx((other.mean, other.own), rel=0.01)


def test_weights_survive_a_very_long_time() -> None:
    """Ten thousand half-lives neither overflow nor keep what is long forgotten."""
    held = estimates()
    held.learn(outcome(at=0, failed=1000), 0)
    for step in range(1, 101):
        held.learn(outcome(at=step * 100 * HOUR, succeeded=1), step * 100 * HOUR)
    assert own(held, 10_000 * HOUR) == pytest.approx(1)
    assert mean(held, 10_000 * HOUR) > 0.6


def test_thin_cell_borrows_from_its_gateway_and_not_from_others() -> None:
    """An issuer never seen at a gateway is expected to do what the gateway's other issuers do."""
    held = estimates()
    for issuer in ("harbour_bank", "lotus_bank"):
        held.learn(outcome("a", issuer, at=0, succeeded=95, failed=5), 0)
        held.learn(outcome("b", issuer, at=0, succeeded=60, failed=40), 0)
    assert mean(held, 0, "a", "river_bank") == pytest.approx(0.95, abs=0.02)
    assert mean(held, 0, "b", "river_bank") == pytest.approx(0.60, abs=0.02)


def test_evidence_outvotes_what_is_borrowed() -> None:
    """A cell with thousands of payments of its own believes them."""
    held = estimates(24 * HOUR)
    generator = np.random.default_rng(1)
    for step, draw in enumerate(generator.random(12_000)):
        issuer, rate = ("lotus_bank", 0.5) if step % 4 == 0 else ("harbour_bank", 0.95)
        held.learn(outcome("a", issuer, at=step, succeeded=draw < rate, failed=draw >= rate), step)
    assert mean(held, 12_000, "a", "lotus_bank") == pytest.approx(0.5, abs=0.04)
    assert mean(held, 12_000, "a", "harbour_bank") == pytest.approx(0.95, abs=0.02)


def test_a_poor_issuer_lowers_what_is_expected_of_every_gateway() -> None:
    """An issuer that does badly at three gateways is expected to do badly at a fourth that never saw it."""
    held = estimates()
    for gateway in "abcd":
        held.learn(outcome(gateway, "harbour_bank", at=0, succeeded=950, failed=50), 0)
    for _ in range(10):
        for gateway in "abc":
            held.learn(outcome(gateway, "lotus_bank", at=0, succeeded=70, failed=30), 0)
    assert mean(held, 0, "d", "lotus_bank") < 0.85 < mean(held, 0, "d", "harbour_bank")


def test_an_issuer_that_does_badly_at_one_gateway_is_expected_to_by_other_methods_too() -> None:
    """What one method shows of a gateway and an issuer is believed of another one, at this gateway alone."""
    held = estimates()
    for _ in range(20):
        for gateway in "ab":
            for issuer in ("harbour_bank", "lotus_bank", "river_bank"):
                for method in ("card", "upi"):
                    good = 14 if (gateway, issuer, method) == ("a", "lotus_bank", "card") else 19
                    if (issuer, method) != ("lotus_bank", "upi"):
                        held.learn(outcome(gateway, issuer, at=0, succeeded=good, failed=20 - good, method=method), 0)
    at_a, at_b = held.beliefs("upi", "lotus_bank", ("a", "b"), 0)
    assert at_a.own == at_b.own == 0
    assert at_a.mean < at_b.mean - 0.04
    (other,) = held.beliefs("upi", "river_bank", ("a",), 0)
    assert at_a.mean < other.mean - 0.04


def test_an_issuer_down_at_one_gateway_is_noticed_through_all_methods_together() -> None:
    """Four failures of each of three methods are enough, and other issuers hardly move."""
    held, generator = estimates(96 * HOUR, alert=True), np.random.default_rng(4)
    methods, issuers = ("card", "upi", "wallet"), ("harbour_bank", "lotus_bank", "river_bank")
    for step in range(200):
        for issuer in issuers:
            for method in methods:
                won = bool(generator.random() < 0.93)
                held.learn(outcome("a", issuer, at=step, succeeded=won, failed=not won, method=method), step)
    for step in range(200, 204):
        for method in methods:
            held.learn(outcome("a", "lotus_bank", at=step, failed=1, method=method), step)
    for method in methods:
        (down,) = held.beliefs(method, "lotus_bank", ("a",), 204)
        (well,) = held.beliefs(method, "river_bank", ("a",), 204)
        assert down.mean < 0.55 < 0.85 < well.mean
        assert down.base is not None
        assert down.base > 0.8


def test_a_method_that_is_down_is_laid_upon_no_issuer_and_on_no_other_method() -> None:
    """Card fails at the gateway: its issuers are called down by nobody, and what is known of the gateway stays."""
    for seed in range(12):
        held, generator = estimates(96 * HOUR, alert=True), np.random.default_rng(seed)
        issuers = ("harbour_bank", "lotus_bank", "river_bank")
        for step in range(2_400):
            method = "card" if generator.random() < 0.5 else "upi"
            rate = 0.2 if method == "card" and step >= 1_500 else 0.95
            won = bool(generator.random() < rate)
            issuer = issuers[int(generator.choice(3, p=(0.6, 0.3, 0.1)))]
            held.learn(outcome("a", issuer, at=step, succeeded=won, failed=not won, method=method), step)
        (whole,) = held.overall(("a",), 2_400)
        assert whole.mean < 0.97
        for issuer in issuers:
            card, upi = (held.beliefs(method, issuer, ("a",), 2_400)[0].mean for method in ("card", "upi"))
            assert card < 0.5
            assert upi > 0.8


def test_one_method_and_one_issuer_answer_a_surprise_once() -> None:
    """A gateway with one kind of payments believes no more in eight failures than in a tenth of what it has seen."""
    held = estimates(96 * HOUR)
    for step in range(320):
        held.learn(outcome(at=step, succeeded=step % 40 != 0, failed=step % 40 == 0), step)
    for step in range(320, 328):
        held.learn(outcome(at=step, failed=1), step)
    assert mean(held, 328) > 0.8


@pytest.mark.parametrize("network", [None, "visa"])
def test_more_payments_never_make_a_belief_less_sure(network: str | None) -> None:
    """Of this kind, of its method, of its issuer, or of its gateway; with the network known and without."""
    kinds = [("card", "harbour_bank"), ("card", "lotus_bank"), ("upi", "harbour_bank"), ("upi", "lotus_bank")]
    for method, issuer in kinds:
        held = estimates(alert=True)
        for _ in range(10):
            for kind in kinds:
                held.learn(Outcome(gateway="a", method=kind[0], issuer=kind[1], network=network, at=0,
                                   succeeded=9, failed=1), 0, inherited=True)  # fmt: skip
        (before,) = held.beliefs("card", "harbour_bank", ("a",), 0, network)
        held.learn(Outcome(gateway="a", method=method, issuer=issuer, network=network, at=0,
                           succeeded=900, failed=100), 0, inherited=True)  # fmt: skip
        (after,) = held.beliefs("card", "harbour_bank", ("a",), 0, network)
        assert 0 < after.deviation < before.deviation


def test_interval_covers_the_truth() -> None:
    """Over many worlds, the posterior of a lone cell covers the true rate about as often as it says."""
    generator = np.random.default_rng(5)
    inside = 0
    worlds = 400
    for _ in range(worlds):
        rate = generator.uniform(0.5, 1)
        succeeded = int(generator.binomial(60, rate))
        held = estimates()
        held.learn(outcome(at=0, succeeded=succeeded, failed=60 - succeeded), 0)
        belief = held.beliefs("card", "harbour_bank", ("a",), 0)[0]
        inside += belief.low <= rate <= belief.high
    assert 0.85 <= inside / worlds <= 0.95


def test_change_resets_only_the_changed_cell() -> None:
    """When one issuer fails at one gateway, its cell is learned anew; others hardly move."""
    held = estimates(alert=True)
    issuers = ("harbour_bank", "lotus_bank", "river_bank")
    for step in range(300):
        for issuer in issuers:
            held.learn(outcome("a", issuer, at=step, succeeded=step % 20 != 0, failed=step % 20 == 0), step)
    for step in range(300, 320):
        held.learn(outcome("a", "harbour_bank", at=step, failed=1), step)
        for issuer in issuers[1:]:
            held.learn(outcome("a", issuer, at=step, succeeded=1), step)
    assert mean(held, 320, "a", "harbour_bank") < 0.25
    assert min(mean(held, 320, "a", issuer) for issuer in issuers[1:]) > 0.93


def test_gateway_outage_is_noticed_through_all_cells_together() -> None:
    """Twenty issuers with one failure each are enough to know that the gateway is down, for all of them."""
    held = estimates(alert=True)
    for step in range(100):
        for number in range(20):
            held.learn(outcome("a", f"issuer_{number}", at=step, succeeded=1), step)
    for number in range(20):
        held.learn(outcome("a", f"issuer_{number}", at=101, failed=1), 101)
    assert max(mean(held, 101, "a", f"issuer_{number}") for number in range(20)) < 0.6


def test_outcomes_from_before_a_change_do_not_return() -> None:
    """Late successes of payments made before a fall hardly lift the gateway again."""
    held = estimates(24 * HOUR, alert=True)
    for step in range(400):
        held.learn(outcome(at=step, succeeded=step % 10 != 0, failed=step % 10 == 0), step)
    for step in range(500, 530):
        held.learn(outcome(at=step, failed=1), step)
    before = mean(held, 530)
    assert before < 0.3
    for step in range(400, 450):
        held.learn(outcome(at=step, succeeded=1), 530)
    assert mean(held, 530) == pytest.approx(before, abs=0.05)


def test_false_alarms_are_rare() -> None:
    """At a steady 92 %, at least eight of ten runs of 2,000 payments hold nine tenths of what they saw."""
    generator = np.random.default_rng(3)
    kept = 0
    for _ in range(10):
        held = estimates(float("inf"), alert=True)
        for step, good in enumerate(generator.random(2000) < 0.92):
            held.learn(outcome(at=step, succeeded=good, failed=not good), step)
        kept += own(held, 2000) > 1800
    assert kept >= 8


def test_a_forgotten_incident_leaves_what_was_known_before() -> None:
    """After forget, a gateway that failed for a while is expected to be as before, and what is older is not heard."""
    held = estimates(24 * HOUR, alert=True)
    for step in range(400):
        held.learn(outcome(at=step, succeeded=step % 10 != 0, failed=step % 10 == 0), step)
    for step in range(500, 530):
        held.learn(outcome(at=step, failed=1), step)
    assert mean(held, 530) < 0.3
    held.forget("a", since=600)
    held.learn(outcome(at=520, failed=20), 600)
    assert mean(held, 600) > 0.6  # of the first failures it did not know yet that they were an incident


def test_memory_is_bounded_and_the_least_used_goes_first() -> None:
    """Never more cells than allowed; a row that is asked for stays, one that is not goes."""
    held = estimates(cells_max=50)
    for number in range(500):
        held.learn(outcome("a", f"issuer_{number}", at=number, succeeded=1), number)
        held.beliefs("card", "issuer_0", ("a",), number)
    assert held.cells <= 50
    assert own(held, 500, "a", "issuer_0") > 0.5
    assert own(held, 500, "a", "issuer_1") == 0


@pytest.mark.parametrize("cells_max", [1, 4, 9])
def test_a_memory_for_next_to_nothing_still_learns(cells_max: int) -> None:
    """What an outcome needs is kept while it is learned, however small the bound."""
    held = estimates(cells_max=cells_max, alert=True)
    for number in range(60):
        network = ("visa", None)[number % 2]
        held.learn(Outcome(gateway="abcde"[number % 5], method=("card", "upi")[number % 2], issuer=f"issuer_{number}",
                           network=network, at=number, succeeded=1), number)  # fmt: skip
    assert held.cells <= max(cells_max, 5) + 4
    assert mean(held, 60, "a", "issuer_55") > 0.5


def test_evidence_teaches_another_learner_the_same() -> None:
    """What is handed over gives the same belief."""
    held, heir = estimates(), estimates()
    for issuer, good in (("harbour_bank", 90), ("lotus_bank", 70)):
        held.learn(outcome("a", issuer, at=0, succeeded=good, failed=100 - good), 0)
    for known in held.evidence(HOUR):
        heir.learn(known, HOUR)
    for issuer in ("harbour_bank", "lotus_bank"):
        assert own(heir, HOUR, "a", issuer) == pytest.approx(50)
        assert mean(heir, HOUR, "a", issuer) == pytest.approx(mean(held, HOUR, "a", issuer), abs=0.03)


@pytest.mark.parametrize(("half_life_s", "cells_max"), [(0, 10), (-1, 10), (float("nan"), 10), (60, 0)])
def test_settings_without_sense_are_refused(half_life_s: float, cells_max: int) -> None:
    """A half-life or a bound of nothing is an error."""
    with pytest.raises(ValueError, match="must be"):
        Estimates(half_life_s=half_life_s, cells_max=cells_max)


def test_inherited_sums_are_no_sudden_change() -> None:
    """Sums over a long time that differ between issuers are kept whole, however much they differ."""
    held = estimates(alert=True)
    for issuer, good in (("harbour_bank", 970), ("lotus_bank", 600), ("river_bank", 990)):
        held.learn(outcome("a", issuer, at=0, succeeded=good, failed=1000 - good), 0, inherited=True)
    assert [own(held, 0, "a", issuer) for issuer in ("harbour_bank", "lotus_bank", "river_bank")] == pytest.approx(
        [1000.0] * 3
    )


def test_a_rise_is_looked_for_up_to_what_the_best_gateway_does() -> None:
    """A poor gateway that fails no more is believed after fewer than forty payments; before it took fifty-four."""
    alike = surprises(0.69, 1, 0)[1]
    assert surprises(0.69, 1, 0, best=0.95)[1] > 1.5 * alike
    assert surprises(0.93, 1, 0, best=0.95) == surprises(0.93, 1, 0)
    held = estimates(96 * HOUR, alert=True)
    for step in range(2_000):
        held.learn(outcome("a", at=step, succeeded=step % 20 > 0, failed=step % 20 == 0), step)
        if step % 4 == 0:
            held.learn(outcome("b", at=step, succeeded=step % 13 < 9, failed=step % 13 >= 9), step)
    assert mean(held, 2_000, "b") == pytest.approx(0.69, abs=0.04)
    needed = 0
    while mean(held, 2_000 + needed, "b") < 0.9:
        needed += 1
        held.learn(outcome("b", at=2_000 + needed, succeeded=1), 2_000 + needed)
    assert 20 < needed < 40


def test_what_was_never_seen_is_known_as_such_by_a_memory_without_end() -> None:
    """No payments of its own, and a number for everything: not what comes of no time in an endless half-life."""
    held = estimates(float("inf"))
    held.learn(outcome(at=0, succeeded=1), 0)
    (unseen,) = held.beliefs("card", "river_bank", ("a",), 5.0)
    assert unseen.own == 0
    assert np.isfinite([unseen.mean, unseen.low, unseen.high, unseen.borrowed]).all()
