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
from storage.read_models import failure_counts, failure_insight
from storage.read_models.failure_counts import DIMENSIONS, IN_FAILURE_SUMS, SUMMED, Dimension, InsightQuery
from storage.read_models.failure_insight import (
    FailureRates,
    failure_share,
    read_failure_rates,
    read_orders_insight,
    read_pareto,
)
from storage.read_models.time_sample import STRETCHES, TimeSample
from tests.web_documents import fill

START = datetime(2026, 3, 2, tzinfo=UTC)
END = START + timedelta(hours=15)
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


@pytest.mark.parametrize("dimension", sorted(SUMMED))
async def test_many_attempts_are_counted_from_sums(
    database: Database, monkeypatch: pytest.MonkeyPatch, dimension: Dimension
) -> None:
    """Sums per minute give what counting one by one gives, also for sums that became hours, and with a filter."""
    await fill(database, END, attempts=1_000)
    await _move(database, "attempt_rollups", END - timedelta(minutes=20))
    await _move(database, "failure_rollups", END - timedelta(minutes=20))
    for chosen in ({}, {"gateway": "bravo"}):
        query = InsightQuery(since=END - timedelta(minutes=15), until=END, **chosen)
        wanted = await read_failure_rates(database, query, dimension)
        with monkeypatch.context() as few:
            few.setattr(failure_counts, "EVERY_MAX", 20)
            found = await read_failure_rates(database, query, dimension)
        assert (wanted.basis, found.basis) == ("attempts", "sums")
        money = dimension in IN_FAILURE_SUMS
        assert rows_of(found, money=money) == rows_of(wanted, money=money)
        assert (found.total, found.total_before) == (wanted.total, wanted.total_before)
        assert found.total_before.settled > 50


def rows_of(rates: FailureRates, *, money: bool) -> dict[str, object]:
    """What is told of each key that had an attempt."""
    rows = [row for row in rates.rows if row.now.failed or row.now.settled]
    return {row.key: (row.now, row.before, sorted(row.amounts_failed, key=str) if money else None) for row in rows}


async def _move(database: Database, name: str, before: datetime) -> None:
    """Let older sums lie where compaction puts them; their minutes stay, so that a period can begin with any."""
    old = {"minute": {"$lt": before}}
    moved = [document async for document in database[name].find(old)]
    await database[f"{name}_hours"].insert_many(moved)
    await database[name].delete_many(old)


async def test_many_attempts_without_sums_are_sampled(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded number stands for all, as it says; the rate of all lies within its interval; reasons likewise."""
    await fill(database, END, attempts=3_000)
    query = InsightQuery(since=END - timedelta(minutes=15), until=END)
    whole = await read_failure_rates(database, query, "network")
    everything = await read_pareto(database, query)
    monkeypatch.setattr(failure_counts, "EVERY_MAX", 500)
    monkeypatch.setattr(failure_insight, "FAILURES_READ_MAX", 100)
    found = await read_failure_rates(database, query, "network")
    pareto = await read_pareto(database, query)
    assert (whole.basis, found.basis) == ("attempts", "sample")
    for few, all_ in ((found.total, whole.total), (found.total_before, whole.total_before)):
        assert 200 < few.settled < 800 < all_.settled
        assert few.low is not None
        assert few.high is not None
        assert all_.rate is not None
        assert few.low < all_.rate < few.high
        assert (
            few.high - few.low
            > failure_share(few.failed, few.settled).high - failure_share(few.failed, few.settled).low - 1e-9
        )  # type: ignore[operator]
    assert sum(row.now.settled for row in found.rows) == found.total.settled
    assert everything.sampled_share == 1
    assert 0 < pareto.sampled_share < 1
    assert 0 < pareto.failures < everything.failures
    assert sum(reason.share for reason in pareto.reasons) == pytest.approx(1)


async def test_a_category_of_one_method_is_sampled(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of failures are not kept by method: rates are those of the sample, out of all its settled attempts."""
    await fill(database, END, attempts=3_000)
    monkeypatch.setattr(failure_counts, "EVERY_MAX", 500)
    query = InsightQuery(since=END - timedelta(minutes=15), until=END, method="card")
    found = await read_failure_rates(database, query, "category")
    assert found.basis == "sample"
    assert found.rows
    assert {row.now.settled for row in found.rows} == {found.total.settled}
    assert sum(row.now.failed for row in found.rows) == found.total.failed > 0


async def test_stretches_lie_apart_and_tell_their_number(database: Database) -> None:
    """Every part has one stretch of the share asked for; a document is found if it lies in one, and knows in which."""
    since, until = START, START + timedelta(hours=5)
    sample = TimeSample(since=since, until=until, share=0.1)
    bounds = [each["attempted_at"] for each in sample.match()["$or"]]
    part = (until - since) / STRETCHES
    for number, bound in enumerate(bounds):
        assert (
            since + number * part
            <= bound["$gte"]
            < bound["$lt"]
            <= since + (number + 1) * part + timedelta(milliseconds=1)
        )
        assert (bound["$lt"] - bound["$gte"]) / part == pytest.approx(0.1, abs=1e-6)
    middles = [bound["$gte"] + 0.05 * part for bound in bounds]
    await database["attempts"].insert_many({"_id": str(n), "attempted_at": at} for n, at in enumerate(middles))
    await database["attempts"].insert_one({"_id": "before", "attempted_at": since - timedelta(seconds=1)})
    cursor = await database["attempts"].aggregate([{"$match": sample.match()}, {"$set": {"number": sample.number()}}])
    assert {document["_id"]: int(document["number"]) async for document in cursor} == {
        str(n): n for n in range(STRETCHES)
    }
