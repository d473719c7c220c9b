"""How the traffic stands: the whole, and per gateway, over the last minutes, summed from the minute rollups."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np

from storage.database import Database
from storage.errors import translated
from storage.read_models.chosen import ALL, Chosen
from storage.read_models.measures import (
    LATENCY_BUCKETS,
    QUERY_MS_MAX,
    WINDOW_MINUTES,
    Money,
    Rate,
    latency_quantile_ms,
    minutes_ago,
    rate_of,
)
from storage.read_models.minute_sums import Sums
from storage.read_models.open_anomalies import AtRisk, read_open_anomalies
from storage.read_models.single_attempts import of_arms, read_chosen_sums

GATEWAYS_MAX: Final = 200
"""Rows shown at most; the gateways file cannot list more."""

FIRST_ATTEMPTS_MAX: Final = 10_000
"""First attempts counted at most, newest first; the page shows how many it were."""

COUNTS: Final = ("attempts", "pending", "succeeded", "failed", "abandoned", "reversed")
SETTLED: Final = ["succeeded", "failed", "reversed"]
SUMMED: Final = (*COUNTS, "amount_minor", "amount_succeeded_minor")
AMOUNT: Final = len(COUNTS)

Parts = dict[tuple[str, str], Sums]
"""Sums by gateway and currency: ``SUMMED``, then the latency buckets."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a group of attempts in a window."""

    attempts: int
    pending: int
    succeeded: int
    failed: int
    abandoned: int
    reversed: int
    authorization: Rate
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    latencies: int
    volume: list[Money]
    volume_succeeded: list[Money]


class GatewayTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway's traffic and its share of all attempts."""

    gateway: str
    share: float
    traffic: Traffic


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The whole system at a glance."""

    since: datetime
    until: datetime
    window_minutes: int
    traffic: Traffic
    before: Traffic
    first_attempts: Rate
    newest_attempt_at: datetime | None
    anomalies_open: int
    anomalies_by_severity: dict[str, int]
    at_risk: list[AtRisk]
    gateways: list[GatewayTraffic]


async def read_overview(database: Database, now: datetime, chosen: Chosen = ALL) -> Overview:
    """The last minutes, the minutes before them, and each gateway's part.

    Args:
        chosen: which attempts; anomalies and the newest attempt are those of all.
    """
    since = minutes_ago(now, WINDOW_MINUTES - 1)
    before = since - timedelta(minutes=WINDOW_MINUTES)
    with translated():
        (rows_before, rows), first, newest, unwell = await asyncio.gather(
            _sums(database, [before, since], chosen),
            _first_attempts(database, since, chosen),
            database["attempts"].find_one({}, {"attempted_at": 1}, sort=[("attempted_at", -1)]),
            read_open_anomalies(database),
        )
    return Overview(
        since=since,
        until=now,
        window_minutes=WINDOW_MINUTES,
        traffic=traffic_of(rows),
        before=traffic_of(rows_before),
        first_attempts=first,
        newest_attempt_at=None if newest is None else newest["attempted_at"],
        anomalies_open=sum(unwell.by_severity.values()),
        anomalies_by_severity=unwell.by_severity,
        at_risk=unwell.at_risk,
        gateways=gateways_of(rows),
    )


async def read_gateways(database: Database, now: datetime, chosen: Chosen = ALL) -> list[GatewayTraffic]:
    """Each gateway's traffic of the last minutes, by name; all of it or what was chosen."""
    with translated():
        (parts,) = await _sums(database, [minutes_ago(now, WINDOW_MINUTES - 1)], chosen)
    return gateways_of(parts)


def gateways_of(parts: Parts) -> list[GatewayTraffic]:
    """The traffic by gateway."""
    total = sum(int(sums[0]) for sums in parts.values())
    names = sorted({gateway for gateway, _ in parts})
    shown = []
    for name in names[:GATEWAYS_MAX]:
        mine = {part: sums for part, sums in parts.items() if part[0] == name}
        attempts = sum(int(sums[0]) for sums in mine.values())
        share = attempts / total if total else 0.0
        shown.append(GatewayTraffic(gateway=name, share=share, traffic=traffic_of(mine)))
    return shown


def traffic_of(parts: Parts) -> Traffic:
    """Add up; amounts stay apart by currency."""
    whole = sum(parts.values(), np.zeros(len(SUMMED) + LATENCY_BUCKETS, dtype=np.int64))
    counts = dict(zip(SUMMED, map(int, whole), strict=False))
    latencies = {bucket: int(count) for bucket, count in enumerate(whole[len(SUMMED) :]) if count}
    volume: Counter[str] = Counter()
    volume_succeeded: Counter[str] = Counter()
    for (_, currency), sums in parts.items():
        volume[currency] += int(sums[AMOUNT])
        volume_succeeded[currency] += int(sums[AMOUNT + 1])
    return Traffic(
        **{name: counts[name] for name in COUNTS},
        authorization=rate_of(counts["succeeded"], counts["succeeded"] + counts["failed"] + counts["reversed"]),
        latency_p50_ms=latency_quantile_ms(latencies, 0.50),
        latency_p95_ms=latency_quantile_ms(latencies, 0.95),
        latency_p99_ms=latency_quantile_ms(latencies, 0.99),
        latencies=sum(latencies.values()),
        volume=_money(volume),
        volume_succeeded=_money(volume_succeeded),
    )


def _money(amounts: Counter[str]) -> list[Money]:
    return [Money(currency, amount) for currency, amount in amounts.most_common()]


async def _sums(database: Database, starts: Sequence[datetime], chosen: Chosen = ALL) -> list[Parts]:
    """The sums by gateway and currency of the minutes from each start up to the next; after the last to the newest."""
    found: list[Parts] = [{} for _ in starts]
    reading = read_chosen_sums(
        database, chosen, starts[0], SUMMED, apart=("gateway", "currency"), query_ms_max=QUERY_MS_MAX
    )
    async for names, sums in reading:
        parts = found[bisect_right(starts, names["minute"]) - 1]
        part = names["gateway"], names["currency"]
        parts[part] = parts[part] + sums if part in parts else sums
    return found


async def _first_attempts(database: Database, since: datetime, chosen: Chosen) -> Rate:
    pipeline: list[dict[str, Any]] = [
        {"$match": {"attempted_at": {"$gte": since}}},
        {"$sort": {"attempted_at": -1}},
        {"$limit": FIRST_ATTEMPTS_MAX},
        {"$match": {"attempt_number": 1, "status": {"$in": SETTLED}} | chosen.match_single()},
        {"$project": {"status": True, "decision_id": True}},
    ]
    if not chosen.arm:
        pipeline[-1] = {"$group": {"_id": "$status", "n": {"$sum": 1}}}
    found = await (await database["attempts"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)).to_list()
    if chosen.arm:
        attempts = await of_arms(database, chosen, found, query_ms_max=QUERY_MS_MAX)
        counts = Counter(attempt["status"] for attempt in attempts)
    else:
        counts = Counter({row["_id"]: row["n"] for row in found})
    return rate_of(counts["succeeded"], counts.total())
