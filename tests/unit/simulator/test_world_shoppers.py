"""What shoppers do after a failure."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.scenario import load_dialects
from simulator.world import facts
from simulator.world.failures import CATEGORIES
from simulator.world.orders import OrderBook, OrderColumns
from simulator.world.plan import IncidentPlan
from simulator.world.shoppers import ATTEMPTS_MAX, REACTIONS, Shoppers
from simulator.world.world import World

BEGAN = 1_800_000_000.0


def some_orders(count: int) -> OrderColumns:
    """Orders at one moment."""
    return OrderBook(7).columns(np.arange(count, dtype=np.uint64), np.full(count, BEGAN))


def a_world() -> World:
    """A world without incidents."""
    return World(7, plan=IncidentPlan([], BEGAN), dialects=load_dialects(), rate=1)


def test_reactions_know_every_category() -> None:
    """There is a reaction to each failure, and no reaction adds up to more than one."""
    assert set(CATEGORIES) == set(REACTIONS)
    assert max(sum(shares) for shares in REACTIONS.values()) <= 1


@given(st.integers(1, 5), st.integers(0, len(CATEGORIES) - 1), st.floats(0, 60_000))
@settings(max_examples=30, deadline=None)
def test_one_and_many_react_alike(number: int, category: int, waited_ms: float) -> None:
    """Choice, moment and method are the same for one shopper and for many."""
    columns, shoppers = some_orders(200), Shoppers(7)
    many = shoppers.react_many(columns, number, np.full(200, category), np.full(200, waited_ms))
    for row, order in enumerate(a_world().orders(columns)):
        one = shoppers.react(order, number, CATEGORIES[category], waited_ms)
        assert (one.choice != "give_up") == many.again[row]
        if many.again[row]:
            assert (one.after_s, one.method) == (many.after_s[row], many.method[row])
            assert (one.choice == "switch") == many.switching[row]


def test_long_waits_and_impatience_make_shoppers_give_up() -> None:
    """Fewer try again after a long wait, and impatient shoppers give up more often than patient ones."""
    columns, shoppers = some_orders(20_000), Shoppers(7)
    category = np.full(20_000, CATEGORIES.index("processing_error"))
    soon = shoppers.react_many(columns, 1, category, np.full(20_000, 500.0)).again
    late = shoppers.react_many(columns, 1, category, np.full(20_000, 40_000.0)).again
    assert late.mean() < 0.5 * soon.mean()
    assert soon[columns.patience < 0.3].mean() < 0.8 * soon[columns.patience > 0.7].mean()


def test_nobody_tries_more_often_than_the_limit() -> None:
    """After the last attempt everybody gives up."""
    columns = some_orders(500)
    again = Shoppers(7).react_many(columns, ATTEMPTS_MAX, np.zeros(500, dtype=np.int64), np.zeros(500)).again
    assert not again.any()


def test_a_switched_order_keeps_the_shopper_and_the_sum() -> None:
    """Another method changes how it is paid, never who pays how much; only cards get a network."""
    world = a_world()
    for order in world.orders(some_orders(50)):
        for place, method in enumerate(facts.METHODS):
            other = world.switched(order, place, BEGAN + 5)
            kept = (other.index, other.customer, other.amount_minor, other.patience)
            assert (order.index, order.customer, order.amount_minor, order.patience) == kept
            assert method == facts.METHODS[other.method]
            assert (other.network == facts.NO_NETWORK) == (method != "card")
