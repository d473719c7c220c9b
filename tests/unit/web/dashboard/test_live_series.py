"""The memory behind the live charts: sums per minute, their differences, and readings of the workers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from storage.read_models.live_chosen import minutes_within
from storage.read_models.live_facts import AnomalySpan, Worker, WorkerBeat, lag_of, pace_of, paced, read_facts
from storage.read_models.live_series import (
    NAMES_MAX,
    OTHER,
    MinuteCounts,
    MinuteGrid,
    ReadingRing,
    minutes_until,
    summed,
)

NOW = 1_700_000_030.0
MINUTE = NOW // 60 * 60


def test_the_first_rows_are_all_change() -> None:
    """What was never seen before counts whole."""
    grid = MinuteGrid(2, ("alpha",))
    changes = grid.put([(MINUTE, "alpha", "card", (5, 1)), (MINUTE - 60, "alpha", "upi", (2, 0))])
    assert summed(changes, 0)["alpha"].tolist() == [7, 1]
    assert {name: change.tolist() for name, change in summed(changes, 1).items()} == {"card": [5, 1], "upi": [2, 0]}
    assert grid.points == 2


def test_later_sums_replace_earlier_ones() -> None:
    """A second reading gives the difference, and the window holds the newest sum."""
    grid = MinuteGrid(1)
    grid.put([(MINUTE, "alpha", "card", (5,))])
    assert grid.put([(MINUTE, "alpha", "card", (9,))])["alpha", "card"].tolist() == [4]
    assert grid.put([(MINUTE, "alpha", "card", (9,))]) == {}
    assert grid.counts(NOW).values[-1, 0, 0, 0] == 9


def test_history_that_is_filled_in_does_not_arrive_now() -> None:
    """Changes of older minutes reach the window and the version, but not the changes of now."""
    grid = MinuteGrid(1)
    changes = grid.put([(MINUTE, "alpha", "card", (5,)), (MINUTE - 600, "alpha", "card", (900,))], since=MINUTE - 60)
    assert changes["alpha", "card"].tolist() == [5]
    assert grid.counts(NOW).values.sum() == 905
    assert grid.version == 2


def test_what_is_not_read_again_is_not_there_any_more() -> None:
    """Where rows hold everything, a missing sum is nothing, and that is a change; older minutes stay as they were."""
    grid = MinuteGrid(1)
    grid.put([(MINUTE, "alpha", "card", (5,)), (MINUTE, "alpha", "upi", (1,)), (MINUTE - 60, "alpha", "card", (7,))])
    changes = grid.put([(MINUTE, "alpha", "upi", (2,))], whole_from=MINUTE)
    assert {names: change.tolist() for names, change in changes.items()} == {
        ("alpha", "card"): [-5],
        ("alpha", "upi"): [1],
    }
    assert grid.counts(NOW).values.sum() == 9
    assert grid.put([(MINUTE, "alpha", "upi", (2,))], whole_from=MINUTE) == {}


def counts_of(per_minute: list[int]) -> MinuteCounts:
    """The newest minutes with so many attempts, oldest first; none before."""
    grid = MinuteGrid(1)
    grid.put([(MINUTE - 60 * place, "alpha", "card", (n,)) for place, n in enumerate(reversed(per_minute))])
    return grid.counts(NOW)


@pytest.mark.parametrize(
    ("per_minute", "attempts_max", "minutes"),
    [
        ([], 10, 60),
        ([4, 4, 4], 12, 60),
        ([4, 4, 4], 11, 2),
        ([4, 4, 1], 11, 2),
        ([9, 4, 1], 8, 2),
        ([9, 4, 1], 7, 0),
        ([20, 20], 30, 0),
    ],
)
def test_a_narrow_choice_reaches_as_far_as_can_be_looked_up(
    per_minute: list[int], attempts_max: int, minutes: int
) -> None:
    """Whole minutes only, the running one taken as full; without a whole one there is nothing."""
    assert minutes_within(counts_of(per_minute), attempts_max) == minutes


def test_a_correction_is_a_negative_change() -> None:
    """A late success takes a failure back: the minute's sum falls, and the change says so."""
    grid = MinuteGrid(1)
    grid.put([(MINUTE, "alpha", "card", (5,))])
    assert grid.put([(MINUTE, "alpha", "card", (3,))])["alpha", "card"].tolist() == [-2]
    assert grid.counts(NOW).values[-1, 0, 0, 0] == 3


