"""The chances of success, the calibration, the orders."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.world import facts
from simulator.world.arrivals import Arrivals
from simulator.world.incidents import CardTesting, FlashSale, QuietNight, VolumeDrop
from simulator.world.orders import OrderBook, OrderColumns
from simulator.world.plan import IncidentPlan
from simulator.world.rhythm import volume, volume_max
from simulator.world.success import SuccessModel

MONDAY = 1_767_571_200.0 - facts.LOCAL_OFFSET_S  # 5 January 2026, 00:00 in India
ORDERS = 120_000


@pytest.fixture(scope="module")
def orders() -> OrderColumns:
    """Orders spread evenly over four weeks."""
    index = np.arange(ORDERS, dtype=np.uint64)
    return OrderBook(7).columns(index, MONDAY + np.arange(ORDERS) * (28 * 86_400 / ORDERS))


def test_every_gateway_lies_between_86_and_95_per_cent(orders: OrderColumns) -> None:
    """The overall rates are realistic."""
    overall = SuccessModel().chances(orders).success().mean(axis=0)
    assert ((overall > 0.86) & (overall < 0.95)).all(), dict(zip(facts.GATEWAYS, overall, strict=True))


def test_the_best_gateway_depends_on_the_context(orders: OrderColumns) -> None:
    """Each method has another favourite, no gateway is best for more than two thirds of orders, and choosing pays."""
    success = SuccessModel().chances(orders).success()
    best = success.argmax(axis=1)
    favourites = [int(np.bincount(best[orders.method == m], minlength=5).argmax()) for m in range(4)]
    assert favourites == [0, 1, 4, 2]
    assert np.bincount(best).max() / ORDERS < 2 / 3
    assert success.max(axis=1).mean() - success.mean(axis=0).max() > 0.02


def test_issuers_refuse_and_fail_as_often_over_upi_as_the_calibration_says(orders: OrderColumns) -> None:
    """Business and technical declines of every bank over UPI are within 12 % and 20 % of the public figures."""
    chances = SuccessModel().chances(orders)
    for place, issuer in enumerate(facts.ISSUERS):
        rows = (orders.issuer == place) & (orders.method == facts.METHODS.index("upi"))
        assert rows.sum() > 300
        assert chances.business[rows].mean() == pytest.approx(issuer.business, rel=0.12)
        assert chances.technical[rows].mean() == pytest.approx(issuer.technical, rel=0.2)


def test_shares_of_methods_issuers_and_networks_are_those_of_the_facts(orders: OrderColumns) -> None:
    """Shares add up to one and lie near what the facts say; only cards have a network, a country and 3-D Secure."""
    methods = np.bincount(orders.method, minlength=4) / ORDERS
    np.testing.assert_allclose(methods, facts.METHOD_WEIGHTS, atol=0.01)
    weights = np.array([issuer.weight for issuer in facts.ISSUERS])
    np.testing.assert_allclose(np.bincount(orders.issuer) / ORDERS, weights / weights.sum(), atol=0.012)
    card = orders.method == facts.CARD
    np.testing.assert_allclose(np.bincount(orders.network[card]) / card.sum(), facts.NETWORK_WEIGHTS, atol=0.015)
    assert (orders.network[~card] == facts.NO_NETWORK).all()
    assert not orders.three_ds[~card].any()
    assert not orders.country[~card].any()


def test_customers_return_with_the_same_bank_and_mostly_the_same_method(orders: OrderColumns) -> None:
    """A customer has one issuer; about four in five repeat orders use the favourite method; many customers are new."""
    order = np.argsort(orders.customer, kind="stable")
    customer, issuer, method = orders.customer[order], orders.issuer[order], orders.method[order]
    again = customer[1:] == customer[:-1]
    assert 0.4 < again.mean() < 0.6
    assert (issuer[1:] == issuer[:-1])[again].all()
    assert 0.7 < (method[1:] == method[:-1])[again].mean() < 0.9
    assert 0.15 < (orders.customer >= 50_000).mean() < 0.21


def test_accounts_are_fuller_after_payday(orders: OrderColumns) -> None:
    """The payer refuses less often from the 1st to the 5th of a month than from the 25th on."""
    book, model = OrderBook(7), SuccessModel()
    index = np.arange(20_000, dtype=np.uint64)
    third, twenty_eighth = MONDAY - 2 * 86_400, MONDAY + 23 * 86_400
    refused = [model.chances(book.columns(index, np.full(20_000, at))).business.mean() for at in (third, twenty_eighth)]
    assert refused[0] < 0.75 * refused[1]


def test_the_daily_rhythm_has_its_mean_and_its_evening() -> None:
    """Over a week the volume averages near 1, evenings are busiest, nights quietest, and the bound holds."""
    at = MONDAY + 7 * 86_400 + np.arange(7 * 1_440) * 60.0
    week = volume("daily", at)
    assert week.mean() == pytest.approx(1.0, abs=0.02)
    by_hour = week.reshape(7, 24, 60).mean(axis=(0, 2))
    assert 19 <= by_hour.argmax() <= 21
    assert 2 <= by_hour.argmin() <= 5
    assert volume("daily", MONDAY - 5 * 86_400 + np.arange(60 * 24 * 35) * 60.0).max() <= volume_max("daily")


def arrivals_until(seconds: float, arrivals: Arrivals, began: float) -> OrderColumns:
    """All orders of the first so many seconds."""
    parts = []
    while not parts or not len(parts[-1].index) or parts[-1].placed_at[-1] < began + seconds:
        parts.append(arrivals.next_orders(4_096))
    joined = OrderColumns(*(np.concatenate(c) for c in zip(*(p.all() for p in parts), strict=True)))
    return joined.take(joined.placed_at < began + seconds)


def test_orders_come_at_their_rate_with_exponential_gaps() -> None:
    """Mean and spread of the gaps are those of a Poisson process, and times never run backwards."""
    arrivals = Arrivals(3, rate=50, rhythm="flat", plan=IncidentPlan([], MONDAY))
    gaps = np.diff(arrivals_until(1_000, arrivals, MONDAY).placed_at)
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(0.02, rel=0.03)
    assert gaps.std() == pytest.approx(0.02, rel=0.05)


def test_incidents_of_volume_change_the_volume_of_their_segment_and_time_only() -> None:
    """A sale, a quiet night, a drop of one method and card testers each change the counts as they should."""
    plan = IncidentPlan(
        [
            FlashSale(starts_s=100, lasts_s=100, factor=4),
            QuietNight(starts_s=300, lasts_s=100, factor=0.1),
            VolumeDrop(starts_s=500, lasts_s=100, method="upi", factor=0.0),
            CardTesting(starts_s=700, lasts_s=100, orders_factor=0.5),
        ],
        MONDAY,
    )
    orders = arrivals_until(900, Arrivals(5, rate=100, rhythm="flat", plan=plan), MONDAY)
    slot = ((orders.placed_at - MONDAY) // 100).astype(int)
    honest = np.bincount(slot[~orders.fraud], minlength=9) / 10_000
    upi = orders.method == facts.METHODS.index("upi")
    np.testing.assert_allclose(honest[[0, 1, 2, 3, 4, 6, 7, 8]], [1, 4, 1, 0.1, 1, 1, 1, 1], rtol=0.05, atol=0.02)
    assert honest[5] == pytest.approx(1 - facts.METHOD_WEIGHTS[1], abs=0.04)
    assert not upi[(slot == 5) & ((orders.placed_at - MONDAY) % 100 > 0.5)].any()
    assert {7} == set(slot[orders.fraud].tolist())
    assert orders.fraud.sum() == pytest.approx(5_000, rel=0.06)
    assert orders.amount_minor[orders.fraud].max() <= 7_000
