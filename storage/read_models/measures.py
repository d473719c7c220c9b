"""The measures that every read model shares: a rate with its interval, latency quantiles, money by currency."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from ml.experiments.intervals import Interval, Proportion, wilson_interval
from storage import rollups
from storage.errors import StoreRefused

QUERY_MS_MAX: Final = 5_000
"""A query for a page that takes longer is given up; the page says so."""

WINDOW_MINUTES: Final = 15
"""What "now" means on the pages: the minutes that a figure looks back."""

LATENCY_BUCKETS: Final = rollups.LATENCY_BUCKETS
LATENCY_MS_FIRST: Final = rollups.LATENCY_FIRST_MS
LATENCY_RATIO: Final = rollups.LATENCY_GROWTH
"""How the sums count latencies, for every reader of them."""

Read = TypeVar("Read")


class Rate(msgspec.Struct, frozen=True):
    """A success rate with what it rests on; without attempts there is no rate."""

    succeeded: int
    settled: int
    rate: float | None
    low: float | None
    high: float | None


class Money(msgspec.Struct, frozen=True):
    """An amount in minor units of one currency; amounts of different currencies are never added."""

    currency: str
    amount_minor: int


def rate_of(succeeded: int, settled: int) -> Rate:
    """The authorization rate with its Wilson 95 % interval.

    Args:
        succeeded: attempts that were authorized and stayed so.
        settled: attempts that are neither pending nor abandoned, >= succeeded.
    Returns: the rate as a share 0 to 1; None when nothing is settled yet.
    """
    interval = wilson_interval(Proportion(succeeded, settled))
    if not isinstance(interval, Interval):
        return Rate(succeeded, settled, None, None, None)
    return Rate(succeeded, settled, interval.estimate, interval.low, interval.high)


def latency_quantile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """Estimate a quantile from counts per bucket, to within the width of a bucket (25 %).

    Args:
        counts: attempts per bucket index.
        share: the quantile, 0 to 1.
    Returns: milliseconds; None when no latency was reported.

    >>> latency_quantile_ms({}, 0.5) is None
    True
    >>> round(latency_quantile_ms({10: 4}, 0.5))
    104
    """
    total = sum(counts.values())
    if total <= 0:
        return None
    wanted, seen = share * total, 0
    for bucket in sorted(counts):
        if counts[bucket] > 0 and seen + counts[bucket] >= wanted:
            within = (wanted - seen) / counts[bucket]
            return float(LATENCY_MS_FIRST * LATENCY_RATIO ** (bucket + within))
        seen += counts[bucket]
    return float(LATENCY_MS_FIRST * LATENCY_RATIO ** (max(counts) + 1))


def minutes_ago(now: datetime, minutes: float) -> datetime:
    """The start of the minute so long ago, so that a window holds whole rollups only."""
    return (now.astimezone(UTC) - timedelta(minutes=minutes)).replace(second=0, microsecond=0)


def read_as(document: Mapping[str, Any], kind: type[Read], collection: str) -> Read:
    """Read a stored document as a struct.

    Raises: StoreRefused: the document does not have that shape; says which one.
    """
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise StoreRefused(f"{collection} {str(document.get('_id'))[:80]!r} cannot be read: {error}") from None
