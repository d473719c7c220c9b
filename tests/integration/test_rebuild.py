"""Sums become coarser without changing, and everything derived can be computed again while the system runs."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from actors.pulse import utc_now
from cli.commands.rebuild import rest_told
from config.settings import Settings, StoreSettings
from messaging.contracts import AttemptReported
from storage.compaction import KINDS, LEVELS, compact, flat_sums, start_of
from storage.database import BY_CUSTOMER, Database, close, connect, declare
from storage.read_models.attempts import AttemptFilter, read_latest
from storage.rebuild import BY_CUSTOMER_BEFORE, REST_MAX, CustomersRest, finish_customers, periods, rebuild_rollups
from tests.conftest import eventually
from tests.factories import report
from tests.integration.line import head_of_line, running, say
from tests.integration.test_commands import ipa
from tests.recount import attempt_rollups, attempts_recounted, failure_rollups, failures_recounted

KEEPS = {"minutes_keep_days": 1, "hours_keep_days": 3}


def at(moment: datetime, number: int, **changed: Any) -> AttemptReported:
    """A report of an attempt that began then."""
    return report(number, attempted_at=moment, occurred_at=moment + timedelta(seconds=1), **changed)


async def sums_by_field(database: Database, kind: str) -> Counter[Any]:
    """All sums of a kind over minutes, hours and days, without the time."""
    names = KINDS[kind]
    found: Counter[Any] = Counter()
    for name in (kind, *(kind + level.coarser for level in LEVELS)):
        async for document in database[name].find():
            for field, amount in flat_sums(document, names):
                found[(*(document[part] for part in names if part != "minute"), field)] += amount
    return Counter({key: amount for key, amount in found.items() if amount})


def keeps(settings: Settings) -> StoreSettings:
    """Minutes for a day, hours for three."""
    return msgspec.structs.replace(settings.store, **KEEPS)


async def test_old_sums_become_coarser_and_stay_equal(settings: Settings) -> None:
    """Minutes become hours and days; a correction that comes later is added to them; nothing is counted twice."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    now = utc_now()
    old = [now - timedelta(days=5, minutes=7 * number) for number in range(30)]
    middle = [now - timedelta(days=2, minutes=7 * number) for number in range(30)]
    reports = [at(moment, number, status="failed") for number, moment in enumerate([*old, *middle, now])]
    async with running(settings, "ingestor", "failure_classifier"), head_of_line(settings) as channel:
        await say(channel, reports)
        await eventually(lambda: count(database, "failures", len(reports)), within_s=30)
        before = {kind: await sums_by_field(database, kind) for kind in KINDS}
        assert await compact(database, keeps(settings), now) > 60
        assert {kind: await sums_by_field(database, kind) for kind in KINDS} == before
        assert await database["attempt_rollups"].count_documents({}) == 1
        hours = await database["attempt_rollups_hours"].distinct("minute")
        assert all(moment == start_of(moment, timedelta(hours=1)) for moment in hours)
        assert hours
        assert min(hours) > now - timedelta(days=4)
        days = await database["attempt_rollups_days"].distinct("minute")
        assert days
        assert max(days) < now - timedelta(days=4)
        late = [
            msgspec.structs.replace(
                one, event_id=f"evt_late{number}", status="succeeded", occurred_at=one.occurred_at + timedelta(hours=1)
            )
            for number, one in enumerate(reports[:5])
        ]
        await say(channel, late)

        async def withdrawn() -> bool:
            return await database["failures"].count_documents({"withdrawn": True}) == len(late)

        await eventually(withdrawn, within_s=30)
    await compact(database, keeps(settings), now)
    attempts = await sums_by_field(database, "attempt_rollups")
    assert sum(amount for key, amount in attempts.items() if key[-1] == "succeeded") == len(late)
    assert sum(amount for key, amount in attempts.items() if key[-1] == "failed") == len(reports) - len(late)
    assert sum(amount for key, amount in attempts.items() if key[-1] == "attempts") == len(reports)
    assert await compact(database, keeps(settings), now) == 0
    await close(database)


