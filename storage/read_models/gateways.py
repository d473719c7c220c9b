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

from storage.database import Database, Document
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
from storage.read_models.newest_since import newest_since
from storage.read_models.open_anomalies import AtRisk, read_open_anomalies
from storage.read_models.single_attempts import read_chosen_sums

GATEWAYS_MAX: Final = 200
"""Rows shown at most; the gateways file cannot list more."""

FIRST_ATTEMPTS_MAX: Final = 10_000
"""Attempts that first ones are sought among, the newest: sums do not tell which of them settled."""

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
    """The whole system at a glance.

    ``first_attempts``: orders' first attempts that settled, of those since ``first_attempts_since``. That is ``since``,
    or later where more than 10,000 attempts of all were made since then; by country, amount and arm it is ``since``.
    """

    since: datetime
    until: datetime
    window_minutes: int
    traffic: Traffic
    before: Traffic
    first_attempts: Rate
    first_attempts_since: datetime
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
        (sums_before, sums), (first_since, first), newest, unwell = await asyncio.gather(
            _sums(database, [before, since], chosen),
            _first_attempts(database, since, chosen),
            database["attempts"].find_one({}, {"attempted_at": 1}, sort=[("attempted_at", -1)]),
            read_open_anomalies(database),
        )
    return Overview(
        since=since,
        until=now,
        window_minutes=WINDOW_MINUTES,
        traffic=traffic_of(sums.parts),
        before=traffic_of(sums_before.parts),
        first_attempts=sums.first if first is None else first,
        first_attempts_since=first_since,
        newest_attempt_at=None if newest is None else newest["attempted_at"],
        anomalies_open=sum(unwell.by_severity.values()),
        anomalies_by_severity=unwell.by_severity,
        at_risk=unwell.at_risk,
        gateways=gateways_of(sums.parts),
    )


async def read_gateways(database: Database, now: datetime, chosen: Chosen = ALL) -> list[GatewayTraffic]:
    """Each gateway's traffic of the last minutes, by name; all of it or what was chosen."""
    with translated():
        (sums,) = await _sums(database, [minutes_ago(now, WINDOW_MINUTES - 1)], chosen)
    return gateways_of(sums.parts)


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


class _Summed:
    """What was read of a time: sums by part, and first attempts by status where single attempts were read."""

    def __init__(self) -> None:
        self.parts: Parts = {}
        self._first: Counter[str] = Counter()

    @property
    def first(self) -> Rate:
        """The rate of first attempts."""
        return _rate(self._first)

    def add(self, names: Document, sums: Sums) -> None:
        """Add the sums of what has these names."""
        part = names["gateway"], names["currency"]
        self.parts[part] = self.parts[part] + sums if part in self.parts else sums
        if names.get("attempt_number") == 1:
            self._first[names["status"]] += int(sums[0])


async def _sums(database: Database, starts: Sequence[datetime], chosen: Chosen = ALL) -> list[_Summed]:
    """The sums by gateway and currency of the minutes from each start up to the next; after the last to the newest."""
    found = [_Summed() for _ in starts]
    apart = ("gateway", "currency", "status", "attempt_number")
    reading = read_chosen_sums(database, chosen, starts[0], SUMMED, apart=apart, query_ms_max=QUERY_MS_MAX)
    async for names, sums in reading:
        found[bisect_right(starts, names["minute"]) - 1].add(names, sums)
    return found


async def _first_attempts(database: Database, since: datetime, chosen: Chosen) -> tuple[datetime, Rate | None]:
    """The rate among the newest attempts, and since when these are; none where all are read for the sums anyway."""
    if chosen.is_narrow:
        return since, None
    attempts = database["attempts"]
    since = await newest_since(attempts, "attempted_at", since, FIRST_ATTEMPTS_MAX, query_ms_max=QUERY_MS_MAX)
    wanted = {"attempted_at": {"$gte": since}, "attempt_number": 1, "status": {"$in": SETTLED}} | chosen.match()
    pipeline: list[dict[str, Any]] = [{"$match": wanted}, {"$group": {"_id": "$status", "n": {"$sum": 1}}}]
    found = await (await attempts.aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)).to_list()
    return since, _rate(Counter({row["_id"]: row["n"] for row in found}))


def _rate(by_status: Counter[str]) -> Rate:
    return rate_of(by_status["succeeded"], sum(by_status[status] for status in SETTLED))
