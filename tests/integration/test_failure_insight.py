"""Failure insight on a real store, against the same figures counted in a plain way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from statsmodels.stats.proportion import proportion_confint

from config.settings import Settings
from ml.failures.codes import code_key
from ml.failures.taxonomy import CATEGORIES
from storage.compaction import compact, start_of
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
from storage.read_models.time_sample import STRETCHES, Size, TimeSample, sample_of
from tests.web_documents import fill, fill_attempts

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
    """Sums, and single attempts where a period ends within a minute, give what counting one by one gives."""
    await fill(database, END, attempts=1_000)
    for chosen in ({}, {"gateway": "bravo"}):
        for until in (END, END - timedelta(seconds=20)):
            query = InsightQuery(since=until - timedelta(minutes=10), until=until, **chosen)
            wanted, found = await both_ways(database, query, dimension, monkeypatch)
            assert found.basis == "sums"
            money = dimension in IN_FAILURE_SUMS
            assert rows_of(found, money=money) == rows_of(wanted, money=money)
            assert money or not any(row.amounts_failed for row in found.rows)
            assert (found.total, found.total_before) == (wanted.total, wanted.total_before)
            assert found.total_before.settled > 40


def rows_of(rates: FailureRates, *, money: bool) -> dict[str, object]:
    """What is told of each key that had an attempt."""
    rows = [row for row in rates.rows if row.now.failed or row.now.settled]
    return {row.key: (row.now, row.before, sorted(row.amounts_failed, key=str) if money else None) for row in rows}


async def both_ways(
    database: Database, query: InsightQuery, dimension: Dimension, monkeypatch: pytest.MonkeyPatch, **bounds: int
) -> tuple[FailureRates, FailureRates]:
    """Counted one by one, and with lower bounds of what may be."""
    wanted = await read_failure_rates(database, query, dimension)
    assert wanted.basis == "attempts"
    with monkeypatch.context() as few:
        for name, bound in ({"EVERY_MAX": 200} | bounds).items():
            few.setattr(failure_counts, name, bound)
        return wanted, await read_failure_rates(database, query, dimension)


DAY: Final = timedelta(days=1)
COMPACTED: Final[tuple[tuple[float, float, float, str, str], ...]] = (
    # days ago, from and to what hour, the basis, that of hours
    (20, 10, 12, "sums", "sums"),
    (20, 10.25, 10.75, "sample", "sample"),
    (20, 10.75, 11.25, "sample", "sample"),
    (20, 9.75, 12.25, "sums", "sums"),
    (130, 0, 24, "sums", "sample"),
    (130, 23.5, 29.5, "sample", "sample"),
    (130, -1.25, 47, "sums", "sample"),
)


async def test_rates_of_compacted_time_are_those_of_all_attempts(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a period begins or ends within sums of hours or days, a figure is that of exactly its attempts, and
    where a sample gives it, the interval holds the rate of these."""
    today, draw = start_of(datetime.now(UTC), DAY), random.Random(5)
    hours = [today - 20 * DAY + timedelta(hours=draw.uniform(7, 15)) for _ in range(4_000)]
    days = [today - 130 * DAY + timedelta(hours=draw.uniform(-48, 48)) for _ in range(6_000)]
    await fill_attempts(database, hours + days, fails=lambda moment: draw.random() < 0.05 + 0.02 * (moment.hour % 12))
    assert await compact(database, settings.store, datetime.now(UTC)) > 4_000
    assert not await database["attempt_rollups"].count_documents({})
    assert await database["attempt_rollups_days"].count_documents({})
    for ago, first, last, basis, basis_of_hours in COMPACTED:
        start = today - ago * DAY
        query = InsightQuery(since=start + timedelta(hours=first), until=start + timedelta(hours=last))
        for dimension in ("gateway", "category", "hour", "weekday"):
            wanted, found = await both_ways(database, query, dimension, monkeypatch)  # type: ignore[arg-type]
            assert found.basis == (basis_of_hours if dimension == "hour" else basis), (ago, first, last, dimension)
            assert_same(wanted, found)
            wanted, found = await both_ways(database, query, dimension, monkeypatch, EDGES_MAX=0)  # type: ignore[arg-type]
            assert_same(wanted, found)
            if any(hour % (1 if ago == 20 else 24) for hour in (first, last)):
                assert found.basis == "sample"


def assert_same(wanted: FailureRates, found: FailureRates) -> None:
    """Sums give the very same; a sample gives an interval that holds it, or none."""
    if found.basis == "sums":
        assert rows_of(found, money=True) == rows_of(wanted, money=True)
    for few, all_ in ((found.total, wanted.total), (found.total_before, wanted.total_before)):
        assert few.settled
        assert all_.rate is not None
        if found.basis == "sums":
            assert few == all_
        else:
            assert few.low is not None
            assert few.high is not None
            assert few.low < all_.rate < few.high


