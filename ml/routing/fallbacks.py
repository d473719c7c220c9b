"""What earlier failures of an order say of the next try, and of where to make it.

Many payments fail everywhere, so a second attempt succeeds less often than a first one at any gateway; and two gateways
that share an acquirer or a risk engine fail together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from ml.routing.node import chance, logit

HALF_LIFE_S: Final = 4 * 86_400.0
"""A second attempt this long ago counts half."""

WORTH: Final = 30.0
"""Second attempts that a gateway's own rate counts as against what was seen after one particular failure."""

FAILURES_MAX: Final = 3
"""Failures of an order that are told apart; more count as so many."""

PAIRS_MAX: Final = 10_000
"""Pairs of gateways remembered at most; a hundred gateways have so many."""


COUNTS_MIN: Final = 1e-3
"""Attempts that have faded to fewer say nothing."""


class _Counts:
    """Second attempts, the older the less they count."""

    __slots__ = ("at", "expected", "payments", "succeeded")

    def __init__(self, at: float) -> None:
        self.payments = self.succeeded = self.expected = 0.0
        self.at = at

    def at_time(self, now: float) -> tuple[float, float]:
        """Payments and successes, as much as they count now."""
        keep = 0.5 ** (max(0.0, now - self.at) / HALF_LIFE_S)
        return self.payments * keep, self.succeeded * keep

    def add(self, succeeded: float, failed: float, at: float, expected: float = 0.0) -> None:
        """Count one, or take one back; ``expected`` is the success that was expected of it."""
        keep = 0.5 ** (max(0.0, at - self.at) / HALF_LIFE_S)
        weight = 0.5 ** (max(0.0, self.at - at) / HALF_LIFE_S)
        self.payments = max(0.0, self.payments * keep + weight * (succeeded + failed))
        self.succeeded = min(max(0.0, self.succeeded * keep + weight * succeeded), self.payments)
        self.expected = max(0.0, self.expected * keep + weight * (succeeded + failed) * expected)
        self.at = max(self.at, at)


class Fallbacks:
    """How much less often a payment succeeds that has failed before, and how much better or worse each gateway does
    after one particular gateway failed than after any.

    The first is the same for every gateway that might be next, so it changes what is expected and no order.
    """

    def __init__(self) -> None:
        self._after_failures = [_Counts(-math.inf) for _ in range(FAILURES_MAX)]
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

    def learn_level(self, failures: int, *, expected: float, succeeded: float, not_succeeded: float, at: float) -> None:
        """Take in an attempt of an order that has failed before.

        Args:
            failures: how often, >= 1.
            expected: success that would be expected of it, had it not.
            succeeded: 1, or 0; -1 takes a success back.
            not_succeeded: the same for a failure.
            at: when it was made, seconds since the epoch.
        """
        self._after_failures[min(failures, FAILURES_MAX) - 1].add(succeeded, not_succeeded, at, expected)

    def level(self, failures: int, now: float) -> float:
        """What so many failures say of the next try anywhere: log odds to add; 0 where nothing is known.

        One more failure is thought to say as much as one less, until the attempts after it tell.
        """
        level = 0.0
        for counts in self._after_failures[:failures]:
            payments, succeeded = counts.at_time(now)
            if payments < COUNTS_MIN or counts.expected <= 0.0:
                continue
            usual = logit(counts.expected / counts.payments)
            level = logit((succeeded + WORTH * chance(usual + level)) / (payments + WORTH)) - usual
        return level

    def shift(self, failed: str, gateway: str, now: float) -> float:
        """What the failure says of the next gateway: log odds to add; 0 where nothing is known, or it was long ago."""
        pair, own = self._pairs.get((failed, gateway)), self._after_any.get(gateway)
        if pair is None or own is None or own.payments <= 0:
            return 0.0
        usual = own.succeeded / own.payments
        payments, succeeded = pair.at_time(now)
        return logit((succeeded + WORTH * usual) / (payments + WORTH)) - logit(usual)

    def expected(self, failed: str, gateway: str, success: float, now: float) -> float:
        """A gateway's expected success once the failure is known, relative to that of the others."""
        shift = self.shift(failed, gateway, now)
        return chance(logit(success) + shift) if shift else success

    def shifts(self, failed: Sequence[str], gateways: Sequence[str], now: float) -> list[float]:
        """What the failures of an order, one after the other, say of its next try at each gateway, log odds."""
        level = self.level(len(failed), now)
        return [level + sum(self.shift(name, gateway, now) for name in failed) for gateway in gateways]
