"""The model store and the trainer, on a real store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from actors.pulse import Pulse
from actors.serving import RELIABILITY, Serving, loaded_or_none
from actors.trainer import Job, Trainer, jobs, train
from config.settings import Settings, load_settings
from ml.lack import TooFewData
from ml.routing.context import RoutingContext
from ml.routing.reliability import Reliability
from storage.attempts import AttemptState, ReportEntry, attempt_document
from storage.database import Database
from storage.errors import StoreRefused, StoreUnavailable
from storage.models import (
    BODY_BYTES_MAX,
    TERMS_KEPT,
    VERSIONS_KEPT,
    StoredModel,
    TrainedModel,
    add_candidate,
    list_models,
    model_in_force,
    model_that_served,
    model_version,
    promote,
    roll_back,
    version_in_force,
)
from tests.conftest import eventually
from tests.factories import recorded

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def trained(score: float = 0.5, *, better: bool = True, body: bytes = b"[1, 2]") -> TrainedModel:
    """A model that did so well on later data."""
    window = {"window_from": NOW - timedelta(days=7), "window_to": NOW}
    return TrainedModel(
        kind="toy", body=body, format="json", metrics={"score": score}, better=better, note="so", **window
    )


def job(*results: TrainedModel | TooFewData | Exception) -> tuple[Job, list[StoredModel | None]]:
    """A job that gives these results one after the other, and what it was told is in force each time."""
    told: list[StoredModel | None] = []
    left = list(results)

    async def fit(_: Database, __: Settings, in_force: StoredModel | None, ___: datetime) -> TrainedModel | TooFewData:
        told.append(in_force)
        result = left.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    return Job("toy", 0.05, fit), told


async def test_a_promotion_retires_the_version_before_and_can_be_taken_back(database: Database) -> None:
    """One version is in force at a time; roll-back returns to the one before, with its reason."""
    for number in (1, 2):
        version = await add_candidate(database, trained(number / 10), NOW)
        assert (version.version, version.status) == (number, "candidate")
        await promote(database, "toy", number, reason="better", now=NOW + timedelta(minutes=number))
    assert [(each.version, each.status) for each in await list_models(database, "toy")] == [
        (2, "in_force"),
        (1, "retired"),
    ]
    back = await roll_back(database, "toy", reason="it was worse after all", now=NOW + timedelta(hours=1))
    assert (back.version, back.reason) == (1, "it was worse after all")
    assert await version_in_force(database, "toy") == 1
    found = await model_in_force(database, "toy")
    assert found is not None
    assert (found.body, found.about.metrics, found.about.window_to) == (b"[1, 2]", {"score": 0.1}, NOW)


async def test_two_promotions_at_once_leave_one_version_in_force(database: Database) -> None:
    """Whoever comes first or last, there are never two."""
    for _ in range(4):
        await add_candidate(database, trained(), NOW)
    done = await asyncio.gather(
        *(promote(database, "toy", version, reason="", now=NOW) for version in (1, 2, 3, 4)), return_exceptions=True
    )
    assert any(not isinstance(result, BaseException) for result in done)
    assert [each.status for each in await list_models(database, "toy")].count("in_force") == 1


async def test_what_is_wrong_is_refused_in_words(database: Database) -> None:
    """No such version, nothing to go back to, too large, and a body that was tampered with."""
    with pytest.raises(StoreRefused, match="no version 7"):
        await promote(database, "toy", 7, reason="", now=NOW)
    with pytest.raises(StoreRefused, match="served before"):
        await roll_back(database, "toy", reason="", now=NOW)
    with pytest.raises(StoreRefused, match="too large"):
        await add_candidate(database, trained(body=bytes(BODY_BYTES_MAX + 1)), NOW)
    await add_candidate(database, trained(), NOW)
    assert await model_in_force(database, "toy") is None
    await database["models"].update_one({"_id": "toy:1"}, {"$set": {"body": b"[1, 3]"}})
    with pytest.raises(StoreRefused, match="checksum"):
        await model_version(database, "toy", 1)


async def test_old_versions_go_but_never_the_one_to_go_back_to(database: Database) -> None:
    """The number of versions has a bound; the one in force and the one before it stay."""
    await add_candidate(database, trained(), NOW)
    await promote(database, "toy", 1, reason="", now=NOW)
    await add_candidate(database, trained(), NOW)
    await promote(database, "toy", 2, reason="", now=NOW + timedelta(minutes=1))
    for _ in range(VERSIONS_KEPT + 5):
        await add_candidate(database, trained(), NOW)
    kept = {each.version for each in await list_models(database, "toy")}
    assert len(kept) == VERSIONS_KEPT + 2
    assert {1, 2, VERSIONS_KEPT + 7} <= kept


async def test_only_a_better_model_is_promoted(database: Database) -> None:
    """A job hears what is in force; a worse model stays a candidate, too few data make none."""
    settings = load_settings({})
    toy, told = job(trained(0.5), trained(0.4, better=False), TooFewData(seen=3, needed=100))
    first = await train(toy, database, settings, NOW)
    assert first.is_promoted
    second = await train(toy, database, settings, NOW)
    assert (second.is_promoted, second.version and second.version.status) == (False, "candidate")
    third = await train(toy, database, settings, NOW)
    assert (third.version, third.summary) == (None, "not enough data yet: 3 of about 100")
    assert [each and each.about.version for each in told] == [None, 1, 1]
    held, _ = job(trained(0.9))
    assert not (await train(held, database, settings, NOW, hold=True)).is_promoted


async def test_the_trainer_goes_on_after_a_job_that_fails(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that raises is noted in the heartbeat, and tried again."""
    monkeypatch.setattr("actors.trainer.RETRY_S", 0.05)
    monkeypatch.setattr("actors.trainer.LOOK_S", 0.02)
    toy, told = job(ValueError("no such thing"), trained(), *[trained(better=False)] * 1000)
    stopping = asyncio.Event()
    pulse = Pulse("trainer", database)
    running = asyncio.create_task(Trainer((toy,), database, load_settings({}), pulse).run(stopping))

    async def trained_twice() -> bool:
        return len(told) > 2 and await version_in_force(database, "toy") == 1

    await eventually(trained_twice)
    assert "no such thing" in (pulse.beat.last_error or "")
    stopping.set()
    await running


