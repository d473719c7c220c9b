"""A customer's attempts are found through their stretches of time: all of them, in order, without reading others."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from messaging.contracts import RecordedAttempt
from storage.attempts import STRETCH, AttemptState, ReportEntry, attempt_document, stretch_of
from storage.database import Database
from storage.read_models.attempts import AttemptFilter, read_latest
from storage.read_models.retry_facts import DECLINES_MAX, OrderKind, read_retry_facts
from tests.factories import recorded

NOW = datetime(2026, 3, 2, 12, 1, tzinfo=UTC)
"""A minute into a stretch."""


def attempt(number: int, moment: datetime, customer: str = "cus_1", **changed: str) -> RecordedAttempt:
    """A failed attempt of a customer, at a moment."""
    fields = {"customer_id": customer, "network": "visa", "status": "failed"} | changed
    return recorded(number, attempted_at=moment, occurred_at=moment, **fields)


async def store(database: Database, attempts: Iterable[RecordedAttempt]) -> None:
    """Store them as the ingestor does."""
    entry = ReportEntry(event_id="evt", status="failed", occurred_at=NOW, received_at=NOW)
    states = (AttemptState(attempt=one, history=(entry,), revision=1) for one in attempts)
    await database["attempts"].insert_many([attempt_document(state) for state in states])


async def declines(database: Database, now: datetime) -> list[datetime]:
    """What a retry advice takes for the customer's declines."""
    kind = OrderKind(network="visa", customer_id="cus_1")
    return (await read_retry_facts(database, "ord_unknown", kind, {}, now)).declines_at


async def examined(database: Database) -> list[tuple[str, int]]:
    """How each search for attempts of a customer went since the profiler is on, and the index keys it read."""
    await database.command("profile", 0)
    query = {"op": "query", "ns": f"{database.name}.attempts", "command.filter.customer_id": {"$exists": True}}
    query["command.filter.customer_stretch"] = {"$exists": True}
    return [(one["planSummary"], one["keysExamined"]) async for one in database["system.profile"].find(query)]


async def test_attempts_of_wrong_clocks_are_found_as_the_others(database: Database) -> None:
    """An attempt of the year 1 and one of 1970 neither break a search by customer nor make it long."""
    moments = [datetime(1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), NOW - timedelta(days=80), NOW]
    await store(database, [attempt(number, moment) for number, moment in enumerate(moments)])
    others = (NOW - timedelta(minutes=45 * number) for number in range(2_400))
    await store(database, [attempt(10 + number, moment, "cus_2") for number, moment in enumerate(others)])
    await database.command("profile", 2)
    wanted = AttemptFilter(customer_id="cus_1")
    assert [one.attempt_id for one in await read_latest(database, wanted)] == ["att_3", "att_2", "att_1", "att_0"]
    narrow = AttemptFilter(customer_id="cus_1", since=moments[1], until=NOW)
    assert [one.attempt_id for one in await read_latest(database, narrow)] == ["att_2", "att_1"]
    early = AttemptFilter(customer_id="cus_1", since=moments[0], until=moments[1])
    assert [one.attempt_id for one in await read_latest(database, early)] == ["att_0"]
    seen = await examined(database)
    assert len(seen) == 3
    assert all(plan.startswith("IXSCAN") and keys <= 2 * 902 + 2 for plan, keys in seen), seen


async def test_declines_of_clocks_ahead_count(database: Database) -> None:
    """A decline that a checkout stamped some minutes ahead, in the next stretch, is a decline of its customer."""
    ahead = NOW + STRETCH - timedelta(minutes=5)
    assert stretch_of(ahead) < stretch_of(ahead + timedelta(minutes=9))
    moments = [ahead - timedelta(days=29), ahead, ahead + timedelta(minutes=9)]
    await store(database, [attempt(number, moment) for number, moment in enumerate(moments)])
    assert await declines(database, ahead) == moments[::-1]


async def test_the_latest_declines_are_found_among_very_many(database: Database) -> None:
    """Of an id that many shoppers share the newest declines are told, in order, and only some of the index is read."""
    draw = random.Random(1)
    moments = [NOW - timedelta(days=15, seconds=draw.randrange(15 * 86_400)) for _ in range(6_000)]
    await store(database, [attempt(number, moment) for number, moment in enumerate(moments)])
    await store(database, [attempt(10_000, NOW, status="succeeded"), attempt(10_001, NOW, network="amex")])
    others = (NOW - timedelta(seconds=90 * number) for number in range(14_000))  # newer: no other index finds it sooner
    await store(database, [attempt(20_000 + number, moment, "cus_2") for number, moment in enumerate(others)])
    await database.command("profile", 2)
    assert await declines(database, NOW) == sorted(moments, reverse=True)[:DECLINES_MAX]
    seen = await examined(database)
    assert seen
    assert all(plan.startswith("IXSCAN") for plan, _ in seen), seen
    assert sum(keys for _, keys in seen) < 2 * 361 + 2 * DECLINES_MAX, seen


async def test_declines_of_one_stretch_are_the_latest_ones(database: Database) -> None:
    """As many declines as are told, or more, in one stretch alone: the newest of them."""
    for count in (DECLINES_MAX, DECLINES_MAX + 300):
        moments = [NOW - timedelta(milliseconds=7 * number) for number in range(count)]
        await database["attempts"].delete_many({})
        await store(database, [attempt(number, moment) for number, moment in enumerate(reversed(moments))])
        assert await declines(database, NOW) == moments[:DECLINES_MAX]
