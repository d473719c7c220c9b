"""The line below the ingestor, on a real broker and a real store."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from config.settings import Settings, load_settings
from ml.experiments.units import COUNT_NAMES
from storage.database import close, connect, declare
from storage.experiments import arm_counts, last_allocation
from storage.read_models.experiments import read_experiments
from tests.conftest import eventually
from tests.factories import report
from tests.integration.line import head_of_line, running, say, say_raw
from tests.recount import failure_rollups, failures_recounted

EXPERIMENTS = """\
experiments:
  - name: first
    seed: first-2026
    arms:
      - {name: challenger, policy: adaptive, weight: 0.5}
      - {name: control, policy: uniform, weight: 0.5}
"""


def with_experiments(settings: Settings, path: Path) -> Settings:
    """The same settings with another experiments file, looked at often."""
    chosen = msgspec.structs.replace(settings.experiments, path=str(path), reload_s=0.1, report_s=0.2)
    return msgspec.structs.replace(settings, experiments=chosen)


async def test_failures_are_classified_and_taken_back(settings: Settings) -> None:
    """Each failed attempt has one verdict; a late success withdraws it, and the sums follow."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    now = datetime.now(UTC)
    async with head_of_line(settings) as channel, running(settings, "ingestor", "failure_classifier"):
        common = {"attempted_at": now, "occurred_at": now}
        text = "Insufficient funds in the account"
        failed = [report(n, status="failed", failure_message=text, **common) for n in range(40)]
        await say(channel, failed)

        async def classified() -> bool:
            return await database["failures"].count_documents({"withdrawn": False}) == 40

        await eventually(classified, within_s=30)
        document = await database["failures"].find_one({"_id": "att_1"})
        assert document is not None
        assert (document["category"], document["hardness"]) == ("insufficient_funds", "soft")
        later = common | {"occurred_at": now + timedelta(seconds=3)}
        await say(channel, [report(n, event_id=f"evt_late_{n}", **later) for n in range(10)])

        async def withdrawn() -> bool:
            return await database["failures"].count_documents({"withdrawn": True}) == 10

        await eventually(withdrawn)
        assert await failure_rollups(database) == await failures_recounted(database)
    await close(database)


async def test_an_outage_becomes_one_anomaly(settings: Settings) -> None:
    """A gateway that fails is opened once, for the gateway, with the time it began."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    settings = load_settings(
        {
            "IPA_AMQP_URL": settings.broker.url,
            "IPA_MONGO_URL": settings.store.url,
            "IPA_STORE__DATABASE": settings.store.database,
            "IPA_ANOMALIES__WINDOW_S": "1",
            "IPA_ANOMALIES__GRACE_S": "0.5",
        }
    )
    draw = random.Random(5)
    began = datetime.now(UTC)
    number = 0
    async with head_of_line(settings) as channel, running(settings, "ingestor", "anomaly_watcher"):

        async def second_of_traffic(failing: str | None) -> bool:
            nonlocal number
            now = datetime.now(UTC)
            reports = []
            for gateway in ("alpha", "bravo", "charlie", "delta", "echo"):
                for _ in range(12):
                    number += 1
                    lost = draw.random() < (0.97 if gateway == failing else 0.08)
                    method = draw.choice(["upi", "card"])
                    status = "failed" if lost else "succeeded"
                    changed = {"gateway": gateway, "method": method, "status": status}
                    reports.append(report(number, attempted_at=now, occurred_at=now, **changed))
            await say(channel, reports)
            return await database["anomalies"].count_documents({"closed_at": None}) > 0

        for _ in range(40):  # about twenty seconds of health
            assert not await _after(0.5, second_of_traffic, None)
        outage = datetime.now(UTC)
        await eventually(lambda: second_of_traffic("bravo"), within_s=30, every_s=0.5)
        found = [document async for document in database["anomalies"].find()]
        assert [document["segment"]["gateway"] for document in found] == ["bravo"]
        assert found[0]["segment"]["method"] is None
        assert began < found[0]["started_at"]
        assert abs((found[0]["started_at"] - outage).total_seconds()) < 6
    await close(database)


async def test_experiments_are_published_counted_and_reloaded(settings: Settings, tmp_path: Path) -> None:
    """A valid file comes into force; a broken one is refused with its line, and the last good one stays."""
    file = tmp_path / "experiments.yaml"
    file.write_text(EXPERIMENTS)
    settings = with_experiments(settings, file)
    database = await connect(settings.store)
    await declare(database, settings.store)
    async with head_of_line(settings) as channel, running(settings, "ingestor", "experiment_allocator"):

        async def in_force() -> object:
            return await last_allocation(database)

        await eventually(in_force, within_s=20)
        first = await last_allocation(database)
        assert first is not None
        now = datetime.now(UTC)
        common = {"attempted_at": now, "occurred_at": now, "country": "IN"}
        await say(channel, [report(n, decision_id=f"dec_{n}", **common) for n in range(400)])
        await say(channel, [report(n, **common) for n in range(1_000, 1_050)])  # not routed by us

        async def counted() -> bool:
            place = COUNT_NAMES.index("attempts")
            return sum(counts[place] for counts in (await arm_counts(database)).values()) == 400

        await eventually(counted)

        async def reported() -> bool:
            document = await database["experiment_reports"].find_one({"_id": "first"})
            return bool(document and sum(arm["orders"] for arm in document["arms"]) == 400)

        await eventually(reported)

        file.write_text(
            EXPERIMENTS.replace("weight: 0.5}\n      - {name: control", "weight: 0.4}\n      - {name: control")
        )

        async def refused() -> object:
            beat = await database["heartbeats"].find_one({"stage": "experiment_allocator"})
            return beat and beat["last_error"]

        problem = str(await eventually(refused))
        assert (await read_experiments(database)).file_error == problem
        assert problem.startswith(f"{file}:")
        assert "add up to 0.9, must be 1" in problem
        still = await last_allocation(database)
        assert still is not None
        assert still.version == first.version

        file.write_text(f"{EXPERIMENTS}\n# as before\n")

        async def mended() -> bool:
            return (await read_experiments(database)).file_error is None

        await eventually(mended)
        file.write_text(EXPERIMENTS.replace("first-2026", "second-2026"))

        async def renewed() -> bool:
            allocation = await last_allocation(database)
            return bool(allocation and allocation.version != first.version)

        await eventually(renewed)
    await close(database)


async def test_a_poison_message_is_lost_alone(settings: Settings) -> None:
    """A batch that a worker cannot handle is tried one by one: the culprit is a dead letter, its neighbours count."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    now = datetime.now(UTC)
    async with head_of_line(settings) as channel, running(settings, "ingestor"):
        common = {"attempted_at": now, "occurred_at": now}
        reports = [report(n, **common) for n in range(20)]
        await say(channel, reports[:10])
        # A number that JSON allows and MongoDB does not keep: the worker's store refuses it.
        await say_raw(channel, "attempt.reported", b'{"type":"attempt.reported","event_id":1}')
        await say(channel, reports[10:])

        async def stored() -> bool:
            return await database["attempts"].count_documents({}) == 20

        await eventually(stored)

        async def dead() -> bool:
            return await channel.count_ready("ingestor.dead") == 1

        await eventually(dead)
    await close(database)


async def _after(pause_s: float, act: object, *arguments: object) -> object:
    """Wait, then act."""
    import asyncio

    await asyncio.sleep(pause_s)
    return await act(*arguments)  # type: ignore[operator]
