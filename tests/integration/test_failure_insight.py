"""Failure insight on a real store, against the same figures counted in a plain way."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from statsmodels.stats.proportion import proportion_confint

from ml.failures.codes import code_key
from ml.failures.taxonomy import CATEGORIES
from storage.database import Database, Document
from storage.read_models.failure_insight import (
    DIMENSIONS,
    InsightQuery,
    read_failure_rates,
    read_orders_insight,
    read_pareto,
)

START = datetime(2026, 3, 2, tzinfo=UTC)
FIELD = {"amount_band": None, "hour": None, "weekday": None}


async def seeded(database: Database, count: int = 600) -> list[Document]:
    """Store attempts of two days with their verdicts; returns them, failed ones with their category."""
    draw = random.Random(7)
    attempts, verdicts = [], []
    for n in range(count):
        failed = draw.random() < 0.4
        attempt = {
            "_id": f"att_{n}",
            "order_id": f"ord_{n // 2}",
            "attempted_at": START + timedelta(minutes=draw.randrange(2 * 24 * 60)),
            "gateway": draw.choice(["alpha", "bravo", "charlie"]),
            "issuer": draw.choice(["harbour_bank", "metro_bank"]),
            "method": draw.choice(["card", "upi"]),
            "status": "failed" if failed else draw.choice(["succeeded", "succeeded", "pending", "abandoned"]),
            "amount_minor": draw.choice([0, 99, 5_000, 125_000]),
            "currency": draw.choice(["INR", "EUR"]),
        } | ({"country": "IN"} if draw.random() < 0.7 else {})
        attempts.append(attempt)
        if failed:
            category, code = draw.choice(CATEGORIES[:5]).name, draw.choice(["51", "54", None])
            verdicts.append(
                attempt
                | {"category": category, "failure_code": code, "withdrawn": False, "hardness": "soft",
                   "retry": "other_gateway", "code_key": code_key(attempt["gateway"], code, None)}
            )  # fmt: skip
    await database["attempts"].insert_many(attempts)
    await database["failures"].insert_many([*verdicts, verdicts[0] | {"_id": "att_gone", "withdrawn": True}])
    known = {verdict["_id"]: verdict["category"] for verdict in verdicts}
    return [attempt | {"category": known.get(attempt["_id"])} for attempt in attempts]


def key_of(attempt: Document, dimension: str) -> str:
    """The value of a dimension, computed from the attempt itself."""
    if dimension == "amount_band":
        return f"{attempt['currency']} 1e{len(str(max(attempt['amount_minor'], 1))) - 1}"
    if dimension == "hour":
        return f"{attempt['attempted_at']:%H}:00"
    if dimension == "weekday":
        return str(attempt["attempted_at"].isoweekday())
    return str(attempt.get(dimension) or "unknown")


@pytest.mark.parametrize("dimension", DIMENSIONS)
async def test_rates_by_every_dimension(database: Database, dimension: str) -> None:
    """Counts, rates, intervals and the period before are those of a plain recount."""
    attempts = await seeded(database)
    middle = START + timedelta(days=1)
    query = InsightQuery(since=middle, until=middle + timedelta(days=1))

    found = await read_failure_rates(database, query, dimension)  # type: ignore[arg-type]

    def counted(first: datetime) -> tuple[Counter[str], Counter[str], int]:
        window = [a for a in attempts if first <= a["attempted_at"] < first + timedelta(days=1)]
        settled = [a for a in window if a["status"] in ("succeeded", "failed")]
        failed = [a for a in settled if a["status"] == "failed"]
        return (
            Counter(key_of(a, dimension) for a in failed),
            Counter(key_of(a, dimension) for a in settled),
            len(settled),
        )

    failed, settled, every = counted(middle)
    failed_before, settled_before, every_before = counted(START)
    whole = dimension == "category"
    assert {row.key: row.now.failed for row in found.rows if row.now.failed} == dict(failed)
    assert (found.total.failed, found.total.settled) == (failed.total(), every)
    for row in found.rows:
        assert row.now.settled == (every if whole else settled[row.key])
        assert (row.before.failed, row.before.settled) == (
            failed_before[row.key],
            every_before if whole else settled_before[row.key],
        )
        low, high = proportion_confint(row.now.failed, row.now.settled, method="wilson")
        assert (row.now.low, row.now.high) == pytest.approx((low, high))


async def test_pareto_and_orders(database: Database) -> None:
    """Reasons add up to all failures, by count and by amount; the withdrawn one counts nowhere; filters hold."""
    attempts = await seeded(database)
    query = InsightQuery(since=START, until=START + timedelta(days=2), gateway="bravo")
    mine = [a for a in attempts if a["gateway"] == "bravo"]
    failed = [a for a in mine if a["status"] == "failed"]

    pareto = await read_pareto(database, query)
    orders = await read_orders_insight(database, query)

    assert {reason.category: reason.failures for reason in pareto.reasons} == Counter(a["category"] for a in failed)
    assert pareto.reasons[-1].share_cumulative == pytest.approx(1)
    assert all(sum(code.failures for code in reason.codes) == reason.failures for reason in pareto.reasons)
    for currency, rows in pareto.by_amount.items():
        money = Counter[str]()
        for attempt in failed:
            money[attempt["category"]] += attempt["amount_minor"] * (attempt["currency"] == currency)
        assert {category: amount for category, amount, _ in rows} == {
            c: amount for c, amount in money.items() if amount
        }
    assert (orders.attempts_read, orders.complete) == (len(mine), True)
    settled = [a for a in mine if a["status"] in ("succeeded", "failed")]
    assert orders.authorization.attempts.whole == len(settled)
    assert (orders.soft.failed, orders.soft.settled) == (len(failed), len(failed))
