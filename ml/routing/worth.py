"""What a payment is worth at a gateway: what a success earns, less what the gateway takes for success and failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

BPS: Final = 10_000.0


class Fees(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt costs: minor units of the payment's currency, and basis points of the amount on success."""

    fixed_success: float = 0.0
    fixed_failure: float = 0.0
    bps_success: float = 0.0


NO_FEES: Final[Mapping[str, Fees]] = MappingProxyType({})
FREE: Final = Fees()


class Worth(msgspec.Struct, frozen=True):
    """What a payment is worth when it succeeds, and when it fails; minor units."""

    won: float
    lost: float

    def at(self, success: float) -> float:
        """Expected value at this probability of success.

        >>> Worth(300.0, -20.0).at(0.5)
        140.0
        """
        return self.lost + (self.won - self.lost) * success

    def needs(self, value: float) -> float | None:
        """The success at which a payment is expected to be worth so much; None: none is enough."""
        gain = self.won - self.lost
        needed = (value - self.lost) / gain if gain > 0 else 2.0
        return max(0.0, needed) if needed <= 1.0 else None


def worth_of(amount_minor: int, margin_share: float, fee: Fees) -> Worth:
    """What a payment is worth: its margin less the fees, or minus the fee of a failure; minor units."""
    return Worth(amount_minor * (margin_share - fee.bps_success / BPS) - fee.fixed_success, -fee.fixed_failure)


def worth_at(
    gateways: Sequence[str], amount_minor: int, margin_share: float | None, fees: Mapping[str, Fees]
) -> list[Worth] | None:
    """What a payment is worth at each gateway; None: only success counts.

    Where fees take more than a success earns at any of them, success alone counts too: by value, the gateway that fails
    most would be the best, and a shopper who wants to pay is not to be sent there.

    Args:
        gateways: names.
        amount_minor: of the payment; 0: it is not known, and only success counts.
        margin_share: of the amount that a success earns before fees; None: only success counts.
        fees: by gateway; one that is not named is free.

    >>> worth_at(["alpha"], 10_000, 0.1, {"alpha": Fees(fixed_success=20, fixed_failure=5, bps_success=100)})
    [Worth(won=880.0, lost=-5.0)]
    """
    if margin_share is None or amount_minor <= 0:
        return None
    worth = [worth_of(amount_minor, margin_share, fees.get(name, FREE)) for name in gateways]
    return worth if all(each.won > each.lost for each in worth) else None
