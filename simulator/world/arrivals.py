"""When orders come: a Poisson process whose rate follows the rhythm and the incidents."""

from __future__ import annotations

import numpy as np

from simulator.world.draws import Floats, halves_many, stream_key, words_at
from simulator.world.incidents import CardTesting, VolumeKinds
from simulator.world.orders import Flags, OrderBook, OrderColumns
from simulator.world.plan import LOOK_S, IncidentPlan, PlannedIncident
from simulator.world.rhythm import Rhythm, volume, volume_max


class Arrivals:
    """The orders of one run in the order of their coming.

    Args:
        seed: of the world.
        rate: mean orders per second of the world's time, > 0.
        rhythm: how the rate follows the clock.
        plan: incidents; those of volume change the rate. ``plan.began_at`` is when the first order may come.
    Raises: ValueError: the rate is not above 0.
    """

    def __init__(self, seed: int, *, rate: float, rhythm: Rhythm, plan: IncidentPlan) -> None:
        if not rate > 0:
            raise ValueError(f"rate is {rate}, must be above 0 orders a second")
        self._key = stream_key(seed, "arrivals")
        self._book = OrderBook(seed)
        self._rate = rate
        self._rhythm = rhythm
        self._plan = plan
        self._index = 0
        self._at = plan.began_at

    def next_orders(self, candidates: int = 256) -> OrderColumns:
        """The next orders to come: about ``candidates`` when the volume is at its highest, otherwise fewer, or none.

        Candidates come at the highest rate there can be, and each is kept with the share that the rate then has of it
        (Lewis, Shedler (1979), Naval Research Logistics 26(3), 403-413).
        """
        quiet = volume_max(self._rhythm)
        until = self._at + candidates / (self._rate * quiet)
        factor_max = quiet * self._plan.volume_factor_max(self._at - LOOK_S, until + LOOK_S)
        index = np.arange(self._index, self._index + candidates, dtype=np.uint64)
        luck_gap, luck_kept = halves_many(words_at(self._key, index))
        placed_at = self._at + np.cumsum(-np.log(luck_gap)) / (self._rate * factor_max)
        # The highest rate is known up to ``until`` only; a Poisson process may be begun anew at any moment.
        count = int(placed_at.searchsorted(until))
        self._index += candidates
        self._at = float(placed_at[-1]) if count == candidates else until
        index, placed_at = index[:count], placed_at[:count]
        height = luck_kept[:count] * factor_max
        usual = volume(self._rhythm, placed_at)
        tested = np.zeros(count)
        elapsed = placed_at - self._plan.began_at
        for one in self._plan.planned:
            if isinstance(one.incident, CardTesting):
                tested += np.where(happening(one, elapsed), one.incident.orders_factor, 0.0)
        fraud = height < tested
        orders = self._book.columns(index, placed_at, fraud)
        for one in self._plan.planned:
            if isinstance(one.incident, VolumeKinds):
                touched = happening(one, elapsed) & in_segment(one, orders)
                usual = np.where(touched, usual * one.incident.factor, usual)
        return orders.take(fraud | (height - tested < usual))


def happening(one: PlannedIncident, elapsed_s: Floats) -> Flags:
    """When an incident is under way. Shape (n,)."""
    incident = one.incident
    since = np.floor(elapsed_s / LOOK_S) * LOOK_S - incident.starts_s
    within = since if incident.repeats_every_s is None else since % incident.repeats_every_s
    flags: Flags = (since >= 0) & (within < incident.lasts_s)
    return flags


def in_segment(one: PlannedIncident, orders: OrderColumns) -> Flags:
    """Which orders belong to an incident's segment, whatever their gateway. Shape (n,)."""
    flags: Flags = np.ones(len(orders.index), dtype=np.bool_)
    for place, column in ((one.method, orders.method), (one.issuer, orders.issuer), (one.network, orders.network)):
        if place is not None:
            flags &= column == place
    return flags
