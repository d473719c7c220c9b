"""Attempts: one by one and many at once, with and without incidents."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.scenario import load_dialects
from simulator.world import facts
from simulator.world.arrivals import Arrivals
from simulator.world.failures import CATEGORIES
from simulator.world.incidents import (
    AnyIncident,
    CardTesting,
    Degradation,
    Drift,
    FailureMixChange,
    FlashSale,
    LatencyBrownout,
    Maintenance,
    Outage,
    ReversalWave,
)
from simulator.world.orders import Ids, OrderColumns
from simulator.world.outcomes import CAUSES, Outcome
from simulator.world.outcomes_many import STATUSES, OutcomeColumns, OutcomesModel
from simulator.world.plan import IncidentPlan
from simulator.world.success import SuccessModel
from simulator.world.truth import success_many
from simulator.world.world import World

BEGAN = 1_800_000_000.0

EVERYTHING: list[AnyIncident] = [
    Outage(starts_s=10, lasts_s=30, repeats_every_s=60, gateway="bravo"),
    Degradation(starts_s=20, lasts_s=60, points=10, method="upi"),
    Drift(starts_s=5, lasts_s=30, repeats_every_s=45, points=30, issuer="banyan_national"),
    LatencyBrownout(starts_s=30, lasts_s=50, gateway="alpha", factor=3),
    FailureMixChange(starts_s=60, lasts_s=60, categories={"do_not_honor": 1, "network_timeout": 1}),
    ReversalWave(starts_s=10, lasts_s=100, share=0.1, gateway="echo"),
    CardTesting(starts_s=40, lasts_s=20, orders_factor=0.5),
    FlashSale(starts_s=80, lasts_s=20),
    Maintenance(starts_s=90, lasts_s=10, gateway="delta"),
]


def some_orders(plan: IncidentPlan, count: int = 3_000) -> OrderColumns:
    """About ``count`` orders over two minutes."""
    return Arrivals(7, rate=count / 120, rhythm="flat", plan=plan).next_orders(count)


def outcomes_of(plan: IncidentPlan, orders: OrderColumns, gateway: Ids, number: int = 1) -> OutcomeColumns:
    """What happens to all of them."""
    model = OutcomesModel(7, load_dialects())
    return model.outcomes(orders, SuccessModel().chances(orders), gateway, number, orders.placed_at, plan)


def as_one(model: OutcomesModel, columns: OutcomeColumns, row: int) -> Outcome:
    """One row of the columns as the record of a single attempt."""
    code, category = int(columns.code[row]), int(columns.category[row])
    final = STATUSES[columns.status_final[row]]
    settle, back = float(columns.settle_after_s[row]), float(columns.reversed_after_s[row])
    return msgspec.convert(
        {
            "status": STATUSES[columns.status[row]],
            "status_final": None if final == "unknown" else final,
            "latency_ms": float(columns.latency_ms[row]),
            "failure_code": model.codes[code].code if code >= 0 else None,
            "failure_message": model.codes[code].message if code >= 0 else None,
            "settle_after_s": None if np.isnan(settle) else settle,
            "reversed_after_s": None if np.isnan(back) else back,
            "reported_twice": bool(columns.reported_twice[row]),
            "category": CATEGORIES[category] if category >= 0 else None,
            "cause": CAUSES[columns.cause[row]],
        },
        Outcome,
    )


@pytest.mark.parametrize("number", [1, 3])
def test_one_by_one_and_many_at_once_agree(number: int) -> None:
    """Every field of every attempt is the same on both ways, under every kind of incident."""
    plan = IncidentPlan(EVERYTHING, BEGAN)
    orders = some_orders(plan)
    gateway = (orders.index % np.uint64(5)).astype(np.int64)
    columns = outcomes_of(plan, orders, gateway, number)
    model = OutcomesModel(7, load_dialects())
    world = World(7, plan=plan, dialects=load_dialects(), rate=1)
    for row, order in enumerate(world.orders(orders)):
        expected = as_one(model, columns, row)
        assert expected == world.attempt(order, int(gateway[row]), number, order.placed_at)


def test_truth_of_one_and_of_many_agree() -> None:
    """The chances of success with incidents are the same on both ways."""
    plan = IncidentPlan(EVERYTHING, BEGAN)
    orders = some_orders(plan)
    many = success_many(orders, SuccessModel().chances(orders), orders.placed_at, plan)
    world = World(7, plan=plan, dialects=load_dialects(), rate=1)
    one = [world.success_probabilities(order, order.placed_at) for order in world.orders(orders)]
    np.testing.assert_array_equal(np.array(one), many)


@pytest.mark.parametrize("incidents", [[], EVERYTHING])
def test_attempts_succeed_as_often_as_the_truth_says(incidents: list[AnyIncident]) -> None:
    """Summed over 60,000 attempts, successes lie within five standard errors of the sum of the chances."""
    plan = IncidentPlan(incidents, BEGAN)
    orders = some_orders(plan, 60_000)
    gateway = (orders.index % np.uint64(5)).astype(np.int64)
    chances = SuccessModel().chances(orders)
    truth = success_many(orders, chances, orders.placed_at, plan)[np.arange(len(gateway)), gateway]
    succeeded = outcomes_of(plan, orders, gateway).cause == 0
    error = np.sqrt((truth * (1 - truth)).sum())
    assert abs(succeeded.sum() - truth.sum()) < 5 * error


SEGMENTS = st.fixed_dictionaries(
    {
        "gateway": st.sampled_from([None, *facts.GATEWAYS]),
        "method": st.sampled_from([None, *facts.METHODS]),
        "issuer": st.sampled_from([None, *facts.ISSUER_NAMES[:4]]),
    }
)
WHENS = st.fixed_dictionaries({"starts_s": st.floats(0, 100), "lasts_s": st.floats(1, 100)})


@given(WHENS, SEGMENTS, st.floats(1, 100))
@settings(max_examples=40, deadline=None)
def test_an_incident_touches_only_its_segment_and_never_helps(
    when: dict[str, float], segment: dict[str, str | None], points: float
) -> None:
    """Outside its time and segment nothing changes; inside, an attempt may only turn from success to failure."""
    calm = IncidentPlan([], BEGAN)
    orders = some_orders(calm, 1_000)
    gateway = (orders.index % np.uint64(5)).astype(np.int64)
    plan = IncidentPlan([Degradation(points=points, **when, **segment)], BEGAN)  # type: ignore[arg-type]
    before, after = outcomes_of(calm, orders, gateway), outcomes_of(plan, orders, gateway)
    elapsed = np.floor((orders.placed_at - BEGAN) / 0.25) * 0.25
    inside = (elapsed >= when["starts_s"]) & (elapsed < when["starts_s"] + when["lasts_s"])
    one = plan.planned[0]
    for wanted, column in ((one.gateway, gateway), (one.method, orders.method), (one.issuer, orders.issuer)):
        inside &= True if wanted is None else column == wanted
    for was, became in zip(before.all(), after.all(), strict=True):
        np.testing.assert_array_equal(was[~inside], became[~inside])
    assert not ((before.cause[inside] != 0) & (after.cause[inside] == 0)).any()


def test_a_degraded_gateway_loses_the_points_it_should() -> None:
    """Twenty points less for everybody shows as twenty points less, within five standard errors."""
    calm, worse = IncidentPlan([], BEGAN), IncidentPlan([Degradation(starts_s=0, lasts_s=600, points=20)], BEGAN)
    orders = some_orders(calm, 40_000)
    gateway = np.full(len(orders.index), 2)
    before, after = ((outcomes_of(plan, orders, gateway).cause == 0).mean() for plan in (calm, worse))
    lost = before - after
    assert abs(lost - 0.20) < 5 * (0.2 * 0.8 / len(gateway)) ** 0.5


def test_a_latency_brownout_leaves_success_alone() -> None:
    """Every attempt ends as it would have, only later, and never after the time-out."""
    calm, slow = IncidentPlan([], BEGAN), IncidentPlan([LatencyBrownout(starts_s=0, lasts_s=600, factor=4)], BEGAN)
    orders = some_orders(calm)
    gateway = np.full(len(orders.index), 1)
    before, after = outcomes_of(calm, orders, gateway), outcomes_of(slow, orders, gateway)
    np.testing.assert_array_equal(before.status, after.status)
    np.testing.assert_array_equal(before.code, after.code)
    assert (after.latency_ms >= before.latency_ms).all()
    assert after.latency_ms.max() <= facts.TIMEOUT_MS[1]
    assert np.median(after.latency_ms) > 3.5 * np.median(before.latency_ms)


def test_a_change_of_mix_leaves_the_rate_alone() -> None:
    """The same attempts fail, for other reasons."""
    changed = FailureMixChange(starts_s=0, lasts_s=600, categories={"suspected_fraud": 1})
    calm, other = IncidentPlan([], BEGAN), IncidentPlan([changed], BEGAN)
    orders = some_orders(calm)
    gateway = np.full(len(orders.index), 0)
    before, after = outcomes_of(calm, orders, gateway), outcomes_of(other, orders, gateway)
    np.testing.assert_array_equal(before.cause, after.cause)
    assert {CATEGORIES.index("suspected_fraud")} == set(after.category[after.cause != 0].tolist())


def test_another_gateway_does_not_change_what_the_payer_says() -> None:
    """An order whose payer refuses is refused by the payer at every gateway that reaches the issuer."""
    plan = IncidentPlan([], BEGAN)
    orders = some_orders(plan)
    payer = [outcomes_of(plan, orders, np.full(len(orders.index), g)).cause for g in range(5)]
    reached = [(cause == CAUSES.index("payer")) | (cause == 0) for cause in payer]
    both = reached[0] & reached[3]
    np.testing.assert_array_equal(payer[0][both], payer[3][both])


def test_every_failure_speaks_its_gateways_words() -> None:
    """Code and message belong to the gateway and to the true category; some codes are in no published list."""
    plan = IncidentPlan([], BEGAN)
    orders = some_orders(plan, 20_000)
    gateway = (orders.index % np.uint64(5)).astype(np.int64)
    columns = outcomes_of(plan, orders, gateway)
    model = OutcomesModel(7, load_dialects())
    failed = np.flatnonzero(columns.cause)
    rows = [model.codes[code] for code in columns.code[failed]]
    borrowed = [row.category for row, g in zip(rows, gateway[failed], strict=True) if row.system != facts.GATEWAYS[g]]
    own = {(row.system, row.category) for dialect in load_dialects() for words in dialect.listed for row in words}
    assert len(borrowed) < 0.02 * len(rows)
    assert all(any((name, category) not in own for name in facts.GATEWAYS) for category in borrowed)
    assert [CATEGORIES[c] for c in columns.category[failed]] == [row.category for row in rows]
    listed = {(row.code, row.system) for dialect in load_dialects() for words in dialect.listed for row in words}
    unlisted = np.mean([(row.code, row.system) not in listed for row in rows])
    assert 0.002 < unlisted < 0.06
