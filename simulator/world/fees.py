"""What the gateways of this world take for an attempt."""

from __future__ import annotations

from simulator.world import facts
from simulator.world.orders import Order


def fee_minor(order: Order, gateway: int, *, succeeded: bool) -> float:
    """The fee of one attempt, minor units: a fixed part, and basis points of the amount when it succeeds."""
    fixed_success, fixed_failure, points = facts.FEES[facts.GATEWAYS[gateway]]
    if not succeeded:
        return float(fixed_failure)
    factor = facts.UPI_FEE_FACTOR if facts.METHODS[order.method] == "upi" else 1.0
    return fixed_success * factor + order.amount_minor * points * factor / 10_000
