"""The forest from stored attempts to the watcher that uses it, on a real store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from actors.forest_training import train_forest, troubles_of
from actors.serving import ANOMALY_FOREST, Serving
from actors.trainer import Job, jobs, train
from config.settings import Settings, load_settings
from messaging.contracts import Anomaly, Handling, Segment
from ml.anomalies.forest import Forest
from ml.lack import TooFewData
from storage.anomalies import record_anomalies
from storage.attempts import AttemptState, ReportEntry, attempt_document
from storage.database import Database
from storage.models import promote, roll_back
from storage.rollups import Sums, write_sums
from tests.factories import recorded

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
MINUTES = 60


def anomaly(name: str, *, minutes_ago: int, false_by: str | None = None, gateway: str = "alpha") -> Anomaly:
    """One that lasted for five minutes."""
    started = NOW - timedelta(minutes=minutes_ago)
    return Anomaly(
        anomaly_id=name,
        segment=Segment(gateway=gateway),
        signal="success_rate",
        severity="major",
        started_at=started,
        detected_at=started + timedelta(seconds=10),
        updated_at=started + timedelta(minutes=5),
        closed_at=started + timedelta(minutes=5),
        closed_because="well again",
        observed=0.5,
        expected=0.9,
        expected_low=0.8,
        expected_high=0.95,
        attempts_seen=100,
        score=20.0,
        handling=Handling(false_by=false_by, false_since=None if false_by is None else NOW),
    )


async def fill(database: Database) -> None:
    """Some eight payments a second for an hour, as the ingestor stores them."""
    rng = np.random.default_rng(0)
    documents, sums = [], Sums()
    for number in range(MINUTES * 60 * 8):
        at = NOW - timedelta(minutes=MINUTES) + timedelta(seconds=number / 8)
        said = recorded(
            number,
            gateway=("alpha", "bravo")[int(rng.integers(2))],
            issuer=("harbour_bank", "lantern_bank")[int(rng.integers(2))],
            status="succeeded" if rng.random() < 0.9 else "failed",
            attempted_at=at,
            occurred_at=at + timedelta(milliseconds=300),
        )
        entry = ReportEntry(event_id=f"evt_{number}", status=said.status, occurred_at=at, received_at=at)
        documents.append(attempt_document(AttemptState(attempt=said, history=(entry,), revision=1)))
        sums.add_attempt(said)
    await database["attempts"].insert_many(documents)
    async with database.client.start_session() as session:
        await write_sums(database["attempt_rollups"], sums, slot=0, now=NOW, session=session)


def forest_job(settings: Settings) -> Job:
    """The trainer's."""
    return next(job for job in jobs(settings) if job.kind == "anomaly_forest")


async def test_a_forest_goes_from_stored_attempts_to_the_watcher(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitted, judged, in force, served, taken back; and a version that cannot be read is left alone."""
    monkeypatch.setattr("ml.anomalies.forest_training.ROWS_MIN", 100)
    settings = load_settings({})
    assert isinstance(await train_forest(database, settings, None, NOW), TooFewData)
    await fill(database)
    await record_anomalies(database, [anomaly("ano_1", minutes_ago=40)], [], now=NOW)
    done = await train(forest_job(settings), database, settings, NOW)
    assert done.is_promoted, done.summary
    assert done.version is not None
    assert done.version.metrics["ordinary_minutes"] > 100
    serving = Serving(database, ANOMALY_FOREST, lambda stored: Forest.loaded(stored.body), look_s=0.0)
    assert await serving.refresh()
    assert not await serving.refresh()
    assert serving.model is not None
    assert serving.model.contamination == settings.anomalies.contamination
    again = await train(forest_job(settings), database, settings, NOW)
    assert again.is_promoted, "as good, and newer"
    assert again.version is not None
    assert "misfit_nats_in_force" in again.version.metrics
    first = serving.model
    assert await serving.refresh()
    assert serving.model is not first
    await roll_back(database, "anomaly_forest", reason="too many alerts", now=NOW)
    assert await serving.refresh()
    await database["models"].update_one({"_id": "anomaly_forest:2"}, {"$set": {"body": b"no forest"}})
    await promote(database, "anomaly_forest", 2, reason="a mistake", now=NOW)
    kept = serving.model
    assert not await serving.refresh()
    assert serving.model is kept


async def test_an_alert_marked_as_false_makes_its_minutes_ordinary(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same stored anomaly leaves its minutes out, until an operator says that it was none."""
    monkeypatch.setattr("ml.anomalies.forest_training.ROWS_MIN", 50)
    settings = load_settings({})
    await fill(database)
    counted = []
    for false_by in (None, "operator"):
        await database["anomalies"].delete_many({})
        await record_anomalies(database, [anomaly("ano_1", minutes_ago=40, false_by=false_by)], [], now=NOW)
        found = await train_forest(database, settings, None, NOW)
        assert not isinstance(found, TooFewData)
        counted.append(found.metrics["ordinary_minutes"])
    assert counted[1] > counted[0] > 0


def test_what_is_found_again_and_was_marked_as_false_is_no_trouble() -> None:
    """A watcher without memory finds the same again; what an operator said of it holds for that too."""
    told = [anomaly("ano_1", minutes_ago=60), anomaly("ano_2", minutes_ago=30, false_by="operator")]
    again = [
        anomaly("ano_3", minutes_ago=29),
        anomaly("ano_4", minutes_ago=10),
        anomaly("ano_5", minutes_ago=30, gateway="bravo"),
    ]
    still = msgspec.structs.replace(anomaly("ano_6", minutes_ago=5), closed_at=None)
    troubles = troubles_of(told, [*again, still], NOW)
    starts = [round((NOW.timestamp() - one.since) / 60) for one in troubles]
    assert starts == [60, 10, 30, 5]
    assert troubles[-1].until == NOW.timestamp()