async def test_sums_are_rebuilt_while_attempts_come_in(settings: Settings) -> None:
    """Sums that somebody spoiled are right again, also those that workers add to at the same time."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    now = utc_now()
    async with running(settings, "ingestor", "failure_classifier"), head_of_line(settings) as channel:
        await say(channel, [at(now, number, status="failed") for number in range(300)])
        await eventually(lambda: count(database, "failures", 300), within_s=30)
        await database["attempt_rollups"].update_many({}, {"$inc": {"attempts": 7, "failed": -3}})

        async def go_on() -> None:
            for part in range(20):
                await say(channel, [at(now, 1_000 + 50 * part + number) for number in range(50)])

        going = asyncio.create_task(go_on())
        spans = periods(now - timedelta(minutes=2), now + timedelta(minutes=1), settings.store, now)
        while not going.done():
            async for _ in rebuild_rollups(database, spans, now):
                pass
        await going
        await eventually(lambda: count(database, "attempts", 1_300), within_s=30)
    assert await attempt_rollups(database) == await attempts_recounted(database)
    await close(database)


async def test_the_command_rebuilds_sums_and_verdicts(settings: Settings) -> None:
    """`ipa rebuild rollups` and `failures` mend what was spoiled, and say what they cannot do."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    now = utc_now()
    reports = [
        at(now - timedelta(minutes=number % 3), number, status="failed", failure_code="51") for number in range(90)
    ]
    async with running(settings, "ingestor", "failure_classifier"), head_of_line(settings) as channel:
        await say(channel, reports)
        await eventually(lambda: count(database, "failures", 90), within_s=30)
    right = [one async for one in database["failures"].find({}, {"kept_since": 0}).sort("_id", 1)]
    await database["attempt_rollups"].delete_many({})
    await database["failures"].update_many({}, {"$set": {"category": "fraud_suspected", "withdrawn": True}})
    await database["failure_rollups"].update_many({}, {"$inc": {"failures": 5}})
    store = {"IPA_MONGO_URL": settings.store.url, "IPA_STORE__DATABASE": settings.store.database}
    for what in ("rollups", "failures"):
        done = ipa(settings.broker.url, "rebuild", what, "--last", "10m", **store)
        assert (done.returncode, "of 90 attempts rebuilt" in done.stdout) == (0, True), done.stderr
    assert await attempt_rollups(database) == await attempts_recounted(database)
    assert await failure_rollups(database) == await failures_recounted(database)
    assert [one async for one in database["failures"].find({}, {"kept_since": 0}).sort("_id", 1)] == right
    too_old = ipa(settings.broker.url, "rebuild", "rollups", "--since", "2020-01-01", **store)
    assert (too_old.returncode, "attempts_keep_days" in too_old.stderr) == (69, True)
    assert ipa(settings.broker.url, "rebuild", "rollups", **store).returncode == 2
    await close(database)


async def test_attempts_of_an_earlier_version_are_found_by_their_customer_again(settings: Settings) -> None:
    """New attempts are found at once; `ipa rebuild customers` adds what old ones lack, and drops the index of then.

    One stamped minutes ahead, and one older than any range may be, lie outside each range, and are found again too.
    """
    database = await connect(settings.store)
    await declare(database, settings.store)
    now = utc_now()
    reports = [at(now - timedelta(hours=5 * number), number, customer_id="cus_7") for number in range(8)]
    async with running(settings, "ingestor"), head_of_line(settings) as channel:
        ahead = at(now + timedelta(minutes=8), 10, customer_id="cus_8")
        ancient = at(datetime(1970, 1, 1, tzinfo=UTC), 11, customer_id="cus_8")
        await say(channel, [*reports, at(now, 8, customer_id="cus_8"), at(now, 9), ahead, ancient])
        await eventually(lambda: count(database, "attempts", 12), within_s=30)
    wanted = AttemptFilter(customer_id="cus_7")
    newest_first = [f"att_{number}" for number in range(8)]
    assert [one.attempt_id for one in await read_latest(database, wanted)] == newest_first
    within = AttemptFilter(customer_id="cus_7", since=now - timedelta(hours=21), until=now - timedelta(hours=9))
    assert [one.attempt_id for one in await read_latest(database, within)] == ["att_2", "att_3", "att_4"]
    rest = await read_latest(database, wanted, before=(reports[5].attempted_at, "att_5"))
    assert [one.attempt_id for one in rest] == ["att_6", "att_7"]
    stored = [one async for one in database["attempts"].find().sort("_id", 1)]
    await database["attempts"].update_many({}, {"$unset": {"customer_stretch": True}})
    await database["attempts"].create_index([("customer_id", 1), ("attempted_at", -1)], sparse=True)
    assert await read_latest(database, wanted) == []
    store = {"IPA_MONGO_URL": settings.store.url, "IPA_STORE__DATABASE": settings.store.database}
    await database["attempts"].drop_index(BY_CUSTOMER)  # as before any worker of this version started
    assert await finish_customers(database, rest_max=3) == CustomersRest(left=3, index_before="kept")
    assert BY_CUSTOMER_BEFORE in await database["attempts"].index_information()
    told = ["no attempt lacks it any more; the old index was dropped"]
    for last in ("2d", "8h"):
        done = ipa(settings.broker.url, "rebuild", "customers", "--last", last, **store)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1:] == told
        assert BY_CUSTOMER_BEFORE not in await database["attempts"].index_information()
        assert [one async for one in database["attempts"].find().sort("_id", 1)] == stored
        told = []
    await close(database)


