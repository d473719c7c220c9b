"""Experiments through the real line: routed by arm, counted, judged, stopped, obeyed, and told afterwards."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from cli.__main__ import ipa
from config.settings import Settings
from messaging.client import RoutingClient
from messaging.contracts import AttemptsRecorded, RecordedAttempt
from ml.experiments.design import Experiment
from ml.experiments.units import COUNT_NAMES
from simulator.trial import Trial, experiment_yaml, gateways_yaml
from storage.audit import AuditQuery, read_audit
from storage.database import Database, close, connect, declare
from storage.errors import StoreConflict
from storage.experiments import (
    ExperimentCounts,
    arm_counts,
    arm_sums,
    last_allocation,
    ledger_revision,
    record_experiments,
)
from storage.read_models.experiment_report import read_story
from tests.conftest import eventually
from tests.integration.line import head_of_line, running, say
from web.experiment_report import render_report

METHODS = ("card", "upi")
TRUTH = {("alpha", "card"): 0.70, ("bravo", "card"): 0.95, ("alpha", "upi"): 0.95, ("bravo", "upi"): 0.45}
OBEYED_S_MAX = 1.0


@pytest.fixture
def trial_settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with two gateways and two experiments: for cards bravo is better, for UPI it is harmful."""
    (tmp_path / "gateways.yaml").write_text(gateways_yaml(("alpha", "bravo"), METHODS))
    (tmp_path / "experiments.yaml").write_text(
        "experiments:\n"
        + experiment_yaml("better", ["card"], smallest_effect=0.05, orders_expected=400)
        + experiment_yaml("harmful", ["upi"], smallest_effect=0.05, orders_expected=400)
    )
    chosen = msgspec.structs.replace(
        settings.experiments, path=str(tmp_path / "experiments.yaml"), reload_s=0.1, report_s=0.3
    )
    gateways = msgspec.structs.replace(settings.gateways, path=str(tmp_path / "gateways.yaml"))
    return msgspec.structs.replace(settings, experiments=chosen, gateways=gateways)


async def standing_of(database: Database, name: str) -> str | None:
    """How an experiment was reported last."""
    report = await database["experiment_reports"].find_one({"_id": name})
    return None if report is None else str(report["standing"])


