"""Which gateway to try after another one failed: two that share an acquirer or a risk engine fail together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from ml.routing.node import chance, logit

HALF_LIFE_S: Final = 4 * 86_400.0
"""A second attempt this long ago counts half."""

WORTH: Final = 30.0
"""Second attempts that a gateway's own rate counts as against what was seen after one particular failure."""

PAIRS_MAX: Final = 10_000
"""Pairs of gateways remembered at most; a hundred gateways have so many."""


class _Counts:
    """Second attempts, the older the less they count."""

    __slots__ = ("at", "payments", "succeeded")

    def __init__(self, at: float) -> None:
        self.payments = self.succeeded = 0.0
        self.at = at

    def add(self, succeeded: float, failed: float, at: float) -> None:
        """Count one, or take one back."""
        keep = math.exp(-max(0.0, at - self.at) * math.log(2) / HALF_LIFE_S)
        weight = math.exp(min(0.0, at - self.at) * math.log(2) / HALF_LIFE_S)
        self.payments = max(0.0, self.payments * keep + weight * (succeeded + failed))
        self.succeeded = min(max(0.0, self.succeeded * keep + weight * succeeded), self.payments)
        self.at = max(self.at, at)


class Fallbacks:
    """How much better or worse each gateway does after one particular gateway failed than after any.

    Only this difference is used: that second attempts succeed less often than first ones, because many payments fail
    everywhere, is the same for every gateway that might be next.
    """

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], _Counts] = {}
        self._after_any: dict[str, _Counts] = {}

    def learn(self, failed: str, gateway: str, *, succeeded: float, not_succeeded: float, at: float) -> None:
        """Take in a second attempt.

        Args:
            failed: the gateway of the first attempt.
            gateway: of the second.
            succeeded: 1, or 0; -1 takes a success back.
            not_succeeded: the same for a failure.
            at: when it was made, seconds since the epoch.
        """
        pair = failed, gateway
        if pair not in self._pairs and len(self._pairs) >= PAIRS_MAX:
            return
        for counts in (self._pairs.setdefault(pair, _Counts(at)), self._after_any.setdefault(gateway, _Counts(at))):
            counts.add(succeeded, not_succeeded, at)

    def shift(self, failed: str, gateway: str) -> float:
        """What the failure says of the next gateway: log odds to add; 0 where nothing is known."""
        pair, own = self._pairs.get((failed, gateway)), self._after_any.get(gateway)
        if pair is None or own is None or own.payments <= 0:
            return 0.0
        usual = own.succeeded / own.payments
        return logit((pair.succeeded + WORTH * usual) / (pair.payments + WORTH)) - logit(usual)

    def expected(self, failed: str, gateway: str, success: float) -> float:
        """A gateway's expected success once the failure is known, relative to that of the others."""
        shift = self.shift(failed, gateway)
        return chance(logit(success) + shift) if shift else success

    def shifts(self, failed: Sequence[str], gateways: Sequence[str]) -> list[float]:
        """The sum of what several failures say of each gateway."""
        return [sum(self.shift(name, gateway) for name in failed) for gateway in gateways]
