"""A guardrail: traffic moves from gateway to gateway only so fast, unless one of them is down."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

MINUTE_S: Final = 60.0
WANTED_OVER: Final = 20.0
"""Over so many decisions the policy's wishes are averaged, to see how large a share a gateway is about to get."""

SETS_MAX: Final = 500
"""Sets of gateways remembered; those that were not seen for longest are forgotten."""

DECISIONS_MIN: Final = 60
"""Decisions that the minute before must have had; with fewer its shares are chance."""


class Pace:
    """Keeps a gateway's share of first choices from rising by more than a limit from one minute to the next.

    It is kept for each set of gateways by itself: where one more may take a payment, or one less, is another matter,
    and a gateway that an operator pauses is left at once.

    Args:
        rise_max: the limit, as a share of the payments, above 0 to 1; 1 is no limit.
    """

    def __init__(self, rise_max: float) -> None:
        self._rise_max = rise_max
        self._sets: OrderedDict[tuple[str, ...], _Minute] = OrderedDict()

    def limited(self, gateways: tuple[str, ...], shares: Sequence[float], now: float) -> Sequence[float]:
        """Limit the probabilities of a decision's gateways to be first, and count the decision.

        What a gateway may not get goes to the others as they had it in the minute before.

        Args:
            gateways: that may take the payment.
            shares: what the policy wants, adding up to 1.
            now: seconds since the epoch.
        Returns: the probabilities allowed; the very ones that are wanted where nothing has to be held.
        """
        if self._rise_max >= 1 or len(gateways) < 2:
            return shares
        minute = self._sets.get(gateways)
        if minute is None:
            minute = self._sets[gateways] = _Minute(len(gateways))
            if len(self._sets) > SETS_MAX:
                self._sets.popitem(last=False)
        self._sets.move_to_end(gateways)
        return minute.limited(shares, self._rise_max, now)


class _Minute:
    """One set of gateways: first choices of this minute and of the one before, by place."""

    def __init__(self, count: int) -> None:
        self._number = -math.inf
        self._now = [0.0] * count
        self._before: list[float] | None = None
        self._wanted = [0.0] * count
        self._weight = 0.0

    def limited(self, shares: Sequence[float], rise_max: float, now: float) -> Sequence[float]:
        """See ``Pace.limited``."""
        self._turn(now // MINUTE_S)
        keep = 1.0 - 1.0 / WANTED_OVER
        self._weight = self._weight * keep + 1.0
        self._wanted = [wanted * keep + share for wanted, share in zip(self._wanted, shares, strict=True)]
        allowed = shares
        if self._before is not None:
            caps = [before + rise_max for before in self._before]
            wanted = [each / self._weight for each in self._wanted]
            if any(each > cap for each, cap in zip(wanted, caps, strict=True)):
                allowed = self._cut(shares, wanted, caps)
        self._now = [counted + share for counted, share in zip(self._now, allowed, strict=True)]
        return allowed

    def _cut(self, shares: Sequence[float], wanted: Sequence[float], caps: Sequence[float]) -> Sequence[float]:
        assert self._before is not None
        cut = [each > cap for each, cap in zip(wanted, caps, strict=True)]
        kept = [
            share * cap / want if is_cut else share
            for share, cap, want, is_cut in zip(shares, caps, wanted, cut, strict=True)
        ]
        left = 1.0 - sum(kept)
        weights = [0.0 if is_cut else before for before, is_cut in zip(self._before, cut, strict=True)]
        total = sum(weights)
        if total <= 0:
            return shares
        return [share + left * weight / total for share, weight in zip(kept, weights, strict=True)]

    def _turn(self, number: float) -> None:
        if number == self._number:
            return
        count = sum(self._now)
        follows = number == self._number + 1 and count >= DECISIONS_MIN
        self._before = [share / count for share in self._now] if follows else None
        self._now = [0.0] * len(self._now)
        self._number = number