def test_what_is_left_without_its_customer_is_told() -> None:
    """How many attempts still lack it, and that the old index stays for them if it is there."""
    assert rest_told(CustomersRest(left=12, index_before="kept")) == [
        "12 attempts still lack it; the old index stays; run it again"
    ]
    assert rest_told(CustomersRest(left=REST_MAX, index_before=None)) == [
        f"{REST_MAX} or more attempts still lack it; run it again"
    ]


def test_a_range_is_cut_as_its_sums_are_coarse(settings: Settings) -> None:
    """Minutes where minutes are kept, whole hours and days before that, widened to their ends."""
    now = datetime(2026, 3, 10, 12, 30, 30, tzinfo=UTC)
    store = msgspec.structs.replace(settings.store, **KEEPS)
    spans = periods(now - timedelta(days=4), now, store, now)
    lengths = Counter(end - start for start, end in spans)
    assert spans[0][0] == datetime(2026, 3, 6, tzinfo=UTC)
    assert spans[-1][1] == datetime(2026, 3, 10, 12, 31, tzinfo=UTC)
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(spans))
    assert lengths[timedelta(days=1)] == 1
    assert lengths[timedelta(hours=1)] == 2 * 24 + 12
    assert lengths[timedelta(minutes=1)] == 24 * 60 + 31


async def count(database: Database, collection: str, expected: int) -> bool:
    """Tell whether so many documents lie there."""
    return await database[collection].count_documents({}) == expected


async def test_anomalies_of_the_past_are_found_again(settings: Settings) -> None:
    """An outage that lies in the stored attempts is told by `ipa rebuild anomalies`; what people spoke of stays."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    began = utc_now().replace(second=0) - timedelta(minutes=50)
    outage = began + timedelta(minutes=30), began + timedelta(minutes=36)
    reports = []
    for number in range(5 * 45 * 60):
        moment, gateway = began + timedelta(seconds=number / 5), ("alpha", "bravo")[number % 2]
        broken = gateway == "bravo" and outage[0] <= moment < outage[1]
        status = "failed" if broken or number % 20 == 0 else "succeeded"
        reports.append(at(moment, number, gateway=gateway, status=status))
    await database["anomalies"].insert_one(
        {"_id": "anm_stale", "detected_at": outage[0], "closed_at": outage[1], "handling": {}}
    )
    async with running(settings, "ingestor"), head_of_line(settings) as channel:
        for start in range(0, len(reports), 1_000):
            await say(channel, reports[start : start + 1_000])
        await eventually(lambda: count(database, "attempts", len(reports)), within_s=60)
    store = {"IPA_MONGO_URL": settings.store.url, "IPA_STORE__DATABASE": settings.store.database}
    since, until = began + timedelta(minutes=20), began + timedelta(minutes=45)
    span = ("--since", f"{since:%Y-%m-%dT%H:%M}", "--until", f"{until:%Y-%m-%dT%H:%M}")
    done = ipa(settings.broker.url, "rebuild", "anomalies", *span, **store)
    assert done.returncode == 0, done.stderr
    found = [one async for one in database["anomalies"].find()]
    assert [(one["segment"]["gateway"], one["signal"]) for one in found] == [("bravo", "success_rate")]
    assert outage[0] <= found[0]["detected_at"] < outage[0] + timedelta(seconds=60)
    assert outage[1] - timedelta(seconds=60) < found[0]["closed_at"] <= until
    await close(database)
