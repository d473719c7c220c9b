"""The reliability model: better only where there is something to know, and read with care."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from benchmarks.reliability import GATEWAYS, World
from ml.lack import TooFewData
from ml.routing.context import Outcome, RoutingContext
from ml.routing.policies import AdaptivePolicy, PolicySettings
from ml.routing.reliability import Reliability, Traits, band_of, traits_of
from ml.routing.reliability_training import Judged, Payment, fitted


def judged(history: list[Payment], in_force: Reliability | None = None) -> Judged:
    """A fit that must come about."""
    found = fitted(history, in_force)
    assert isinstance(found, Judged)
    return found


def test_a_model_is_better_where_country_and_amount_matter() -> None:
    """It saves log loss on later payments, is calibrated there, and says by how much."""
    found = judged(World(1, 0.7).history(12_000))
    assert found.better
    assert found.metrics["trees"] > 0
    assert found.metrics["log_loss_chosen"] < found.metrics["log_loss_rates"] - 0.01
    assert found.metrics["log_loss_rates"] < found.metrics["log_loss_constant"]
    assert found.metrics["calibration_error"] < 0.05
    assert "better than the rates alone" in found.note


def test_nothing_is_promoted_where_there_is_nothing_to_know() -> None:
    """Over twelve worlds without any effect of country and amount, at most one lucky model."""
    promoted = sum(judged(World(seed, 0.0).history(4_000)).better for seed in range(12))
    assert promoted <= 1


@pytest.mark.parametrize("moved", [-0.75, 0.6])
@pytest.mark.parametrize("gateway", [None, "alpha"])
def test_a_level_that_moves_is_nobodys_merit(moved: float, gateway: str | None) -> None:
    """Success falls or rises after the time that taught, everywhere or at one gateway: no trees are promoted for it."""
    for seed in range(4):
        world = World(seed, 0.0)
        history = world.history(3_000)
        world.by_issuer = world.by_issuer + (moved if gateway is None else moved * np.array([[1.0], [0.0], [0.0]]))
        assert not judged(history + world.history(2_000, start=3_000)).better


def test_a_model_in_force_is_replaced_only_by_a_better_one_and_its_drift_is_said() -> None:
    """The same world again: it stays. What countries do is turned around: it goes, and the note says why."""
    world = World(3, 0.7)
    first = Reliability(judged(world.history(12_000)).model, 1)
    again = judged(world.history(12_000, start=20_000), first)
    assert "log_loss_in_force" in again.metrics
    assert abs(again.metrics["gain_over_in_force"]) < 0.01
    world.by_country, world.by_amount = -world.by_country, -world.by_amount
    turned = judged(world.history(12_000, start=40_000), first)
    assert turned.better
    assert turned.metrics["drift_loss"] > 0
    assert "has drifted" in turned.note


def test_new_kinds_of_payments_show_in_the_stability_index() -> None:
    """The index is low while payments stay alike, and high when amounts move."""
    world = World(4, 0.7)
    history = world.history(6_000)
    assert judged(history).metrics["drift_psi"] < 0.1
    moved = [
        each._replace(traits=each.traits._replace(country="DE", band=band_of(1_000_000))) if each.at >= 4_800 else each
        for each in history
    ]
    assert judged(moved).metrics["drift_psi"] > 0.25


def test_little_history_is_an_answer() -> None:
    """Too few payments, or none that failed: so many were seen, so many are needed."""
    few = World(5, 0.7).history(500)
    assert fitted(few) == TooFewData(seen=500, needed=2_000)
    spotless = [each._replace(succeeded=True) for each in World(5, 0.7).history(3_000)]
    assert isinstance(fitted(spotless), TooFewData)


def test_the_model_survives_being_stored_and_asks_nothing_of_strangers() -> None:
    """The same shifts after a round trip; none for a gateway that it never saw."""
    world = World(6, 0.7)
    found = judged(world.history(8_000))
    before, after = Reliability(found.model), Reliability.loaded(found.body(), 7)
    assert after.version == 7
    for _ in range(50):
        context, _ = world.payment()
        assert after.shifts(context, GATEWAYS) == before.shifts(context, GATEWAYS)
    context, _ = world.payment()
    assert after.shifts(context, ("stranger", "alpha"))[0] == 0.0
    assert any(abs(shift) > 0.1 for shift in after.shifts(context, GATEWAYS))


def test_a_damaged_model_is_refused_in_words() -> None:
    """No JSON, lists of other lengths, trees that point outside, another form: never a crash or an endless walk."""
    model = judged(World(1, 0.7).history(6_000)).model
    trees = model.trees
    outside = msgspec.structs.replace(trees, left=[10**6] * len(trees.left))
    short = msgspec.structs.replace(trees, value=trees.value[:-1])
    damaged = [
        b"\x80\x04nonsense",
        b"{}",
        msgspec.json.encode(msgspec.structs.replace(model, trees=outside)),
        msgspec.json.encode(msgspec.structs.replace(model, trees=short)),
        msgspec.json.encode(msgspec.structs.replace(model, codes=model.codes[1:])),
        msgspec.json.encode(msgspec.structs.replace(model, stored_as=99)),
    ]
    for body in damaged:
        with pytest.raises(ValueError, match="train"):
            Reliability.loaded(body, 1)


def test_the_router_does_better_with_the_model_than_without() -> None:
    """The same payments and the same luck: the model's shifts bring success that the policy alone cannot see."""
    world = World(8, 0.7)
    model = Reliability(judged(world.history(12_000)).model, 1)
    payments = [world.payment() for _ in range(6_000)]
    luck = np.random.default_rng(9).random(len(payments))
    got = {}
    for name in ("without", "with"):
        policy = AdaptivePolicy(PolicySettings(), np.random.default_rng(0))
        total = 0.0
        for step, (context, rates) in enumerate(payments):
            shifts = dict(zip(GATEWAYS, model.shifts(context, GATEWAYS), strict=True)) if name == "with" else {}
            asked = msgspec.structs.replace(context, shifts=shifts)
            first = policy.rank(asked, GATEWAYS, float(step)).candidates[0]
            rate = rates[GATEWAYS.index(first.gateway)]
            total += rate
            good = bool(luck[step] < rate)
            policy.learn(Outcome(gateway=first.gateway, method="card", issuer=context.issuer, at=float(step),
                                 succeeded=good, failed=not good), float(step))  # fmt: skip
        got[name] = total / len(payments)
    oracle = float(np.mean([rates.max() for _, rates in payments]))
    assert got["with"] - got["without"] > 0.3 * (oracle - got["without"])