async def test_many_attempts_without_sums_are_sampled(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded number stands for all, as it says; the rate of all lies within its interval, which is as wide as
    outages of every third minute ask for; money of an unknown part is not told; reasons likewise."""
    draw = random.Random(3)
    moments = [END - timedelta(minutes=draw.uniform(0, 30)) for _ in range(4_000)]
    await fill_attempts(database, moments, fails=lambda moment: draw.random() < (0.02 if moment.minute % 3 else 0.9))
    query = InsightQuery(since=END - timedelta(minutes=15), until=END)
    whole = await read_failure_rates(database, query, "network")
    everything = await read_pareto(database, query)
    monkeypatch.setattr(failure_counts, "EVERY_MAX", 500)
    monkeypatch.setattr(failure_insight, "FAILURES_READ_MAX", 100)
    found = await read_failure_rates(database, query, "network")
    pareto = await read_pareto(database, query)
    assert (whole.basis, found.basis) == ("attempts", "sample")
    assert (whole.sampled_share, whole.sampled_share_before) == (1, 1)
    for few, all_, share in (
        (found.total, whole.total, found.sampled_share),
        (found.total_before, whole.total_before, found.sampled_share_before),
    ):
        assert 250 <= few.settled <= 1_000 < all_.settled
        assert few.settled / all_.settled == pytest.approx(share, rel=0.2)
        assert few.low is not None
        assert few.high is not None
        assert all_.rate is not None
        assert few.low < all_.rate < few.high
        plain = failure_share(few.failed, few.settled)
        assert plain.low is not None
        assert plain.high is not None
        assert few.high - few.low > 1.5 * (plain.high - plain.low)
    assert sum(row.now.settled for row in found.rows) == found.total.settled
    assert any(row.amounts_failed for row in whole.rows)
    assert not any(row.amounts_failed for row in found.rows)
    assert everything.sampled_share == 1
    assert 0 < pareto.sampled_share < 1
    assert 0 < pareto.failures < everything.failures
    assert sum(reason.share for reason in pareto.reasons) == pytest.approx(1)


async def test_each_period_says_what_part_of_it_was_looked_at(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the period before is large, this one is counted whole, with its money."""
    draw = random.Random(4)
    moments = [END - timedelta(minutes=draw.uniform(15, 30)) for _ in range(2_000)]
    moments += [END - timedelta(minutes=draw.uniform(0, 15)) for _ in range(150)]
    await fill_attempts(database, moments, fails=lambda _: draw.random() < 0.3)
    monkeypatch.setattr(failure_counts, "EVERY_MAX", 400)
    query = InsightQuery(since=END - timedelta(minutes=15), until=END)
    found = await read_failure_rates(database, query, "network")
    assert (found.basis, found.sampled_share, found.total.settled) == ("sample", 1, 150)
    assert found.sampled_share_before == pytest.approx(0.2, abs=0.08)
    assert found.total_before.settled < 1_000
    assert any(row.amounts_failed for row in found.rows)


@pytest.mark.parametrize("bursts", [1, 2, 4, 8, 20])
async def test_attempts_in_few_stretches_have_no_rate(
    database: Database, monkeypatch: pytest.MonkeyPatch, bursts: int
) -> None:
    """How few bursts differ is not seen: no rate and no difference, and why; the counts are told."""
    draw = random.Random(bursts)
    starts = [END - timedelta(hours=90 - 89 * burst / bursts) for burst in range(bursts)]
    moments = [draw.choice(starts) + timedelta(minutes=draw.uniform(0, 10)) for _ in range(1_500)]
    moments += [END - timedelta(hours=1)] * 2
    await fill_attempts(database, moments, fails=lambda _: draw.random() < 0.3)
    monkeypatch.setattr(failure_counts, "EVERY_MAX", 400)
    found = await read_failure_rates(database, InsightQuery(since=END - 5 * DAY, until=END), "network")
    assert found.basis == "sample"
    for share in (found.total, *(row.now for row in found.rows)):
        assert (share.rate, share.low, share.high) == (None, None, None)
        assert share.why_not is not None
        assert share.why_not.startswith("not enough data yet: ")
    assert all(row.difference is None for row in found.rows)


def burst(draw: random.Random) -> list[datetime]:
    """One second holds nearly all of 90 days."""
    middle = START + timedelta(days=draw.uniform(1, 89))
    return [START, *(middle + timedelta(seconds=draw.random()) for _ in range(1_500)), START + timedelta(days=90)]


def burst_in_even(draw: random.Random) -> list[datetime]:
    """Some come evenly; as many again within one second."""
    middle = START + timedelta(days=draw.uniform(1, 89))
    even = [START + timedelta(days=draw.uniform(0, 90)) for _ in range(700)]
    return even + [middle + timedelta(seconds=draw.random()) for _ in range(700)]


def hours(draw: random.Random) -> list[datetime]:
    """One hour of each day."""
    return [START + timedelta(days=draw.randrange(90), hours=10 + draw.random()) for _ in range(1_500)]


def even(draw: random.Random) -> list[datetime]:
    """Evenly, but only in the first day of those looked at."""
    return [START + timedelta(days=draw.random()) for _ in range(1_500)]


def instant(_: random.Random) -> list[datetime]:
    """All at once."""
    return [START] * 1_500


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [burst, burst_in_even, hours, even, instant])
async def test_a_sample_is_bounded_however_attempts_come(
    database: Database, shape: Callable[[random.Random], list[datetime]], seed: int
) -> None:
    """Never more than twice what is wanted is read; a sample of less than half of it says that it is none."""
    moments, wanted = shape(random.Random(seed)), 200
    await database["attempts"].insert_many({"_id": str(n), "attempted_at": at} for n, at in enumerate(moments))
    sample = await sample_of(database, "attempts", START, START + timedelta(days=91), Size(wanted))
    assert sample is not None
    read = await database["attempts"].count_documents(sample.match())
    assert read <= 2 * wanted
    assert sample.is_even == (read >= wanted / 2)
    if shape is even:
        assert sample.is_even
        assert sample.until - sample.since < DAY
    if shape in (burst, instant):
        assert not sample.is_even


