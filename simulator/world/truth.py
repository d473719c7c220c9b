"""The truth that only the world knows: chances of success with the incidents of the moment."""

from __future__ import annotations

import numpy as np

from simulator.world import facts
from simulator.world.arrivals import happening, in_segment
from simulator.world.draws import Floats
from simulator.world.orders import OrderColumns
from simulator.world.outcomes_many import success_under_many
from simulator.world.plan import IncidentPlan
from simulator.world.success import Chances


def success_many(orders: OrderColumns, chances: Chances, now: Floats, plan: IncidentPlan) -> Floats:
    """Chance of success of each order at each gateway, incidents included. Shape (n, gateways).

    Args:
        orders: n orders.
        chances: their chances without incidents.
        now: the moment of each, seconds since epoch, shape (n,).
        plan: the incidents.
    """
    success = chances.success()
    elapsed = now - plan.began_at
    for one in plan.planned:
        if not one.lowers_success:
            continue
        rows = np.flatnonzero(happening(one, elapsed) & in_segment(one, orders))
        if not len(rows):
            continue
        for gateway in range(len(facts.GATEWAYS)) if one.gateway is None else (one.gateway,):
            success[rows, gateway] = success_under_many(one, success[rows, gateway], elapsed[rows])
    return success
