"""A message that kills its worker becomes a dead letter, and takes nobody along."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from actors.ingestor import Ingestor
from cli.services.process import Child
from config.settings import Settings
from messaging.dead_letters import list_dead_letters
from messaging.topology import DELIVERY_LIMIT
from storage.database import close, connect, declare
from tests.conftest import eventually
from tests.factories import report
from tests.integration.line import head_of_line, say

POISON = "ord_poison"
NEIGHBOURS = 300


class AttemptKeeper:
    """The ingestor that the killed worker runs."""

    def __init__(self) -> None:
        self.ingestor = Ingestor(["alpha"])


async def test_a_message_that_kills_its_worker_is_the_only_dead_letter(settings: Settings, tmp_path: Path) -> None:
    """Whatever the killed worker held beside the culprit is stored; only the culprit is put aside, after its limit."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    now = datetime.now(UTC)
    times = {"attempted_at": now, "occurred_at": now}
    reports = [report(number, **times) for number in range(NEIGHBOURS)]
    reports.insert(NEIGHBOURS // 3, report(NEIGHBOURS, order_id=POISON, **times))
    deaths = 0
    async with head_of_line(settings) as channel:
        await say(channel, reports)
        environment = os.environ | {
            "IPA_AMQP_URL": settings.broker.url,
            "IPA_MONGO_URL": settings.store.url,
            "IPA_STORE__DATABASE": settings.store.database,
        }
        command = [sys.executable, "-m", "tests.chaos.killer_worker"]
        root = Path(__file__).parents[2]
        worker = Child("killer", command, environment, tmp_path / "killer.log", root)

        async def only_the_culprit_is_dead() -> bool:
            nonlocal worker, deaths
            if worker.returncode is not None:
                deaths += 1
                assert deaths <= DELIVERY_LIMIT + 1, (tmp_path / "killer.log").read_text()[-2_000:]
                worker = Child("killer", command, environment, tmp_path / "killer.log", root)
            stored = await database["attempts"].count_documents({})
            return stored == NEIGHBOURS and await channel.count_ready("ingestor.dead") == 1

        await eventually(only_the_culprit_is_dead, within_s=90, every_s=0.1)
    await worker.stop()
    (letter,) = await list_dead_letters(settings.broker.url, "ingestor")
    assert POISON.encode() in letter.body
    assert letter.cause == "delivery_limit"
    assert deaths in (DELIVERY_LIMIT, DELIVERY_LIMIT + 1)  # brokers differ by one in how they count
    await close(database)
