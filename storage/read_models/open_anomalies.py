"""What is unwell right now: how much of it, and what it costs a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from storage.database import Database, Document
from storage.read_models.measures import QUERY_MS_MAX

ANOMALIES_MAX: Final = 1_000


class AtRisk(msgspec.Struct, frozen=True, kw_only=True):
    """Money that open anomalies of one currency cost a minute, minor units.

    ``low`` and ``high``: the sums of the ends of their intervals, so at least as wide as that of the sum.
    """

    currency: str
    per_minute_minor: float
    low: float
    high: float
    anomalies: int


class OpenAnomalies(msgspec.Struct, frozen=True, kw_only=True):
    """How many are open, by severity, and what is at risk, by currency, most anomalies first."""

    by_severity: dict[str, int]
    at_risk: list[AtRisk]


async def read_open_anomalies(database: Database) -> OpenAnomalies:
    """Read what is open, ``ANOMALIES_MAX`` at most."""
    wanted = {"severity": True, "currency": True, "loss_minor_per_minute": True, "loss_low": True, "loss_high": True}
    cursor = database["anomalies"].find({"closed_at": None}, wanted, limit=ANOMALIES_MAX, max_time_ms=QUERY_MS_MAX)
    found = await cursor.to_list()
    return OpenAnomalies(by_severity=Counter(str(one["severity"]) for one in found), at_risk=at_risk_of(found))


def at_risk_of(anomalies: Sequence[Document]) -> list[AtRisk]:
    """Add up what is known to cost money; without an interval an estimate stands for both of its ends.

    >>> at_risk_of([{"currency": "EUR", "loss_minor_per_minute": 5.0}, {"currency": None}])[0].high
    5.0
    """
    sums: dict[str, AtRisk] = {}
    for anomaly in anomalies:
        loss, currency = anomaly.get("loss_minor_per_minute"), anomaly.get("currency")
        if not loss or currency is None:
            continue
        low, high = anomaly.get("loss_low"), anomaly.get("loss_high")
        before = sums.get(currency, AtRisk(currency=currency, per_minute_minor=0.0, low=0.0, high=0.0, anomalies=0))
        sums[currency] = AtRisk(
            currency=currency,
            per_minute_minor=before.per_minute_minor + loss,
            low=before.low + (loss if low is None else low),
            high=before.high + (loss if high is None else high),
            anomalies=before.anomalies + 1,
        )
    return sorted(sums.values(), key=lambda each: (-each.anomalies, each.currency))