async def test_the_reliability_model_is_fitted_to_stored_first_attempts_and_served(database: Database) -> None:
    """From attempts in the store to the version in force, as the trainer and a router do it."""
    settings = load_settings({})
    too_few = await train(_reliability(settings), database, settings, NOW)
    assert too_few.version is None
    rng = np.random.default_rng(0)
    documents = []
    for number in range(8_000):
        country, gateway = ("DE", "FR")[int(rng.integers(2))], ("alpha", "bravo")[int(rng.integers(2))]
        rate = 0.9 if (country == "DE") == (gateway == "alpha") else 0.7
        at = NOW - timedelta(days=2) + timedelta(seconds=20 * number)
        status = "succeeded" if rng.random() < rate else "failed"
        said = recorded(number, gateway=gateway, country=country, status=status, attempted_at=at, occurred_at=at,
                        attempt_number=2 if number % 10 == 0 else 1)  # fmt: skip
        entry = ReportEntry(event_id=f"evt_{number}", status=said.status, occurred_at=at, received_at=at)
        documents.append(attempt_document(AttemptState(attempt=said, history=(entry,), revision=1)))
    await database["attempts"].insert_many(documents)
    done = await train(_reliability(settings), database, settings, NOW)
    assert done.is_promoted, done.summary
    assert done.version is not None
    assert done.version.metrics["payments"] == 7_200  # later attempts of an order do not teach
    serving = Serving(
        database, RELIABILITY, lambda stored: Reliability.loaded(stored.body, stored.about.version), look_s=0.0
    )
    assert await serving.refresh()
    assert not await serving.refresh()
    assert serving.model is not None
    assert serving.model.version == 1
    german = RoutingContext(method="upi", issuer="harbour_bank", currency="INR", country="DE", amount_minor=1_000)
    alpha, bravo = serving.model.shifts(german, ("alpha", "bravo"))
    assert alpha - bravo > 0.8
    await add_candidate(database, msgspec.structs.replace(trained(), kind="reliability", body=b"{}"), NOW)
    await promote(database, "reliability", 2, reason="a mistake", now=NOW)
    assert not await serving.refresh()
    assert serving.model.version == 1  # one that cannot be read is left alone


