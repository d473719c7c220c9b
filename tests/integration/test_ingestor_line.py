"""The door of the house on a real broker and a real store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from config.settings import Settings
from messaging.channel import Channel
from messaging.contracts import AttemptReported
from messaging.dead_letters import drop_dead_letters, list_dead_letters, replay_dead_letters
from storage.database import Database, close, connect, declare
from storage.rejections import reason_of
from tests.conftest import eventually
from tests.factories import report
from tests.integration.line import head_of_line, running, say, say_raw
from tests.recount import attempt_rollups, attempts_recounted

NOW = datetime.now(UTC)


async def opened(settings: Settings) -> Database:
    """The store that the workers of this test use."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    return database


async def stored(database: Database) -> int:
    """How many attempts are stored."""
    return await database["attempts"].count_documents({})


def recent(number: int, **changed: Any) -> AttemptReported:
    """A report of now."""
    return report(number, **{"attempted_at": NOW, "occurred_at": NOW + timedelta(seconds=1)} | changed)


async def test_reports_are_stored_once_with_their_sums(settings: Settings) -> None:
    """Duplicates, corrections and disorder leave every attempt once, and sums that equal a recount."""
    database = await opened(settings)
    async with head_of_line(settings) as channel, running(settings, "ingestor"):
        reports = [recent(number, status="pending", occurred_at=NOW) for number in range(300)]
        finals = [
            recent(number, event_id=f"evt_b{number}", status="failed" if number % 3 else "succeeded")
            for number in range(300)
        ]
        await say(channel, [*finals[:150], *reports, *finals, *reports[:50]])

        async def settled() -> bool:
            return await database["attempts"].count_documents({"status": {"$ne": "pending"}}) == 300

        await eventually(settled, within_s=20)

        async def published() -> bool:
            waiting = await database["outbox"].count_documents({"published_at": None})
            return waiting == 0 and await _drained(channel, "ingestor")

        await eventually(published)
        assert await stored(database) == 300
        assert await attempt_rollups(database) == await attempts_recounted(database)
    await close(database)


async def test_what_cannot_be_taken_becomes_a_dead_letter_with_its_reason(settings: Settings) -> None:
    """Malformed bodies, wrong types and unknown gateways are kept with a reason; their neighbours are stored."""
    database = await opened(settings)
    wrong = msgspec.to_builtins(recent(2)) | {"type": "attempt.reported", "amount_minor": "12.50"}
    async with head_of_line(settings) as channel, running(settings, "ingestor"):
        await say(channel, [recent(1)])
        await say_raw(channel, "attempt.reported", b"{not json")
        await say_raw(channel, "attempt.reported", msgspec.json.encode(wrong))
        await say(channel, [recent(3, gateway="alhpa"), recent(4)])
        await eventually(lambda: _at_least(lambda: stored(database), 2))
        await eventually(lambda: _counts(channel, "ingestor.dead", 3))
    letters = await list_dead_letters(settings.broker.url, "ingestor")
    assert sorted(str(letter.problem) for letter in letters) == [
        "$.amount_minor: expected `int`, got `str`",
        "$: the body is no JSON object in UTF-8",
        "None",
    ]
    reasons = sorted([str(await reason_of(database, "ingestor", letter.body)) for letter in letters])
    assert reasons[0] == "$.amount_minor: expected `int`, got `str`"
    assert reasons[1].startswith("$.gateway: 'alhpa' is no gateway in config/gateways.yaml (known: alpha, ")
    assert reasons[2] == "$: the body is no JSON object in UTF-8"
    assert {letter.cause for letter in letters} == {"rejected"}
    assert await stored(database) == 2
    await close(database)


