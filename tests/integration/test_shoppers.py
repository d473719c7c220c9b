"""Orders rebuilt from attempts, on a real broker and a real store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from actors.shopper_training import KIND, train_shopper_segments
from actors.trainer import Job, train
from config.settings import Settings
from ml.lack import TooFewData
from storage.database import Database, close, connect, declare
from storage.read_models.shoppers import read_shopper_behaviour, read_shopper_segments
from storage.shoppers import customer_key, hashed, read_orders, write_orders
from tests.conftest import eventually
from tests.factories import report
from tests.factories_shoppers import shopper
from tests.integration.line import head_of_line, running, say

WORKERS = ("ingestor", "failure_classifier", "shopper_watcher")


async def test_orders_are_rebuilt_as_reports_come(settings: Settings) -> None:
    """A failure, a retry, and a late success of the first try, over a restart: the story ends right, ids hashed."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    now = datetime.now(UTC)
    common = {"order_id": "ord_1", "customer_id": "shopper_77", "occurred_at": now, "method": "card"}
    failed = report(1, status="failed", failure_code="91", attempted_at=now - timedelta(minutes=3), **common)
    retried = report(2, gateway="bravo", attempted_at=now - timedelta(minutes=2), status="failed", **common)

    async def story() -> list[tuple[str, str | None]] | None:
        found = await read_orders(database, now - timedelta(days=1), now)
        return [(step.status, step.category) for step in found[0].steps] if found else None

    async with head_of_line(settings) as channel:
        async with running(settings, *WORKERS):
            await say(channel, [failed])

            async def first() -> bool:
                return await story() == [("failed", "issuer_unavailable")]

            await eventually(first, within_s=60)
        await say(channel, [retried])
        late = {"occurred_at": now + timedelta(seconds=5), "event_id": "evt_late"}
        async with running(settings, *WORKERS):
            await say(channel, [report(1, status="succeeded", attempted_at=failed.attempted_at, **(common | late))])

            async def last() -> bool:
                return await story() == [("succeeded", None), ("failed", "unknown")]

            await eventually(last, within_s=60)
    (kept,) = await read_orders(database, now - timedelta(days=1), now)
    assert kept.customer == hashed("shopper_77", await customer_key(database))
    assert "shopper_77" not in str(await database["shopper_orders"].find().to_list())
    read = await read_shopper_behaviour(database, now - timedelta(days=1), now, now)
    assert (read.funnel.started, read.funnel.paid, read.funnel.failed_first) == (1, 1, 0)
    await close(database)


async def test_segments_are_trained_and_read(settings: Settings, database: Database) -> None:
    """Too few shoppers are no segments; enough of them are found by the trainer, and read with rates by day."""

    now = datetime(2026, 3, 9, tzinfo=UTC)
    job = Job(KIND, 60, train_shopper_segments)
    few = await train_shopper_segments(database, settings, None, now)
    assert few == TooFewData(0, 60)
    assert (await read_shopper_segments(database, now - timedelta(days=9), now)).version is None
    draw = np.random.default_rng(5)
    stories = [story for n in range(60) for kind in ("patient", "leaving") for story in shopper(kind, n, draw)]
    await write_orders(database, stories, now)

    done = await train(job, database, settings, now)
    read = await read_shopper_segments(database, now - timedelta(days=9), now)

    assert done.is_promoted
    assert (read.version, read.customers, len(read.segments)) == (1, 120, 2)
    attempts = sum(step.status in ("succeeded", "failed") for story in stories for step in story.steps)
    assert sum(segment.rate.settled for segment in read.segments) == attempts
    for segment in read.segments:
        assert sum(day.rate.settled for day in segment.days) == segment.rate.settled
