"""What a retry advice rests on: the order's failures, the shopper's declines of 30 days, gateways that may help."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from config.gateways import Gateway
from messaging.contracts import Anomaly, FailureClassified
from ml.failures.retry import HISTORY_DAYS, PastTry, RetryQuestion, best_first
from storage.anomalies import open_anomalies
from storage.attempts import stretches
from storage.database import Database, Document
from storage.errors import translated
from storage.failures import failure_of
from storage.gateway_pauses import pauses_not_over
from storage.read_models.measures import QUERY_MS_MAX

TRIES_MAX: Final = 100
DECLINES_MAX: Final = 200
RECENT_MINUTES: Final = 60
"""How far back the success of gateways is looked at."""


class OrderKind(msgspec.Struct, frozen=True, kw_only=True):
    """What decides which gateways may take a payment, and whose declines count."""

    method: str | None = None
    currency: str | None = None
    country: str | None = None
    network: str | None = None
    customer_id: str | None = None


class RetryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``failures``: the order's, oldest first. ``paid``: an attempt succeeded. ``gateways``: usable, best first."""

    kind: OrderKind
    failures: list[FailureClassified]
    paid: bool
    declines_at: list[datetime]
    gateways: list[str]


async def read_retry_facts(
    database: Database, order_id: str, told: OrderKind, gateways: Mapping[str, Gateway], now: datetime
) -> RetryFacts:
    """Read what is known of an order; what the caller told fills in what is not stored.

    The declines of one customer with one network stand for those of one card, which is nowhere kept: with several cards
    of a network they are too many, so the advice errs on the careful side.
    """
    with translated():
        cursor = database["failures"].find({"order_id": order_id, "withdrawn": False}).sort("attempted_at", 1)
        failures = [failure_of(document) for document in await cursor.to_list(TRIES_MAX)]
        attempts = await database["attempts"].find({"order_id": order_id}).sort("attempted_at", -1).to_list(TRIES_MAX)
    kind = _kind(attempts, told)
    declines, recent, pauses, anomalies = await asyncio.gather(
        _declines(database, kind, now),
        _recent(database, kind, now),
        pauses_not_over(database, now),
        open_anomalies(database),
    )
    away = {pause.gateway for pause in pauses if pause.starts_at <= now} | _down(anomalies)
    usable = [name for name, gateway in gateways.items() if name not in away and _takes(gateway, kind)]
    return RetryFacts(
        kind=kind,
        failures=failures,
        paid=any(attempt["status"] == "succeeded" for attempt in attempts),
        declines_at=declines,
        gateways=best_first({name: recent.get(name, (0, 0)) for name in usable}),
    )


def question_of(
    facts: RetryFacts, tries: Sequence[PastTry], now: datetime, *, candidates: Collection[str] = ()
) -> RetryQuestion:
    """What the rules are asked; ``candidates``: the only gateways that come into question, if any are named."""
    return RetryQuestion(
        now=now,
        method=facts.kind.method or "card",
        tries=tries,
        network=facts.kind.network,
        declines_at=facts.declines_at,
        gateways=[name for name in facts.gateways if not candidates or name in candidates],
        paid=facts.paid,
    )


def past_try(failure: FailureClassified) -> PastTry:
    """A stored failure as the rules see it."""
    return PastTry(
        gateway=failure.gateway,
        at=failure.attempted_at,
        category=failure.category,
        retry=failure.retry,  # type: ignore[arg-type]
        delay_s=failure.delay_s,
        advice=failure.advice,
    )


def _kind(attempts: list[Document], told: OrderKind) -> OrderKind:
    stored: dict[str, Any] = {}
    for name in OrderKind.__struct_fields__:
        stored[name] = next((each[name] for each in attempts if each.get(name)), None) or getattr(told, name)
    return OrderKind(**stored)


async def _declines(database: Database, kind: OrderKind, now: datetime) -> list[datetime]:
    """The customer's latest declines, newest first; a checkout whose clock is ahead stamps some later than ``now``.

    An id that very many shoppers share ("guest") costs what its latest declines cost: the index is walked from the
    newest stretch on until there are enough, and only the oldest stretch of these is sorted by time in MongoDB.
    """
    if kind.customer_id is None or kind.network is None:
        return []
    since = now - timedelta(days=HISTORY_DAYS)
    query = {
        "customer_stretch": stretches(since),
        "customer_id": kind.customer_id,
        "attempted_at": {"$gt": since},
        "status": "failed",
        "network": kind.network,
    }
    found = await _declines_by(database, "customer_stretch", query, DECLINES_MAX)
    if len(found) == DECLINES_MAX:
        last = found[-1]["customer_stretch"]
        found = [decline for decline in found if decline["customer_stretch"] > last]
        query["customer_stretch"] = last
        found += await _declines_by(database, "attempted_at", query, DECLINES_MAX - len(found))
    return sorted((decline["attempted_at"] for decline in found), reverse=True)


async def _declines_by(database: Database, latest_by: str, query: Document, limit: int) -> list[Document]:
    fields = {"attempted_at": True, "customer_stretch": True, "_id": False}
    with translated():
        cursor = database["attempts"].find(query, fields).sort(latest_by, -1).limit(limit)
        return await cursor.max_time_ms(QUERY_MS_MAX).to_list()


async def _recent(database: Database, kind: OrderKind, now: datetime) -> dict[str, tuple[int, int]]:
    """Succeeded and settled attempts of the last hour by gateway, of this method."""
    match: dict[str, Any] = {"minute": {"$gte": now - timedelta(minutes=RECENT_MINUTES)}}
    if kind.method is not None:
        match["method"] = kind.method
    pipeline: list[dict[str, Any]] = [
        {"$match": match},
        {
            "$group": {
                "_id": "$gateway",
                "succeeded": {"$sum": "$succeeded"},
                "settled": {"$sum": {"$add": [{"$ifNull": [f"${s}", 0]} for s in ("succeeded", "failed", "reversed")]}},
            }
        },
    ]
    with translated():
        cursor = await database["attempt_rollups"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
        return {row["_id"]: (row["succeeded"], row["settled"]) for row in await cursor.to_list(1_000)}


def _down(anomalies: Collection[Anomaly]) -> set[str]:
    """Gateways that fail as a whole right now."""
    return {
        anomaly.segment.gateway
        for anomaly in anomalies
        if anomaly.segment.gateway
        and anomaly.segment.method is None
        and anomaly.segment.issuer is None
        and anomaly.signal == "success_rate"
        and anomaly.severity == "critical"
    }


def _takes(gateway: Gateway, kind: OrderKind) -> bool:
    return (
        (kind.method is None or kind.method in gateway.methods)
        and (kind.currency is None or kind.currency in gateway.currencies)
        and (kind.country is None or not gateway.countries or kind.country in gateway.countries)
    )
