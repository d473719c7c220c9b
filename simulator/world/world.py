"""The whole payments world of one seed, for going through it order by order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from simulator.world import facts
from simulator.world.arrivals import Arrivals
from simulator.world.failures import Dialect
from simulator.world.incidents import SuccessKinds, success_under
from simulator.world.orders import Order, OrderBook, OrderColumns
from simulator.world.outcomes import Outcome, OutcomeModel
from simulator.world.plan import IncidentPlan
from simulator.world.rhythm import Rhythm
from simulator.world.shoppers import Reaction, Shoppers
from simulator.world.success import SuccessModel


class World:
    """Orders, outcomes and shoppers of one seed under one plan of incidents.

    Args:
        seed: decides everything that is luck.
        plan: the incidents.
        dialects: what each gateway says, in the order of ``facts.GATEWAYS``.
        rate: mean orders per second of the world's time.
        rhythm: how the rate follows the clock.
        capacity_per_s: attempts per second of the world's time that a gateway takes at most, by name; others take any.
    """

    def __init__(
        self,
        seed: int,
        *,
        plan: IncidentPlan,
        dialects: Sequence[Dialect],
        rate: float,
        rhythm: Rhythm = "flat",
        capacity_per_s: Mapping[str, float] | None = None,
    ) -> None:
        self.plan = plan
        self._capacity = dict(capacity_per_s or {})
        self._second = 0
        self._taken = [0] * len(facts.GATEWAYS)
        self._arrivals = Arrivals(seed, rate=rate, rhythm=rhythm, plan=plan)
        self._book = OrderBook(seed)
        self._success = SuccessModel()
        self._outcomes = OutcomeModel(seed, dialects)
        self._shoppers = Shoppers(seed)

    def next_orders(self, candidates: int = 256) -> list[Order]:
        """The next orders to come, by time; possibly none, then ask again."""
        return self.orders(self._arrivals.next_orders(candidates))

    def order(self, index: int, placed_at: float) -> Order:
        """Any one order, placed at any moment (seconds since epoch)."""
        return self.orders(self._book.columns(np.array([index], dtype=np.uint64), np.array([placed_at])))[0]

    def orders(self, columns: OrderColumns) -> list[Order]:
        """Turn columns into records, with the chances that only the world knows."""
        chances = self._success.chances(columns)
        fields = [column.tolist() for column in columns.all()]
        fields += [chances.business.tolist(), chances.technical.tolist(), map(tuple, chances.acceptance.tolist())]
        names = Order.__struct_fields__
        return [Order(**dict(zip(names, row, strict=True))) for row in zip(*fields, strict=True)]

    def attempt(self, order: Order, gateway: int, number: int, now: float) -> Outcome:
        """Try to pay an order (attempt ``number``, from 1) at a gateway at a moment of the world's time.

        Moments must not run backwards by more than a second when gateways have a capacity.
        """
        if self._capacity and self._is_full(gateway, now):
            return self._outcomes.throttled(order, gateway, number)
        return self._outcomes.outcome(order, gateway, number, now, self.plan)

    def _is_full(self, gateway: int, now: float) -> bool:
        """Count an attempt; tell whether the gateway had room for it in this second."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._taken = [0] * len(facts.GATEWAYS)
        self._taken[gateway] += 1
        return self._taken[gateway] > self._capacity.get(facts.GATEWAYS[gateway], math.inf)

    def success_probabilities(self, order: Order, now: float) -> tuple[float, ...]:
        """The truth: chance of success by gateway, incidents included. Never for the system under test."""
        answered = (1 - order.business) * (1 - order.technical)
        chances = tuple(answered * acceptance for acceptance in order.acceptance)
        active = [one for one in self.plan.active(now) if isinstance(one.incident, SuccessKinds)]
        if not active:
            return chances
        elapsed = now - self.plan.began_at
        reduced = list(chances)
        for one in active:
            assert isinstance(one.incident, SuccessKinds)
            for gateway in range(len(facts.GATEWAYS)):
                if one.touches(gateway, order.method, order.issuer, order.network):
                    progress = one.incident.progress(elapsed)
                    reduced[gateway] = success_under(one.incident, reduced[gateway], progress)
        return tuple(reduced)

    def reaction(self, order: Order, number: int, category: str, waited_ms: float) -> Reaction:
        """What the shopper does after attempt ``number`` failed for ``category``."""
        return self._shoppers.react(order, number, category, waited_ms)

    def switched(self, order: Order, method: int, now: float) -> Order:
        """The same order paid with another method of the same customer, or the same method from another account."""
        columns = OrderColumns(*(np.array([getattr(order, name)]) for name in OrderColumns.__struct_fields__))
        columns = msgspec.structs.replace(columns, index=columns.index.astype(np.uint64))
        return self.orders(self._book.switched(columns, np.array([method]), np.array([now])))[0]
