"""What is believed of one gateway's success for one payment."""

from __future__ import annotations

import msgspec

from ml.routing.node import chance

QUANTILE: float = 1.6448536269514722
"""Of the standard normal, for a central 90 % interval."""


class Belief(msgspec.Struct, gc=False):
    """A normal posterior on the log-odds scale, and the evidence behind it.

    Attributes:
        log_odds: posterior mean.
        deviation: posterior standard deviation, > 0.
        own: effective payments like this one.
        borrowed: effective payments that the gateway's other traffic counts as.
        mean: expected success, 0 to 1.
        base: success before a sudden change that still holds; None: there is none.
        is_whole: whether that change holds for all of the gateway's payments.
        unseen_s: since when nothing was heard of the gateway and nothing was tried, seconds ago.
        rising: evidence that success has just risen, log likelihood ratio, >= 0.
        rising_s: for how long it has looked like that, seconds; 0 while outcomes of the gateway are awaited.
        risen: success since then, if so.
        risen_payments: payments that ``risen`` rests on.
        shift: part of ``log_odds`` that the reliability model added.
    """

    log_odds: float
    deviation: float
    own: float
    borrowed: float
    mean: float
    base: float | None = None
    is_whole: bool = False
    unseen_s: float = 0.0
    rising: float = 0.0
    rising_s: float = 0.0
    risen: float = 0.0
    risen_payments: float = 0.0
    shift: float = 0.0

    def shift_by(self, log_odds: float) -> None:
        """Add what the reliability model knows of this payment."""
        self.shift += log_odds
        self.log_odds += log_odds
        self.mean = chance(self.log_odds)

    @property
    def low(self) -> float:
        """Lower end of the central 90 % interval."""
        return chance(self.log_odds - QUANTILE * self.deviation)

    @property
    def high(self) -> float:
        """Upper end of the central 90 % interval."""
        return chance(self.log_odds + QUANTILE * self.deviation)
