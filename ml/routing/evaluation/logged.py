"""One decision as it was logged, with what became of its payment."""

from __future__ import annotations

import msgspec

from ml.routing.context import RoutingContext


class LoggedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision on the first attempt of an order.

    Attributes:
        at: when it was made, seconds since the epoch.
        context: the payment.
        eligible: gateways that could have been put first.
        propensities: probability of each of them to be put first; they add up to 1.
        gateway: the one that was.
        succeeded: how the attempt there ended; None: that is not known.
        known_at: since when that is known, seconds since the epoch; None: it is not.
        unit: decisions of one unit vary together: of one customer, or of one order where no customer is known; None:
            the decision varies alone.
        by_operator: an operator's override chose, as it would have above any policy; the outcome teaches all the same.
    """

    at: float
    context: RoutingContext
    eligible: tuple[str, ...]
    propensities: tuple[float, ...]
    gateway: str
    succeeded: bool | None = None
    known_at: float | None = None
    unit: str | None = None
    by_operator: bool = False

    @property
    def propensity(self) -> float:
        """Of the gateway that was put first."""
        return self.propensities[self.eligible.index(self.gateway)]


def unit_of(decision: LoggedDecision, number: int) -> str:
    """Name what a decision varies together with; without a unit that is itself alone, by its number."""
    return f"decision {number}" if decision.unit is None else f"unit {decision.unit}"