def test_a_shift_is_told_in_points_of_success() -> None:
    """The reason of a ranking says what country and amount changed."""
    policy = AdaptivePolicy(PolicySettings(), np.random.default_rng(0))
    context = RoutingContext(method="card", shifts={"alpha": 0.8})
    ranked = {each.gateway: each for each in policy.rank(context, GATEWAYS, 0.0).candidates}
    assert "points of it" in ranked["alpha"].reason
    assert "points of it" not in ranked["bravo"].reason
    assert ranked["alpha"].expected_success > ranked["bravo"].expected_success


def test_rates_of_the_model_are_a_start_that_is_easy_to_unlearn() -> None:
    """A cell counts as fifty payments at most, whatever it was fitted to."""
    model = Reliability(judged(World(1, 0.7).history(6_000)).model, 1)
    evidence = list(model.evidence(100.0))
    assert {outcome.gateway for outcome in evidence} == set(GATEWAYS)
    assert all(outcome.succeeded + outcome.failed <= 50.0 + 1e-9 for outcome in evidence)


def test_traits_of_a_payment_that_says_little() -> None:
    """What is not known has no name."""
    assert traits_of(RoutingContext(method="upi")) == Traits("upi", "unknown", "", "", "", "", 0)


def test_what_the_model_foresaw_is_not_learned_again() -> None:
    """Two gateways, each good for one country: where the router sends each, it still expects what is true."""
    truth = {("alpha", "DE"): 2.5, ("alpha", "FR"): 0.5, ("bravo", "DE"): 0.5, ("bravo", "FR"): 2.5}
    policy, rng = AdaptivePolicy(PolicySettings(), np.random.default_rng(1)), np.random.default_rng(0)

    def learned(gateway: str, country: str, at: float) -> None:
        z = truth[gateway, country]
        good = rng.random() < 1 / (1 + np.exp(-z))
        policy.learn(Outcome(gateway=gateway, method="card", issuer="one", at=at, succeeded=float(good),
                             failed=float(not good), shift=z - 1.5), at)  # fmt: skip

    for step in range(4_000):
        learned(("alpha", "bravo")[step % 2], ("DE", "FR")[step // 2 % 2], 20.0 * step)
    for step in range(12_000):
        at, country = 80_000.0 + 10 * step, ("DE", "FR")[int(rng.integers(2))]
        shifts = {gateway: truth[gateway, country] - 1.5 for gateway in ("alpha", "bravo")}
        context = RoutingContext(method="card", issuer="one", country=country, shifts=shifts)
        ranked = policy.rank(context, ("alpha", "bravo"), at).candidates
        learned(ranked[0].gateway, country, at)
    for candidate in ranked:
        expected = 1 / (1 + np.exp(-truth[candidate.gateway, country]))
        assert candidate.expected_success == pytest.approx(expected, abs=0.08)  # learned again: off by .12 and more


def test_names_that_the_model_never_saw_are_all_alike_and_remembered_once() -> None:
    """A stream of new card ranges neither fills the memory nor costs a walk through the trees each."""
    model = Reliability(judged(World(1, 0.7).history(6_000)).model, 1)
    context, _ = World(1, 0.7).payment()
    for number in range(500):
        model.shifts(msgspec.structs.replace(context, bin=str(400_000 + number)), GATEWAYS)
    assert len(model._known) == 1