def test_the_window_is_one_hour_without_holes() -> None:
    """Sixty consecutive minutes, the running one last; older ones are forgotten."""
    grid = MinuteGrid(1)
    grid.put([(MINUTE - 60 * 60, "alpha", "card", (7,)), (MINUTE - 60 * 59, "alpha", "card", (8,))])
    counts = grid.counts(NOW)
    assert counts.minutes.tolist() == minutes_until(NOW).tolist()
    assert np.diff(counts.minutes).tolist() == [60.0] * 59
    assert counts.values.sum() == 8
    grid.forget(float(counts.minutes[0]))
    assert grid.points == 1
    assert counts.last(2).minutes.tolist() == [MINUTE - 60, MINUTE]


def test_too_many_names_are_added_up() -> None:
    """Memory is bounded: names beyond the limit share one place, and no count is lost."""
    grid = MinuteGrid(1)
    grid.put([(MINUTE, f"gateway_{index}", "card", (1,)) for index in range(NAMES_MAX + 9)])
    counts = grid.counts(NOW)
    assert counts.first[-1] == OTHER
    assert len(counts.first) == NAMES_MAX + 1
    assert counts.values.sum() == NAMES_MAX + 9


def test_the_readings_keep_the_newest_rows() -> None:
    """Old rows give way."""
    ring = ReadingRing(capacity=3)
    for second in range(5):
        ring.append(float(second), {"ingestor": second})
    times, values = ring.rows()
    assert times.tolist() == [2.0, 3.0, 4.0]
    assert values[:, 0].tolist() == [2.0, 3.0, 4.0]


def test_a_missing_reading_is_unknown() -> None:
    """Of a stage that says nothing nothing is known: a gap, not 0; names beyond the limit are left out."""
    ring = ReadingRing()
    ring.append(1.0, {"ingestor": 2.0})
    ring.append(2.0, {"router_advisor": 3.0})
    assert ring.names == ("ingestor", "router_advisor")
    np.testing.assert_array_equal(ring.rows()[1], [[2.0, np.nan], [np.nan, 3.0]])
    ring.append(3.0, {f"stage_{index}": 1.0 for index in range(NAMES_MAX + 5)})
    assert len(ring.names) == NAMES_MAX


def test_a_stage_is_read_from_all_its_workers() -> None:
    """Workers of one stage share a queue but not their work: the deepest reading counts, the paces add up."""
    beats = [
        WorkerBeat(stage="ingestor", host="h", pid=pid, started_at=0, at=9, lag=lag) for pid, lag in ((1, 7), (2, 9))
    ]
    workers = [Worker(beat=beat, messages_per_s=4.0) for beat in beats]
    silent = Worker(beat=WorkerBeat(stage="router_advisor", host="h", pid=3, started_at=0, at=9))
    assert lag_of([*workers, silent]) == {"ingestor": 9.0}
    assert pace_of([*workers, silent]) == {"ingestor": 8.0}


def anomaly_document(**fields: Any) -> dict[str, Any]:
    """An anomaly as it lies in the store."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return {
        "_id": "an_1",
        "segment": {"gateway": "alpha", "method": None, "issuer": None},
        "signal": "success_rate",
        "severity": "major",
        "started_at": at,
        "detected_at": at,
        "observed": 0.5,
        "expected": 0.9,
        "expected_low": 0.8,
        "expected_high": 0.95,
        "attempts_seen": 100,
        "closed_at": None,
        **fields,
    }


def test_facts_that_do_not_fit_are_passed_over() -> None:
    """One broken document does not hide the others; moments without an offset are UTC."""
    naive = anomaly_document(_id="an_2", started_at=datetime(2026, 1, 1))  # noqa: DTZ001
    facts = read_facts([anomaly_document(), {"_id": "broken"}, naive], AnomalySpan)
    assert [fact.anomaly_id for fact in facts] == ["an_1", "an_2"]
    assert facts[0].started_at == facts[1].started_at == datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def test_pace_needs_two_heartbeats_of_one_process() -> None:
    """Batches per second come from two heartbeats; a restarted worker has none yet."""
    first = WorkerBeat(stage="ingestor", host="h", pid=1, started_at=0.0, at=10.0, batches=5, messages=50)
    second = WorkerBeat(stage="ingestor", host="h", pid=1, started_at=0.0, at=12.0, batches=9, messages=70)
    restarted = WorkerBeat(stage="ingestor", host="h", pid=2, started_at=11.0, at=12.0, batches=1, messages=1)
    assert paced(second, first).batches_per_s == pytest.approx(2.0)
    assert paced(second, first).messages_per_s == pytest.approx(10.0)
    assert paced(second, None).batches_per_s is None
    assert paced(restarted, first).batches_per_s is None
