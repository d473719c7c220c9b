"""What was saved while something was unwell: payments that went elsewhere and succeeded there."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from messaging.contracts import Anomaly
from ml.experiments.intervals import Interval, Proportion, newcombe_interval
from storage.database import Database
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX, Rate, rate_of
from storage.rollups import minute_of

BEFORE: Final = timedelta(hours=1)
"""How long before the anomaly the usual share of its gateway is taken from."""

LONGEST: Final = timedelta(days=7)
SETTLED_MIN: Final = 10
"""Settled first attempts that each side needs: at the gateway meanwhile, and at the others."""


class Side(msgspec.Struct, frozen=True):
    """First attempts of a time: made, succeeded, settled, and their amount in minor units."""

    made: int = 0
    succeeded: int = 0
    settled: int = 0
    amount_minor: int = 0


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What routing around an unwell gateway brought; compared with its usual share of the payments.

    Attributes:
        moved: first attempts that it would have had by its share of the hour before, and did not have.
        share_before, share_meanwhile: of the first attempts; None: there were none.
        there, elsewhere: success of first attempts at the gateway and at the others, meanwhile.
        payments: of those that moved, how many more succeeded than would have; a 95 % interval.
        amount_minor: what these are worth at the mean amount; None where payments have several currencies.
        why_not: why there is no answer, in words; None: there is one.
    """

    moved: int = 0
    share_before: float | None = None
    share_meanwhile: float | None = None
    there: Rate | None = None
    elsewhere: Rate | None = None
    payments: Interval | None = None
    amount_minor: Interval | None = None
    currency: str | None = None
    why_not: str | None = None


async def read_saved(database: Database, anomaly: Anomaly, now: datetime) -> Saved:
    """Read the sums of an anomaly's time and of the hour before, and compare."""
    segment = anomaly.segment
    if segment.gateway is None:
        return Saved(why_not="It is not at one gateway, so there was nowhere else to go.")
    if segment.network is not None or segment.country is not None:
        return Saved(why_not="Sums are not kept by network or country, so it cannot be told for this segment.")
    first = minute_of(anomaly.started_at)  # half well, half unwell: it is on neither side
    end = min(anomaly.closed_at or now, anomaly.started_at + LONGEST)
    if anomaly.closed_at is not None:
        end = minute_of(end)
    wanted: dict[str, Any] = {"minute": {"$gte": anomaly.started_at - BEFORE, "$lt": end, "$ne": first}}
    wanted |= {name: value for name in ("method", "issuer") if (value := getattr(segment, name)) is not None}
    sums: dict[str, Any] = {
        "made": {"$sum": "$first_attempts"}, "succeeded": {"$sum": "$first_succeeded"},
        "all": {"$sum": "$attempts"}, "settled": {"$sum": {"$add": [{"$ifNull": [f"${name}", 0]} for name in
                                                                    ("succeeded", "failed", "reversed")]}},
        "amount": {"$sum": "$amount_minor"},
    }  # fmt: skip
    key = {
        "meanwhile": {"$gt": ["$minute", first]},
        "there": {"$eq": ["$gateway", segment.gateway]},
        "currency": "$currency",
    }
    sides: dict[tuple[bool, bool], Side] = {}
    currencies: set[str] = set()
    with translated():
        cursor = await database["attempt_rollups"].aggregate(
            [{"$match": wanted}, {"$group": {"_id": key, **sums}}], maxTimeMS=QUERY_MS_MAX
        )
        async for row in cursor:
            place = row["_id"]["meanwhile"], row["_id"]["there"]
            currencies.add(row["_id"]["currency"])
            sides[place] = _added(sides.get(place, Side()), row)
    currency = currencies.pop() if len(currencies) == 1 else None
    return saved_of(
        before=(sides.get((False, True), Side()), sides.get((False, False), Side())),
        meanwhile=(sides.get((True, True), Side()), sides.get((True, False), Side())),
        currency=currency,
    )


def saved_of(*, before: tuple[Side, Side], meanwhile: tuple[Side, Side], currency: str | None) -> Saved:
    """Compare the time of an anomaly with the time before.

    Args:
        before: first attempts at the gateway, and at the others.
        meanwhile: the same, while it was unwell.
        currency: of all amounts; None: there are several.
    """
    there, elsewhere = meanwhile
    total, total_before = there.made + elsewhere.made, before[0].made + before[1].made
    if not total or not total_before:
        return Saved(why_not="Not enough data yet: no full minute with payments, or none in the hour before.")
    share_before = before[0].made / total_before
    known = Saved(
        moved=max(0, round(share_before * total) - there.made),
        share_before=share_before,
        share_meanwhile=there.made / total,
        there=rate_of(there.succeeded, there.settled),
        elsewhere=rate_of(elsewhere.succeeded, elsewhere.settled),
        currency=currency,
    )
    if not known.moved:
        return msgspec.structs.replace(known, why_not="No payments moved away from it.")
    if min(there.settled, elsewhere.settled) < SETTLED_MIN:
        seen = f"{there.settled} settled there and {elsewhere.settled} elsewhere"
        return msgspec.structs.replace(known, why_not=f"Not enough data yet: {seen}, {SETTLED_MIN} each are needed.")
    gain = newcombe_interval(
        Proportion(there.succeeded, there.settled), Proportion(elsewhere.succeeded, elsewhere.settled)
    )
    amount = None
    if currency is not None:
        mean = (there.amount_minor + elsewhere.amount_minor) / total
        amount = _times(gain, known.moved * mean)
    return msgspec.structs.replace(known, payments=_times(gain, known.moved), amount_minor=amount)


def _times(interval: Interval, factor: float) -> Interval:
    return Interval(interval.estimate * factor, interval.low * factor, interval.high * factor)


def _added(side: Side, row: dict[str, Any]) -> Side:
    """Add a row of sums; what is settled, and amounts, are known of all attempts, and taken in proportion."""
    part = row["made"] / row["all"] if row["all"] else 0.0
    settled = max(int(row["succeeded"]), round(row["settled"] * part))
    return Side(
        side.made + int(row["made"]),
        side.succeeded + int(row["succeeded"]),
        side.settled + settled,
        side.amount_minor + round(row["amount"] * part),
    )