async def test_a_version_that_cannot_be_read_now_or_ever_is_left_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the store did not give is asked for again; one that is broken is not served, and nobody stops for it."""

    def load(stored: StoredModel) -> list[int]:
        return msgspec.json.decode(stored.body, type=list[int])

    async def away(*_: object) -> StoredModel | None:
        raise StoreUnavailable("between two reads")

    serving = Serving(database, "toy", load, look_s=0.0)
    assert not await serving.refresh()
    await add_candidate(database, trained(), NOW)
    await promote(database, "toy", 1, reason="", now=NOW)
    with monkeypatch.context() as hiccup:
        hiccup.setattr("actors.serving.model_in_force", away)
        with pytest.raises(StoreUnavailable):
            await serving.refresh()
    assert await serving.refresh()
    assert serving.model == [1, 2]
    await add_candidate(database, trained(body=b"no list"), NOW)
    await promote(database, "toy", 2, reason="a mistake", now=NOW)
    assert not await serving.refresh()
    assert serving.model == [1, 2]
    stored = await model_in_force(database, "toy")
    assert loaded_or_none(stored, load) is None
    await roll_back(database, "toy", reason="back", now=NOW)
    assert await serving.refresh()


def _reliability(settings: Settings) -> Job:
    return next(job for job in jobs(settings) if job.kind == "reliability")


async def test_what_served_at_a_time_is_found_again(database: Database) -> None:
    """The version of then, also when another one serves by now; none before the first."""
    for hour in (1, 3):
        version = await add_candidate(database, trained(), NOW + timedelta(hours=hour))
        await promote(database, "toy", version.version, reason="so", now=NOW + timedelta(hours=hour))
    served = [await model_that_served(database, "toy", NOW + timedelta(hours=hour)) for hour in (0, 2, 4)]
    assert [each and each.about.version for each in served] == [None, 1, 2]


async def served_at(database: Database, *hours: int) -> list[int | None]:
    """The versions that served so many hours after NOW."""
    found = [await model_that_served(database, "toy", NOW + timedelta(hours=hour)) for hour in hours]
    return [None if each is None else each.about.version for each in found]


async def test_what_served_is_known_after_a_roll_back_too(database: Database) -> None:
    """A version that comes back has served twice; each time is found, and the one between."""
    for hour in (1, 3):
        version = await add_candidate(database, trained(), NOW)
        await promote(database, "toy", version.version, reason="so", now=NOW + timedelta(hours=hour))
    await roll_back(database, "toy", reason="worse", now=NOW + timedelta(hours=5))
    assert await served_at(database, 0, 2, 4, 6) == [None, 1, 2, 1]
    await roll_back(database, "toy", reason="no", now=NOW + timedelta(hours=7))
    assert await served_at(database, 0, 2, 4, 6, 8) == [None, 1, 2, 1, 2]
    for hour in range(8, 10 + 2 * TERMS_KEPT):
        await roll_back(database, "toy", reason="no", now=NOW + timedelta(hours=hour))
    stored = await database["models"].find_one({"_id": "toy:1"})
    assert stored is not None
    assert len(stored["served"]) == TERMS_KEPT


async def test_what_served_before_terms_were_kept_is_known_as_far_as_it_was(database: Database) -> None:
    """Versions without the list answer by their last time, and keep it when they come back or retire."""
    for hour in (1, 3):
        version = await add_candidate(database, trained(), NOW)
        await promote(database, "toy", version.version, reason="so", now=NOW + timedelta(hours=hour))
    await database["models"].update_many({}, {"$unset": {"served": True}})
    assert await served_at(database, 0, 2, 4) == [None, 1, 2]
    await roll_back(database, "toy", reason="worse", now=NOW + timedelta(hours=5))
    assert await served_at(database, 0, 2, 4, 6) == [None, 1, 2, 1]