async def test_verdicts_come_out_right_and_harm_is_stopped(
    trial_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The better arm is called better; the harmful one is stopped by itself, routers obey at once, and it is told."""
    database = await connect(trial_settings.store)
    await declare(database, trial_settings.store)
    stages = ("ingestor", "experiment_allocator", "experiment_allocator", "router_advisor")  # one of the two waits
    async with running(trial_settings, *stages):
        await eventually(lambda: last_allocation(database), within_s=20)
        client = await RoutingClient.connect(trial_settings.broker.url, fallback=["alpha"])
        trial = Trial(client, TRUTH, {"card": 0.6, "upi": 0.4}, np.random.default_rng(1))

        async def decided() -> bool:
            standings = [await standing_of(database, name) for name in ("better", "harmful")]
            return standings[0] == "better" and standings[1] not in (None, "collecting")

        await trial.run(6_000, decided, at_once=16, look_every=64)
        assert await decided()
        await asyncio.sleep(OBEYED_S_MAX)
        orders = trial.seen.orders

        async def never() -> bool:
            return False

        before = trial.seen.by_arm["harmful", "challenger"]
        await trial.run(orders + 128, never, at_once=16, look_every=64)
        assert trial.seen.by_arm["harmful", "challenger"] == before
        assert trial.seen.by_arm["", ""] > 0
        await client.close()
    action = await database["experiment_actions"].find_one({"experiment": "harmful"})
    assert action is not None
    assert (action["action"], action["automatic"]) == ("stopped", True)
    (entry,) = await read_audit(database, AuditQuery(what="experiment.stopped"))
    assert (entry.who, entry.subject, entry.automatic) == ("experiment_allocator", "experiment:harmful", True)

    story = await read_story(database, "harmful", action["at"])
    assert story is not None
    assert story.toll is not None
    html = render_report(story)
    assert "<h1>Experiment harmful</h1>" in html
    assert story.report.verdict.partition(" ")[0] in html
    await _commands_tell_it(trial_settings, monkeypatch, tmp_path)
    await _restart_and_replay_change_nothing(trial_settings, database)
    await close(database)


async def _commands_tell_it(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What people type: status, results, plan and a refused name."""
    for name, value in (
        ("IPA_AMQP_URL", settings.broker.url),
        ("IPA_MONGO_URL", settings.store.url),
        ("IPA_STORE__DATABASE", settings.store.database),
        ("IPA_EXPERIMENTS__PATH", settings.experiments.path),
    ):
        monkeypatch.setenv(name, value)

    def typed(*words: str) -> str:
        outcome = CliRunner().invoke(ipa, ["experiment", *words], catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    status = json.loads(await asyncio.to_thread(typed, "status", "--json"))
    assert {each["report"]["experiment"]: each["report"]["running"] for each in status["standings"]} == {
        "better": True, "harmful": False,
    }  # fmt: skip
    shown = await asyncio.to_thread(typed, "results", "better", "--html", str(tmp_path / "better.html"))
    assert shown.endswith("better.html written\n")
    assert "<svg" in (tmp_path / "better.html").read_text()
    assert "better: authorization rate of 'challenger'" in await asyncio.to_thread(typed, "results", "better")
    assert "any look" in await asyncio.to_thread(typed, "plan", "better")
    stop = ("stop", "better", "--reason", "the test is over")
    assert "is being stopped" in await asyncio.to_thread(typed, *stop)
    async with running(settings, "experiment_allocator"):
        database = await connect(settings.store)

        async def stopped() -> bool:
            allocation = await last_allocation(database)
            return bool(allocation and not any(each.enabled for each in allocation.experiments))

        await eventually(stopped, within_s=15)
        await close(database)


async def _restart_and_replay_change_nothing(settings: Settings, database: Database) -> None:
    """Counts and sums are those of the recorded attempts; a restarted allocator that hears them again keeps them."""
    allocation = await last_allocation(database)
    assert allocation is not None
    experiment: Experiment = allocation.experiments[0]
    place = COUNT_NAMES.index("attempts")

    async def all_mature() -> bool:
        return await database["experiment_units"].count_documents({"waiting": True}) == 0

    async with running(settings, "experiment_allocator"):
        await eventually(all_mature, within_s=15)
    counts, sums = await arm_counts(database), await arm_sums(database)
    counted = sum(each[place] for (phase, _, _), each in counts.items() if phase == experiment.phase)
    routed = {document["_id"] async for document in database["decisions"].find({"advice.experiment": experiment.name})}
    attempts = [document async for document in database["attempts"].find({"method": "card"})]
    assert counted == sum(document.get("decision_id") in routed for document in attempts)
    assert sum(each[0] for (phase, _, _), each in sums.items() if phase == experiment.phase) == counted

    await database["consumed"].delete_many({"_id": {"$regex": "^experiment_allocator"}})
    again = [msgspec.convert({"attempt_id": document["_id"]} | document, RecordedAttempt) for document in attempts]
    repeated = AttemptsRecorded(batch_id="bat_again", recorded_at=datetime.now(UTC), attempts=again)
    async with head_of_line(settings) as channel, running(settings, "experiment_allocator"):
        await say(channel, [repeated])

        async def heard() -> bool:
            query = {"_id": {"$regex": "bat_again"}}
            return await database["consumed"].count_documents(query) == 1

        await eventually(heard, within_s=15)
    assert (await arm_counts(database), await arm_sums(database)) == (counts, sums)


async def test_who_woke_up_late_adds_nothing(database: Database) -> None:
    """Sums are added to only by who knows the last revision of the ledger; a stale writing leaves no trace."""
    counts = ExperimentCounts(counts={("e:1", "e", "a"): (1, *[0] * (len(COUNT_NAMES) - 1))})
    now = datetime.now(UTC)
    assert await ledger_revision(database) == 0
    await record_experiments(database, ["attempts.recorded:bat_1"], [counts], [], now=now, revision=0)
    with pytest.raises(StoreConflict):
        await record_experiments(database, ["attempts.recorded:bat_2"], [counts], [], now=now, revision=0)
    assert (await arm_counts(database))["e:1", "e", "a"][0] == 1
    assert await ledger_revision(database) == 1
    assert await database["consumed"].count_documents({}) == 1
