"""Assignment: published hashes, exact ranges, independence, and nobody moved by a higher coverage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from ml.experiments.assignment import (
    BUCKETS,
    Allocation,
    Assignment,
    arm_ranges,
    assign,
    bucket_of,
    held_out,
    in_burn_in,
)
from ml.experiments.design import Arm, Experiment, Holdout, Layer

UNITS = 200_000
UNITS_MANY = 1_000_000


def experiment(name: str, weights: tuple[float, ...] = (0.5, 0.5), **other: Any) -> Experiment:
    """An experiment with arms arm_0, arm_1, and so on."""
    arms = [Arm(name=f"arm_{index}", policy=f"policy_{index}", weight=weight) for index, weight in enumerate(weights)]
    return Experiment(name=name, seed=other.pop("seed", f"seed of {name}"), arms=arms, **other)


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """An Indian card payment, unless said otherwise."""

    order_id: str
    customer_id: str | None = None
    method: str = "card"
    country: str | None = "IN"
    issuer: str = "harbour_bank"
    currency: str = "INR"
    amount_minor: int = 10_000


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def take(allocation: Allocation, order_id: str, at: datetime = NOON, **other: Any) -> Assignment | None:
    """Assign an Indian card payment, unless said otherwise."""
    return assign(allocation, Payment(order_id=order_id, **other), at)


def fnv1a_of_all(state: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """A second way to the hash, over columns of bytes: texts of shape (units, length), 0 where a text has ended."""
    for column in texts.T:
        state = np.where(column == 0, state, ((state ^ column) * np.uint64(0x01000193)) & np.uint64(0xFFFFFFFF))
    return state


def buckets_of_sequence(seed: str, count: int) -> np.ndarray:
    """Buckets of the sequential ids ord_100000000, ord_100000001, and so on."""
    digits = (100_000_000 + np.arange(count))[:, None] // 10 ** np.arange(8, -1, -1) % 10 + ord("0")
    prefix = np.tile(np.frombuffer(f"{seed}ord_".encode(), dtype=np.uint8), (count, 1))
    texts = np.hstack([prefix, digits]).astype(np.uint64)
    first = fnv1a_of_all(np.full(count, 0x811C9DC5, dtype=np.uint64), texts)
    decimal = first.astype("U10").view(np.uint32).reshape(count, 10).astype(np.uint64)
    return (fnv1a_of_all(np.full(count, 0x811C9DC5, dtype=np.uint64), decimal) % np.uint64(BUCKETS)).astype(np.int64)


@pytest.mark.parametrize(
    ("seed", "unit", "bucket"),
    [
        ("seed", "a", 505),
        ("seed", "b", 2696),
        ("foo", "ab", 2575),
        ("foo", "def", 2019),
        ("89123klj", "8952klfjas09ujkasdf", 1240),
        ("90850943850283058242805", "123", 7516),
        ("()**(%$##$%#$#", '___)((*":&', 128),
    ],
)
def test_bucket_is_the_published_one(seed: str, unit: str, bucket: int) -> None:
    """A checkout in any language that has this published hash can compute the arm of a payment itself."""
    assert bucket_of(seed, unit) == bucket


@pytest.mark.parametrize(
    ("weights", "coverage", "ranges"),
    [
        ((0.5, 0.5), 1.0, ((0, 5000), (5000, 10000))),
        ((0.5, 0.5), 0.5, ((0, 2500), (5000, 7500))),
        ((0.2, 0.3, 0.5), 0.2, ((0, 400), (2000, 2600), (5000, 6000))),
        ((0.9, 0.1), 1.0, ((0, 9000), (9000, 10000))),
        ((0.1,) * 10, 1.0, tuple((low, low + 1000) for low in range(0, 10000, 1000))),
        ((0.3333, 0.3333, 0.3334), 1.0, ((0, 3333), (3333, 6666), (6666, 10000))),
    ],
)
def test_arm_ranges_are_exact(weights: tuple[float, ...], coverage: float, ranges: tuple[tuple[int, int], ...]) -> None:
    """Weights count as written in decimal; the first three rows are published cases."""
    assert arm_ranges(experiment("e", weights, coverage=coverage)) == ranges


@given(st.lists(st.integers(1, 50), min_size=2, max_size=10), st.data())
def test_raising_the_coverage_moves_nobody(parts: list[int], data: st.DataObject) -> None:
    """Every bucket that has an arm keeps it when the coverage is raised."""
    total = sum(parts)
    weights = tuple(part / total for part in parts)
    low, high = sorted(data.draw(st.tuples(st.floats(0.001, 1), st.floats(0.001, 1))))
    before = arm_ranges(experiment("e", weights, coverage=low))
    after = arm_ranges(experiment("e", weights, coverage=high))
    assert all(a[0] == b[0] and a[1] <= b[1] for a, b in zip(before, after, strict=True))
    assert all(a[1] <= b[0] for a, b in pairwise(after))


def test_columns_and_single_hash_agree() -> None:
    """The fast second way used below gives the buckets that the router computes."""
    ids = [f"ord_{100_000_000 + index}" for index in range(500)]
    assert buckets_of_sequence("some seed", 500).tolist() == [bucket_of("some seed", unit) for unit in ids]


def test_two_experiments_split_sequential_orders_independently() -> None:
    """In the 2 x 2 table of two halves, knowing one arm says nothing about the other; also with similar seeds."""
    for seeds, units in ((("checkout-1", "checkout-2"), UNITS_MANY), (("a", "b"), UNITS)):
        first, second = (buckets_of_sequence(seed, units) < BUCKETS // 2 for seed in seeds)
        table = np.array([[np.sum(first & second), np.sum(first & ~second)],
                          [np.sum(~first & second), np.sum(~first & ~second)]])  # fmt: skip
        assert chi2_contingency(table).pvalue > 0.001
        assert np.abs(table * 4 / units - 1).max() < 0.02


def test_buckets_are_even() -> None:
    """Sequential orders fill the buckets evenly: a hundred classes of a hundred buckets pass a chi-square test."""
    counts = np.bincount(buckets_of_sequence("evenness", UNITS) // 100, minlength=100)
    assert chisquare(counts).pvalue > 0.001


def test_sequential_orders_do_not_come_in_blocks() -> None:
    """Arms of one order after the other change as often as coin flips, so that an arm is not a time of day."""
    arms = buckets_of_sequence("runs", UNITS) < BUCKETS // 2
    changes = np.flatnonzero(np.diff(arms))
    assert np.diff(changes).mean() == pytest.approx(2.0, abs=0.03)
    assert np.diff(changes).max() <= 30


def test_a_fifth_of_the_units_is_split_in_halves() -> None:
    """20 % coverage with halves inside gives each arm a tenth of all: one hash does not decide two things."""
    allocation = Allocation("v", (experiment("e", coverage=0.2),), "default")
    arms = [assigned.arm for n in range(20_000) if (assigned := take(allocation, f"ord_{n}"))]
    assert len(arms) == pytest.approx(4000, abs=250)
    assert arms.count("arm_0") == pytest.approx(len(arms) / 2, abs=150)


def test_experiment_below_gets_its_halves_of_what_is_left() -> None:
    """Two experiments share no order, and the second splits what the first left in its own halves."""
    allocation = Allocation("v", (experiment("first", coverage=0.5), experiment("second")), "default")
    taken = [take(allocation, f"ord_{n}") for n in range(20_000)]
    second = [assigned.arm for assigned in taken if assigned and assigned.experiment == "second"]
    assert all(taken)
    assert len(second) == pytest.approx(10_000, abs=350)
    assert second.count("arm_0") == pytest.approx(len(second) / 2, abs=250)


def test_all_attempts_of_an_order_share_the_arm() -> None:
    """The arm depends on the order alone: method and country only decide whether it takes part."""
    allocation = Allocation("v", (experiment("e"),), "default")
    arms = {take(allocation, "ord_7", method=method, country=country)
            for method in ("card", "upi") for country in ("IN", None)}  # fmt: skip
    assert len(arms) == 1


def test_units_are_customers_where_wanted() -> None:
    """All orders of a customer share an arm; a payment without a customer is passed over."""
    allocation = Allocation("v", (experiment("e", unit="customer_id"),), "default")
    arms = {take(allocation, f"ord_{n}", customer_id="cus_1") for n in range(50)}
    assert arms == {take(allocation, "ord_0", customer_id="cus_1")}
    assert take(allocation, "ord_0") is None


@pytest.mark.parametrize(
    ("limits", "taken"),
    [
        ({}, True),
        ({"methods": ["card"]}, True),
        ({"methods": ["upi", "wallet"]}, False),
        ({"countries": ["IN"]}, True),
        ({"countries": ["DE"]}, False),
        ({"enabled": False}, False),
        ({"issuers": ["harbour_bank"]}, True),
        ({"issuers": ["other_bank"]}, False),
        ({"currencies": ["EUR"]}, False),
        ({"amount_minor_min": 10_000, "amount_minor_max": 10_000}, True),
        ({"amount_minor_min": 10_001}, False),
        ({"amount_minor_max": 9_999}, False),
    ],
)
def test_only_eligible_payments_take_part(limits: dict[str, Any], taken: bool) -> None:
    """Limits by method and country hold, and a disabled experiment takes nobody."""
    allocation = Allocation("v", (experiment("e", **limits),), "default")
    assert (take(allocation, "ord_1") is not None) is taken


def test_unknown_country_is_not_eligible_where_countries_are_limited() -> None:
    """A payment whose country nobody knows is in no experiment for some countries."""
    assert take(Allocation("v", (experiment("e", countries=["IN"]),), "default"), "ord_1", country=None) is None


def test_assignment_names_arm_policy_and_bucket() -> None:
    """What was decided can be checked by hand: the bucket lies in the range of the arm."""
    allocation = Allocation("v", (experiment("e", seed="foo"),), "default")
    assert take(allocation, "ab") == Assignment("e", "arm_0", "policy_0", 2575)


def test_experiments_of_one_layer_share_nobody() -> None:
    """Slots of a layer exclude each other, hold their share, and are split in halves inside."""
    layers = (Layer(name="routing", seed="layer 1"),)
    low, high = (
        experiment("low", layer="routing", slot=(0.0, 0.3)),
        experiment("high", layer="routing", slot=(0.3, 0.8)),
    )
    both = Allocation("v", (low, high), "default", layers)
    alone = {each.name: Allocation("v", (each,), "default", layers) for each in (low, high)}
    found = {name: {n: take(alone[name], f"ord_{n}") for n in range(10_000)} for name in alone}
    takers = {name: {n for n, taken in arms.items() if taken} for name, arms in found.items()}
    assert not takers["low"] & takers["high"]
    assert len(takers["low"]) == pytest.approx(3000, abs=200)
    assert len(takers["high"]) == pytest.approx(5000, abs=220)
    for name, arms in found.items():
        assert [arms[n] for n in takers[name]] == [take(both, f"ord_{n}") for n in takers[name]]
        halves = [arm.arm for arm in arms.values() if arm]
        assert halves.count("arm_0") == pytest.approx(len(halves) / 2, abs=150)


def test_two_layers_are_independent() -> None:
    """Who is in which slot of one layer says nothing about the slot of another, nor about the arm inside."""
    first, second = (buckets_of_sequence(seed, UNITS) for seed in ("layer 1", "layer 2"))
    arms = buckets_of_sequence("seed of e", UNITS)
    for a, b in ((first, second), (first, arms)):
        table = np.histogram2d(a, b, bins=4)[0]
        assert chi2_contingency(table).pvalue > 0.001


def test_a_variant_of_a_fifth_with_halves_inside_is_split_in_halves() -> None:
    """A fifth gets the variant by one hash, and half of it each sub-arm by another: 50/50, not all to one side."""
    ids = [f"pay_{100_000 + n}" for n in range(100_000)]
    variant = [unit for unit in ids if bucket_of("outer", unit) < 2000]
    inner = sum(bucket_of("inner", unit) < 5000 for unit in variant)
    assert len(variant) == pytest.approx(20_000, abs=700)
    assert inner == pytest.approx(len(variant) / 2, abs=300)
    same_hash = sum(bucket_of("outer", unit) < 5000 for unit in variant)
    assert same_hash == len(variant)  # what goes wrong where one hash decides both


def test_holdout_keeps_its_units_out_of_everything() -> None:
    """The slice has its share, its policy, and no experiment touches it; all the rest is what it is compared with."""
    held = Holdout(seed="holdout 1", share=0.05, policy="best_fixed")
    allocation = Allocation("v", (experiment("e"),), "default", holdout=held)
    arms = [take(allocation, f"ord_{n}") for n in range(20_000)]
    slice_ = [arm for arm in arms if arm and arm.experiment == "holdout"]
    assert len(slice_) == pytest.approx(1000, abs=130)
    assert {(arm.arm, arm.policy) for arm in slice_} == {("control", "best_fixed")}
    assert all(arm and arm.experiment == "e" for arm in arms if arm not in slice_)
    sides = {n: held_out(allocation, Payment(order_id=f"ord_{n}")) for n in range(200)}
    assert {side.arm for side in sides.values() if side} == {"control", "optimised"}
    assert held_out(Allocation("v", (), "default"), Payment(order_id="ord_1")) is None


def test_blocks_of_time_share_an_arm_and_switch() -> None:
    """All payments of an hour are in one arm, over many hours both come, and just after a switch nothing counts."""
    switching = experiment("e", unit="time_block", block_minutes=60, burn_in_minutes=5)
    allocation = Allocation("v", (switching,), "default")
    hours = [NOON + timedelta(hours=n) for n in range(400)]
    arms = []
    for hour in hours:
        of_hour = {take(allocation, f"ord_{n}", hour + timedelta(minutes=7 * n)) for n in range(8)}
        assert len(of_hour) == 1
        arms.append(of_hour.pop())
    names = [arm.arm for arm in arms if arm]
    assert names.count("arm_0") == pytest.approx(200, abs=40)
    assert [in_burn_in(switching, NOON + timedelta(minutes=n)) for n in (0, 4, 5, 59)] == [True, True, False, False]


def test_phase_names_what_decides_and_nothing_else() -> None:
    """Words, metrics, coverage and times may change while counts go on; arms, seed, unit and eligibility may not."""
    base = experiment("e")
    keeps: list[dict[str, Any]] = [
        {"hypothesis": "other"}, {"coverage": 0.5}, {"primary": "latency_ms"}, {"min_days": 1.0},
        {"stop": NOON}, {"slot": (0.0, 0.5), "layer": "routing"}, {"enabled": False},
    ]  # fmt: skip
    renews: list[dict[str, Any]] = [
        {"seed": "t"}, {"unit": "customer_id"}, {"methods": ["card"]}, {"amount_minor_min": 5},
        {"arms": experiment("e", (0.4, 0.6)).arms},
    ]  # fmt: skip
    assert {msgspec.structs.replace(base, **change).phase for change in keeps} == {base.phase}
    assert base.phase not in {msgspec.structs.replace(base, **change).phase for change in renews}