async def test_a_burst_gives_no_reasons(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reasons of failures of which a sample holds all or none are not told, nor a rate."""
    await fill_attempts(database, burst(random.Random(1)), fails=lambda _: True)
    monkeypatch.setattr(failure_counts, "EVERY_MAX", 200)
    monkeypatch.setattr(failure_insight, "FAILURES_READ_MAX", 200)
    query = InsightQuery(since=START - DAY, until=START + timedelta(days=91))
    pareto = await read_pareto(database, query)
    assert (pareto.reasons, pareto.failures) == ([], 0)
    assert pareto.why_not == failure_insight.UNEVEN
    rates = await read_failure_rates(database, query, "network")
    assert rates.total.rate is None


@pytest.mark.parametrize("dimension", ["category", "gateway", "hour", "network"])
async def test_neither_sums_nor_samples_scan_a_collection(
    database: Database, monkeypatch: pytest.MonkeyPatch, dimension: Dimension
) -> None:
    """MongoDB's own profiler sees every query; each one has an index."""
    await fill(database, END, attempts=2_000)
    monkeypatch.setattr(failure_counts, "EVERY_MAX", 100)
    monkeypatch.setattr(failure_insight, "FAILURES_READ_MAX", 20)
    await database.command("profile", 2)
    until = END - timedelta(seconds=20)
    found = await read_failure_rates(database, InsightQuery(since=END - timedelta(minutes=12), until=until), dimension)
    await read_pareto(database, InsightQuery(since=END - timedelta(minutes=20), until=until))
    await database.command("profile", 0)
    assert found.basis == ("sample" if dimension == "network" else "sums")
    plans = [str(entry.get("planSummary", "")) async for entry in database["system.profile"].find()]
    assert any("IXSCAN" in plan for plan in plans)
    assert not any("COLLSCAN" in plan for plan in plans)


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
    """Every part has one stretch of the share asked for, in two pieces where it is over the end; a document is found if
    it lies in one, and knows in which."""
    since, until = START, START + timedelta(hours=5)
    sample = TimeSample(since=since, until=until, share=0.1)
    part = (until - since) / STRETCHES
    pieces: dict[int, list[tuple[datetime, datetime]]] = {}
    for bound in (each["attempted_at"] for each in sample.match()["$or"]):
        assert bound["$gte"] < bound["$lt"]
        pieces.setdefault((bound["$gte"] - since) // part, []).append((bound["$gte"], bound["$lt"]))
    assert sorted(pieces) == list(range(STRETCHES))
    for number, mine in pieces.items():
        assert mine[-1][1] <= since + (number + 1) * part
        assert sum((end - start) / part for start, end in mine) == pytest.approx(0.1, abs=1e-6)
    assert 5 <= sum(len(mine) == 2 for mine in pieces.values()) <= 15
    middles = [mine[-1][0] + (mine[-1][1] - mine[-1][0]) / 2 for _, mine in sorted(pieces.items())]
    await database["attempts"].insert_many({"_id": str(n), "attempted_at": at} for n, at in enumerate(middles))
    await database["attempts"].insert_one({"_id": "before", "attempted_at": since - timedelta(seconds=1)})
    cursor = await database["attempts"].aggregate([{"$match": sample.match()}, {"$set": {"number": sample.number()}}])
    assert {document["_id"]: int(document["number"]) async for document in cursor} == {
        str(n): n for n in range(STRETCHES)
    }
