"""A guardrail: traffic moves from gateway to gateway only so fast, unless one of them is down."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

MINUTE_S: Final = 60.0
WANTED_OVER: Final = 20.0
"""Over so many decisions the policy's wishes are averaged, to see how large a share a gateway is about to get."""

DECISIONS_MIN: Final = 60
"""Decisions that the minute before must have had; with fewer its shares are chance."""


class Pace:
    """Keeps a gateway's share of first choices from rising by more than a limit from one minute to the next.

    Args:
        rise_max: the limit, as a share of all payments, above 0 to 1; 1 is no limit.
    """

    def __init__(self, rise_max: float) -> None:
        self._rise_max = rise_max
        self._minute = -math.inf
        self._now: defaultdict[str, float] = defaultdict(float)
        self._before: dict[str, float] = {}
        self._wanted: defaultdict[str, float] = defaultdict(float)
        self._weight = 0.0

    def limited(self, gateways: Sequence[str], shares: Sequence[float], now: float) -> list[float]:
        """Limit the probabilities of a decision's gateways to be first, and count the decision.

        What a gateway may not get goes to the others as they had it in the minute before.

        Args:
            gateways: that may take the payment.
            shares: what the policy wants, adding up to 1.
            now: seconds since the epoch.
        """
        if self._rise_max >= 1:
            return list(shares)
        self._turn(now)
        self._want(gateways, shares)
        allowed = list(shares)
        if self._before:
            for place, name in enumerate(gateways):
                wanted = self._wanted[name] / self._weight
                cap = self._before.get(name, 0.0) + self._rise_max
                if wanted > cap:
                    allowed[place] = shares[place] * cap / wanted
            allowed = self._shared_out(gateways, allowed, shares)
        for name, share in zip(gateways, allowed, strict=True):
            self._now[name] += share
        return allowed

    def _shared_out(self, gateways: Sequence[str], allowed: list[float], shares: Sequence[float]) -> list[float]:
        """Give what was cut off to those that were not cut."""
        left = 1.0 - sum(allowed)
        weights = [
            self._before.get(name, 0.0) if after >= before else 0.0
            for name, after, before in zip(gateways, allowed, shares, strict=True)
        ]
        total = sum(weights)
        if left <= 0 or total <= 0:
            return list(shares) if left > 0 else allowed
        return [share + left * weight / total for share, weight in zip(allowed, weights, strict=True)]

    def _turn(self, now: float) -> None:
        minute = now // MINUTE_S
        if minute != self._minute:
            count = sum(self._now.values())
            follows = minute == self._minute + 1
            self._before = {}
            if follows and count >= DECISIONS_MIN:
                self._before = {name: share / count for name, share in self._now.items()}
            self._now.clear()
            self._minute = minute

    def _want(self, gateways: Sequence[str], shares: Sequence[float]) -> None:
        keep = 1.0 - 1.0 / WANTED_OVER
        for name in self._wanted:
            self._wanted[name] *= keep
        self._weight = self._weight * keep + 1.0
        for name, share in zip(gateways, shares, strict=True):
            self._wanted[name] += share
