"""What the anomaly watcher reads from the store when it starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from actors.wiring import history_cell
from messaging.contracts import Anomaly, Handling, Segment
from storage.anomalies import find_anomalies, open_anomalies, record_anomalies
from storage.database import Database
from storage.rollups import read_sums

HOUR = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def minute(number: int, slot: int, **sums: Any) -> dict[str, Any]:
    """One minute of one slot at alpha."""
    named = {
        "minute": HOUR + timedelta(minutes=number),
        "gateway": "alpha",
        "method": "card",
        "issuer": "kite_bank",
        "currency": "INR",
        "slot": slot,
    }
    return {"_id": named, **named, **sums}


async def test_minutes_and_slots_are_added_up_by_the_store(database: Database) -> None:
    """Twelve minutes from two slots become two spans of ten minutes with the same sums, latencies by bucket."""
    sums = {"succeeded": 9, "failed": 1, "first_attempts": 8, "latency": {"20": 7, "3": 2}}
    await database["attempt_rollups"].insert_many(
        [minute(number, slot, **sums) for number in range(12) for slot in (0, 1)]
    )
    cells = sorted([history_cell(document) async for document in read_sums(database, HOUR)], key=lambda cell: cell.at)
    assert [cell.at for cell in cells] == [HOUR.timestamp(), HOUR.timestamp() + 600]
    assert [(cell.succeeded, cell.failed, cell.orders) for cell in cells] == [(180, 20, 160), (36, 4, 32)]
    assert cells[1].latency_histogram == {20: 28, 3: 8}
    assert {cell.seconds for cell in cells} == {600.0}


async def test_an_anomaly_is_read_as_it_was_written(database: Database) -> None:
    """Segment, money with its interval and what people did come back unchanged; an unknown id is not there."""
    anomaly = Anomaly(
        anomaly_id="anm_1",
        segment=Segment(gateway="alpha", network="visa"),
        signal="card_testing",
        severity="major",
        started_at=HOUR,
        detected_at=HOUR,
        updated_at=HOUR,
        observed=0.5,
        expected=0.9,
        expected_low=0.8,
        expected_high=1.0,
        attempts_seen=100,
        score=25.0,
        loss_minor_per_minute=100.0,
        loss_low=50.0,
        loss_high=150.0,
        fault="gateway",
        handling=Handling(acknowledged_by="ada", acknowledged_at=HOUR),
    )
    await record_anomalies(database, [anomaly], [], now=HOUR)
    assert await open_anomalies(database) == [anomaly]
    assert await find_anomalies(database, ["anm_1", "anm_2"]) == {"anm_1": anomaly}
    older = msgspec.structs.asdict(anomaly)
    await database["anomalies"].update_one({"_id": "anm_1"}, {"$unset": {"handling": 1, "fault": 1, "loss_low": 1}})
    (read,) = await open_anomalies(database)
    assert (read.handling, read.fault, read.loss_low) == (Handling(), "unknown", None)
    assert read.segment == older["segment"]
