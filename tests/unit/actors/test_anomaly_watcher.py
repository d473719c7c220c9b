"""The anomaly watcher: messages in, messages out, batches once, and restarts that neither forget nor repeat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from actors.anomaly_watcher import BATCHES_REMEMBERED, AnomalyWatcher
from actors.failure_classifier import FailureClassifier
from config.maintenance import MaintenanceWindow
from config.settings import load_settings
from messaging.contracts import (
    Anomaly,
    AnomalyClosed,
    AnomalyHandled,
    AnomalyOpened,
    AnomalyUpdated,
    AnyMessage,
    AttemptsRecorded,
    FailuresClassified,
    GatewayPause,
    GatewayPaused,
    RecordedAttempt,
    Segment,
)
from ml.anomalies.history import HistoryCell
from ml.failures.classifier import FailureModel
from storage.failures import FailuresKnown
from tests.factories import recorded

BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GATEWAYS = ("alpha", "bravo", "charlie", "delta", "echo")


def watcher() -> AnomalyWatcher:
    """A watcher with the shipped settings."""
    return AnomalyWatcher(**msgspec.structs.asdict(load_settings({}).anomalies))


def history() -> list[HistoryCell]:
    """Nineteen stored minutes before the shop opens, as the shop would have filled them."""
    random = np.random.default_rng(9)
    cells = []
    for minute in range(1, 20):
        for gateway in GATEWAYS:
            for issuer in range(6):
                logs = random.normal(6, 0.4, 120)
                buckets, counts = np.unique(np.floor((logs - np.log(10)) / np.log(1.25)), return_counts=True)
                histogram = {int(bucket): int(count) for bucket, count in zip(buckets, counts, strict=True)}
                failed = int(random.binomial(120, 0.1))
                at = BEGIN.timestamp() - 60 * minute
                cells.append(
                    HistoryCell(at, 60.0, gateway, "card", f"bank_{issuer}", 120 - failed, failed, 120, histogram)
                )
    return cells


class Shop:
    """Attempts at five gateways, sixty a second unless said otherwise; one batch a second."""

    def __init__(self, seed: int, rate: int = 60) -> None:
        self._rate = rate
        self._random = np.random.default_rng(seed)
        self.now = BEGIN
        self._count = 0

    def batch(self, *, down: str | None = None) -> AttemptsRecorded:
        """What is recorded in one second, with a gateway down or none; time moves on."""
        attempts = []
        for second in np.sort(self._random.random(self._rate)):
            self._count += 1
            gateway = GATEWAYS[self._random.integers(5)]
            failed = self._random.random() < (0.95 if gateway == down else 0.1)
            at = self.now + timedelta(seconds=float(second))
            attempts.append(
                RecordedAttempt(
                    attempt_id=f"att_{self._count}",
                    order_id=f"ord_{self._count}",
                    gateway=gateway,
                    method="card",
                    issuer=f"bank_{self._random.integers(6)}",
                    status="failed" if failed else "succeeded",
                    amount_minor=50_000,
                    currency="INR",
                    attempted_at=at,
                    occurred_at=at,
                    latency_ms=float(np.exp(self._random.normal(6, 0.4))),
                )
            )
        self.now += timedelta(seconds=1)
        return AttemptsRecorded(batch_id=f"bat_{self._count}", recorded_at=self.now, attempts=attempts)

    def run(self, worker: AnomalyWatcher, seconds: int, *, down: str | None = None, times: int = 1) -> list[Any]:
        """Let time pass; every batch is delivered so many times."""
        told: list[Any] = []
        for _ in range(seconds):
            batch = self.batch(down=down)
            told += worker.handle([batch] * times, self.now)
            told += worker.tick(self.now)
        return told


def test_an_outage_is_told_as_messages_that_travel():
    """Opened and closed name bravo, fit the contract on the wire, and say what it costs and on how many attempts."""
    worker, shop = watcher(), Shop(1)
    assert shop.run(worker, 60) == []
    told = shop.run(worker, 20, down="bravo") + shop.run(worker, 40)
    assert [type(message) for message in told if not isinstance(message, AnomalyUpdated)] == [
        AnomalyOpened,
        AnomalyClosed,
    ]
    for message in told:
        assert msgspec.json.decode(msgspec.json.encode(message), type=AnyMessage) == message
    anomaly = told[0].anomaly
    assert anomaly.segment == Segment(gateway="bravo")
    assert anomaly.closed_at is None
    assert anomaly.currency == "INR"
    lost_per_attempt = (anomaly.expected - anomaly.observed) * 50_000
    assert 4 * 60 * lost_per_attempt < anomaly.loss_minor_per_minute < 24 * 60 * lost_per_attempt
    assert f"of {anomaly.attempts_seen} attempts, expected " in anomaly.reason
    assert told[-1].anomaly.closed_at is not None
    assert told[-1].anomaly.anomaly_id == anomaly.anomaly_id


def test_batches_that_come_again_change_nothing():
    """Every batch thrice tells the same as every batch once."""
    once, thrice = (Shop(2), watcher()), (Shop(2), watcher())
    told = []
    for (shop, worker), times in ((once, 1), (thrice, 3)):
        told.append(shop.run(worker, 40, times=times) + shop.run(worker, 15, down="echo", times=times))
    assert told[0] == told[1]
    assert told[0] != []


def test_remembered_batches_are_bounded():
    """The ids of the oldest batches are forgotten."""
    worker = watcher()
    empty = [
        AttemptsRecorded(batch_id=f"bat_{number}", recorded_at=BEGIN, attempts=[])
        for number in range(BATCHES_REMEMBERED + 5)
    ]
    assert list(worker.handle(empty, BEGIN)) == []
    assert len(worker._batches) == BATCHES_REMEMBERED


def test_classified_failures_are_accepted_and_count_nothing():
    """A batch of failures tells nothing; its attempts were counted when they were recorded."""
    worker = watcher()
    message = FailuresClassified(batch_id="bat_1", classified_at=BEGIN, failures=[])
    assert list(worker.handle([message], BEGIN)) == []
    assert list(worker.tick(BEGIN + timedelta(seconds=5))) == []


def test_a_reason_is_heard_under_the_name_that_the_classifier_gives_it():
    """The classifier answers a batch under a name of its own; the reason of each failure counts once."""
    worker = watcher()
    failed = recorded(status="failed", attempted_at=BEGIN, occurred_at=BEGIN, failure_code="51")
    batch = AttemptsRecorded(batch_id="bat_1", recorded_at=BEGIN, attempts=[failed])
    classifier = FailureClassifier(FailureModel.shipped(0.35))
    (reasons,) = classifier.handle([batch], BEGIN, FailuresKnown())
    assert isinstance(reasons, FailuresClassified)
    list(worker.handle([batch], BEGIN))
    assert failed.attempt_id in worker._failed
    list(worker.handle([reasons], BEGIN))
    assert failed.attempt_id not in worker._failed


def test_a_restart_takes_up_open_anomalies_and_history():
    """A second watcher with the stored minutes and the open anomaly opens nothing anew and closes it at recovery."""
    first, shop = watcher(), Shop(3)
    shop.run(first, 60)
    shop.run(first, 20, down="bravo")
    (anomaly,) = first.open_anomalies
    cells = history()
    second = watcher()
    second.warm_start(cells, [anomaly, anomaly], shop.now)
    assert second.open_anomalies == [anomaly]
    told = shop.run(second, 30, down="bravo")
    assert AnomalyOpened not in map(type, told)
    told = shop.run(second, 40)
    assert [message.anomaly.anomaly_id for message in told if isinstance(message, AnomalyClosed)] == [
        anomaly.anomaly_id
    ]


def test_a_restart_with_history_sees_an_outage_at_once():
    """With stored minutes there is no warm-up: an outage in the first seconds is opened within 10 s."""
    worker, shop = watcher(), Shop(4)
    cells = history()
    worker.warm_start(cells, [], shop.now)
    told = shop.run(worker, 10, down="delta")
    assert [message.anomaly.segment for message in told] == [Segment(gateway="delta")]


def handled(anomaly_id: str, action: str, **fields: Any) -> AnomalyHandled:
    """What an operator says of an anomaly."""
    said = {"event_id": f"evt_{action}", "anomaly_id": anomaly_id, "action": action, "who": "ada", "handled_at": BEGIN}
    return AnomalyHandled(**said | fields)


def test_operators_acknowledge_snooze_and_assign_once():
    """Each changes what is told of the anomaly; a second time, or of an unknown anomaly, nothing is told."""
    worker, shop = watcher(), Shop(5)
    shop.run(worker, 60)
    shop.run(worker, 20, down="bravo")
    (anomaly,) = worker.open_anomalies
    later = BEGIN + timedelta(hours=1)
    for said, field, value in (
        (handled(anomaly.anomaly_id, "acknowledge"), "acknowledged_by", "ada"),
        (handled(anomaly.anomaly_id, "snooze", until=later), "snoozed_until", later),
        (handled(anomaly.anomaly_id, "assign", assignee="bo", note="calling them"), "assigned_to", "bo"),
    ):
        (told,) = worker.handle([said], shop.now)
        assert isinstance(told, AnomalyUpdated)
        assert getattr(told.anomaly.handling, field) == value
        assert list(worker.handle([said], shop.now)) == []
    assert worker.open_anomalies[0].handling.note == "calling them"
    assert list(worker.handle([handled("anm_unknown", "acknowledge")], shop.now)) == []


def test_an_anomaly_marked_as_false_is_closed_and_stays_marked():
    """Open or closed long ago: what an operator calls false says so from then on."""
    worker, shop = watcher(), Shop(6)
    shop.run(worker, 60)
    shop.run(worker, 20, down="bravo")
    (anomaly,) = worker.open_anomalies
    (told,) = worker.handle([handled(anomaly.anomaly_id, "mark_false")], shop.now)
    assert isinstance(told, AnomalyClosed)
    assert (told.anomaly.handling.false_by, told.anomaly.closed_because) == ("ada", "marked as false")
    fresh = watcher()
    (told,) = fresh.handle([handled("anm_old", "mark_false")], shop.now, {"anm_old": closed_one(anomaly)})
    assert isinstance(told, AnomalyClosed)
    assert told.anomaly.handling.false_by == "ada"


def closed_one(anomaly: Anomaly) -> Anomaly:
    """The same anomaly under another id, closed long ago."""
    return msgspec.structs.replace(anomaly, anomaly_id="anm_old", closed_at=BEGIN)


def test_planned_maintenance_is_no_anomaly_and_nothing_else_is_hidden():
    """Bravo is down while its maintenance lasts: nothing; delta down at the same time is told."""
    worker, shop = watcher(), Shop(7)
    shop.run(worker, 60)
    pause = GatewayPause(
        pause_id="pau_1",
        gateway="bravo",
        kind="maintenance",
        starts_at=BEGIN,
        ends_at=None,
        who="ada",
        reason="new release",
    )
    assert list(worker.handle([GatewayPaused(pause=pause)], shop.now)) == []
    assert shop.run(worker, 20, down="bravo") == []
    told = shop.run(worker, 20, down="delta")
    assert [message.anomaly.segment for message in told if isinstance(message, AnomalyOpened)] == [
        Segment(gateway="delta")
    ]


def test_a_worker_that_catches_up_does_not_take_its_own_delay_for_silence():
    """Two minutes of batches heard within seconds: time goes on with what was recorded, and nothing is told."""
    worker, shop = watcher(), Shop(8)
    shop.run(worker, 60)
    waiting = [shop.batch() for _ in range(120)]
    heard_at, told = shop.now, []
    for place in range(0, 120, 20):
        heard_at += timedelta(seconds=1)
        told += worker.handle(waiting[place : place + 20], heard_at)
        told += worker.tick(heard_at)
    assert told == []


def test_windows_of_the_settings_hide_what_they_explain_only_while_they_last():
    """Delta is down in its window: nothing; still down after it: told."""
    fields = msgspec.structs.asdict(load_settings({}).anomalies)
    window = MaintenanceWindow(starts_at=BEGIN, ends_at=BEGIN + timedelta(seconds=80), gateway="delta")
    worker, shop = AnomalyWatcher(**fields | {"maintenance": [window]}), Shop(9)
    shop.run(worker, 60)
    assert shop.run(worker, 20, down="delta") == []
    told = shop.run(worker, 20, down="delta")
    assert [message.anomaly.segment for message in told if isinstance(message, AnomalyOpened)] == [
        Segment(gateway="delta")
    ]


@pytest.mark.parametrize("amount_minor", [300, 1_000, 5_000_000])
def test_a_restart_does_not_take_a_shops_usual_amounts_for_strange(amount_minor: int) -> None:
    """Stored sums do not tell amounts; until enough were heard, none is small, and nobody tries out cards."""
    worker, shop = watcher(), Shop(3)
    worker.warm_start(history(), [], BEGIN)
    told = []
    for _ in range(180):
        batch = shop.batch()
        same = [msgspec.structs.replace(attempt, amount_minor=amount_minor) for attempt in batch.attempts]
        told += list(worker.handle([msgspec.structs.replace(batch, attempts=same)], shop.now))
        told += list(worker.tick(shop.now))
    assert told == []


def test_a_busy_shop_that_starts_cold_has_no_card_testers() -> None:
    """What is learnt before amounts are known must not make the usual small declines look like a wave of them."""
    worker, shop, amounts = watcher(), Shop(5, rate=800), np.random.default_rng(6)
    told = []
    for _ in range(75):
        batch = shop.batch()
        priced = [
            msgspec.structs.replace(attempt, amount_minor=int(np.exp(amounts.normal(10.8, 1.0))))
            for attempt in batch.attempts
        ]
        told += list(worker.handle([msgspec.structs.replace(batch, attempts=priced)], shop.now))
        told += list(worker.tick(shop.now))
    assert told == []


def placed(shop: Shop, *, silent: int = 0) -> AttemptsRecorded:
    """A second of the shop whose payments say network and country, but for one in so many (0: all say them)."""
    batch = shop.batch()
    said = [
        attempt
        if silent and place % silent == 0
        else msgspec.structs.replace(attempt, network="visa", country="NP" if place % 10 == 9 else "IN")
        for place, attempt in enumerate(batch.attempts)
    ]
    return msgspec.structs.replace(batch, attempts=said)


def heard(worker: AnomalyWatcher, shop: Shop, seconds: int, *, silent: int = 0) -> list[Any]:
    """What is told of so many seconds of payments as ``placed`` makes them."""
    told: list[Any] = []
    for _ in range(seconds):
        batch = placed(shop, silent=silent)
        told += worker.handle([batch], shop.now)
        told += worker.tick(shop.now)
    return told


def test_a_restart_does_not_miss_payments_without_a_network_or_country() -> None:
    """Stored sums tell neither; payments that say both are not taken for a standstill of those that do not."""
    worker, shop = watcher(), Shop(1)
    worker.warm_start(history(), [], BEGIN)
    assert heard(worker, shop, 110) == []


def test_a_checkout_that_begins_to_tell_the_country_is_no_standstill() -> None:
    """Half of the payments say no country and no network, then all say both: as many came as before."""
    worker, shop = watcher(), Shop(2)
    assert heard(worker, shop, 120, silent=2) == []
    assert heard(worker, shop, 60) == []


@pytest.mark.parametrize("restarted", [True, False])
def test_a_standstill_of_everything_is_told_once_and_of_the_whole(restarted: bool) -> None:
    """Nothing comes for a minute, then everything comes again: one anomaly, of all payments, that closes."""
    worker, shop = watcher(), Shop(3)
    if restarted:
        worker.warm_start(history(), [], BEGIN)
    told = heard(worker, shop, 100, silent=0 if restarted else 3)
    for _ in range(60):
        shop.now += timedelta(seconds=1)
        told += worker.tick(shop.now)
    told += heard(worker, shop, 60, silent=0 if restarted else 3)
    assert [(type(message), message.anomaly.segment, message.anomaly.signal) for message in told] == [
        (AnomalyOpened, Segment(), "volume"),
        (AnomalyClosed, Segment(), "volume"),
    ]


def test_a_restart_does_not_take_usual_retries_for_a_wave_of_them() -> None:
    """Stored sums tell failures and no retries; three in four failures are tried again, as ever."""
    worker, shop, random, told = watcher(), Shop(4), np.random.default_rng(4), []
    worker.warm_start(history(), [], BEGIN)
    waiting: list[tuple[datetime, RecordedAttempt]] = []
    for _ in range(200):
        batch = placed(shop)
        waiting += [
            (shop.now + timedelta(seconds=float(random.exponential(20.0))), attempt)
            for attempt in batch.attempts
            if attempt.status == "failed" and random.random() < 0.75
        ]
        due = [attempt for at, attempt in waiting if at <= shop.now]
        waiting = [(at, attempt) for at, attempt in waiting if at > shop.now]
        again = [
            msgspec.structs.replace(attempt, attempt_id=f"{attempt.attempt_id}_2", attempt_number=2, status="succeeded")
            for attempt in due
        ]
        told += worker.handle([msgspec.structs.replace(batch, attempts=[*batch.attempts, *again])], shop.now)
        told += worker.tick(shop.now)
    assert told == []