async def test_dead_letters_are_looked_at_replayed_and_dropped(settings: Settings) -> None:
    """Looking leaves them; replaying gives them to their queue once more; dropping ends them."""
    database = await opened(settings)
    async with head_of_line(settings) as channel, running(settings, "ingestor"):
        await say_raw(channel, "attempt.reported", b"1")
        await say(channel, [recent(1, gateway="later")])
        await eventually(lambda: _counts(channel, "ingestor.dead", 2))
    url = settings.broker.url
    assert len(await list_dead_letters(url, "ingestor")) == 2
    assert len(await list_dead_letters(url, "ingestor")) == 2
    dropped = await drop_dead_letters(url, "ingestor", only=lambda letter: letter.body == b"1")
    assert [letter.body for letter in dropped] == [b"1"]
    async with head_of_line(settings) as channel:
        await eventually(lambda: _counts(channel, "ingestor.dead", 1))
        assert len(await replay_dead_letters(url, "ingestor")) == 1
        await eventually(lambda: _counts(channel, "ingestor", 1))
        await eventually(lambda: _counts(channel, "ingestor.dead", 0))
    await close(database)


async def test_a_card_number_is_nowhere_afterwards(settings: Settings) -> None:
    """A message with a card number is dropped and counted; the number is in no collection, queue or reason."""
    database = await opened(settings)
    number = "4111111111111111"
    async with head_of_line(settings) as channel, running(settings, "ingestor"):
        await say(channel, [recent(1, failure_message=f"declined {number}", status="failed")])
        body = msgspec.json.encode(msgspec.to_builtins(recent(2)) | {"type": "attempt.reported", "cvv": "123"})
        await say_raw(channel, "attempt.reported", body)
        await say_raw(channel, "attempt.reported", b"{}", note=number)
        await say(channel, [recent(3)])

        async def counted() -> bool:
            return await database["rejections"].count_documents({"kind": "card_data"}) == 3

        await eventually(counted)
        await eventually(lambda: _drained(channel, "ingestor"))
        assert await channel.count_ready("ingestor.dead") == 0
    assert await stored(database) == 1
    for name in await database.list_collection_names():
        async for document in database[name].find():
            assert number not in str(document)
    await close(database)


async def test_a_crash_between_store_and_publish_is_made_good(settings: Settings) -> None:
    """An outbox entry that its writer did not live to publish is published by the next one."""
    database = await opened(settings)
    body = b'{"type":"attempts.recorded","batch_id":"bat_old","recorded_at":"2026-01-01T00:00:00Z","attempts":[]}'
    await database["outbox"].insert_one(
        {
            "_id": "bat_old",
            "stage": "ingestor",
            "at": NOW - timedelta(minutes=1),
            "published_at": None,
            "messages": [{"type": "attempts.recorded", "id": "bat_old", "body": body, "mandatory": True}],
        }
    )
    async with head_of_line(settings) as channel, running(settings, "ingestor"):
        await eventually(lambda: _counts(channel, "failure_classifier", 1))

        async def marked() -> bool:
            return await database["outbox"].count_documents({"_id": "bat_old", "published_at": {"$ne": None}}) == 1

        await eventually(marked)
    await close(database)


async def test_two_replicas_share_the_work_without_counting_twice(settings: Settings) -> None:
    """Reports of the same attempts at two ingestors end in right sums: conflicts are handled again."""
    database = await opened(settings)
    async with head_of_line(settings) as channel, running(settings, "ingestor", "ingestor"):
        for wave in range(6):
            status = "succeeded" if wave % 2 else "failed"
            await say(
                channel,
                [
                    recent(n, event_id=f"evt_{wave}_{n}", status=status, occurred_at=NOW + timedelta(seconds=wave))
                    for n in range(200)
                ],
            )
        await eventually(lambda: _drained(channel, "ingestor"), within_s=20)

        async def final() -> bool:
            return await database["attempts"].count_documents({"status": "succeeded"}) == 200

        await eventually(final, within_s=20)
        assert await stored(database) == 200
        assert await attempt_rollups(database) == await attempts_recounted(database)
    await close(database)


async def _drained(channel: Channel, queue: str) -> bool:
    return await channel.count_ready(queue) == 0


async def _counts(channel: Channel, queue: str, expected: int) -> bool:
    return await channel.count_ready(queue) == expected


async def _at_least(count: Any, expected: int) -> bool:
    return bool(await count() >= expected)
