"""Payments promised to gateways: how large a share of the coming ones each still needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from ml.routing.rules import Commitment

Period = Literal["day", "week", "month"]

SHARE_MAX: Final = 0.5
"""A promise never takes more than this share of the payments: shoppers come first."""

KEEP: Final = 1.0 - 1.0 / 1_000.0
"""Decisions are averaged over a thousand."""

OBSERVED_MIN: Final = 50.0
"""Decisions before it is known how many of them a gateway can take."""

PAYMENTS_MIN: Final = 100
"""Payments of a period before its pace is known; until then the policy decides alone."""


def period_of(now: datetime, per: Period) -> tuple[datetime, datetime]:
    """Begin and end of the day, week (from Monday) or month that a moment lies in, UTC.

    >>> [each.day for each in period_of(datetime(2026, 2, 11, 5, tzinfo=UTC), "month")]
    [1, 1]
    """
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "day":
        return day, day + timedelta(days=1)
    if per == "week":
        begin = day - timedelta(days=day.weekday())
        return begin, begin + timedelta(days=7)
    begin = day.replace(day=1)
    return begin, (begin + timedelta(days=32)).replace(day=1)


class Commitments:
    """Counts first attempts by gateway in the present periods.

    Args:
        promised: what was promised to whom.
    """

    def __init__(self, promised: Iterable[Commitment] = ()) -> None:
        self._promised = list(promised)
        self._counts: dict[tuple[Period, datetime], Counter[str]] = {}
        self._seen = dict.fromkeys((each.gateway for each in self._promised), 0.0)
        self._able: dict[str, float] = dict(self._seen)
        self._own: dict[str, float] = dict(self._seen)

    def observe(self, shares: Mapping[str, float]) -> None:
        """Note a decision: who could take the payment, and with which probability it would have been first anyway.

        Args:
            shares: by gateway that could take it.
        """
        for name in self._seen:
            self._seen[name] = self._seen[name] * KEEP + 1.0
            self._able[name] = self._able[name] * KEEP + (name in shares)
            self._own[name] = self._own[name] * KEEP + shares.get(name, 0.0)

    def periods(self, now: datetime) -> list[tuple[Period, datetime]]:
        """Each length of time that is counted, and when its present one began."""
        lengths = dict.fromkeys(each.per for each in self._promised)
        return [(per, period_of(now, per)[0]) for per in lengths]

    def set(self, period: tuple[Period, datetime], counts: Mapping[str, int]) -> None:
        """Begin with what was counted elsewhere."""
        self._counts[period] = Counter(counts)

    def count(self, gateway: str, at: datetime, now: datetime) -> None:
        """Count one first attempt; one of an earlier period is too late for the present promise."""
        for period in self.periods(now):
            if at >= period[1]:
                if period not in self._counts:
                    self._counts = {known: count for known, count in self._counts.items() if known[0] != period[0]}
                    self._counts[period] = Counter()
                self._counts[period][gateway] += 1

    def floors(self, now: datetime) -> dict[str, float]:
        """Floor under each gateway, in the payments that it can take, from which it gets what is left of its promise.

        What the policy would send it anyway counts.
        """
        found: dict[str, float] = {}
        for each in self._promised:
            begin, end = period_of(now, each.per)
            counts = self._counts.get((each.per, begin), Counter())
            total = counts.total()
            if total < PAYMENTS_MIN:
                continue
            to_come = total / max((now - begin).total_seconds(), 1.0) * (end - now).total_seconds()
            able, own = self._usual(each.gateway)
            missing = each.payments - counts[each.gateway]
            needed = min(missing / max(to_come * able, 1.0), SHARE_MAX)
            if needed > own:
                found[each.gateway] = max(found.get(each.gateway, 0.0), (needed - own) / (1.0 - own))
        return found

    def _usual(self, gateway: str) -> tuple[float, float]:
        """Share of the payments that a gateway can take, and the share of these that the policy gives it."""
        seen, able = self._seen[gateway], self._able[gateway]
        if seen < OBSERVED_MIN or able <= 0:
            return 1.0, 0.0
        return able / seen, self._own[gateway] / able
