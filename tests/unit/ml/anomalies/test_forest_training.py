"""The forest that is fitted to stored history: what is ordinary, how it is judged, and how it is kept."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.anomalies.forest import FEATURES, REVISION, Forest, fitted
from ml.anomalies.forest_training import AFTER_S, BEFORE_S, JudgedForest, SeenMinutes, Trouble, trained
from ml.anomalies.patrol import Patrol
from ml.anomalies.segments import SegmentKey
from ml.lack import TooFewData

ALPHA: SegmentKey = ("alpha", None, None, None, None)
BRAVO: SegmentKey = ("bravo", None, None, None, None)
CARD: SegmentKey = (None, "card", None, None, None)
RATE = 0.02
RNG = np.random.default_rng(7)


def minutes(count: int, *, scale: float = 1.0, since: int = 0, seed: int = 1) -> SeenMinutes:
    """Two segments a minute whose features are normal."""
    seen = SeenMinutes()
    go_on(seen, count, scale=scale, since=since, seed=seed)
    return seen


def go_on(seen: SeenMinutes, count: int, *, scale: float = 1.0, since: int = 0, seed: int = 1) -> None:
    """More of them."""
    rng = np.random.default_rng(seed)
    for number in range(since, since + count):
        seen.add(60.0 * number, [ALPHA, BRAVO], rng.normal(size=(2, FEATURES)) * scale)


@pytest.fixture(scope="module")
def forest() -> Forest:
    """One fitted to normal minutes."""
    return fitted(RNG.normal(size=(2_000, FEATURES)), contamination=RATE, seed=0)


def test_what_is_stored_is_what_is_loaded(forest: Forest) -> None:
    """The same scores, to the last bit."""
    rows = RNG.normal(size=(500, FEATURES)) * 2
    again = Forest.loaded(forest.stored())
    np.testing.assert_array_equal(again.score(rows), forest.score(rows))
    assert (again.bar, again.contamination, again.sample, again.depth) == (
        forest.bar,
        forest.contamination,
        forest.sample,
        forest.depth,
    )


@given(st.binary(max_size=200))
def test_anything_else_is_refused(body: bytes) -> None:
    """Bytes of no forest are an error, never a forest."""
    with pytest.raises(ValueError, match="no forest"):
        Forest.loaded(body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("left", np.full((1, 3), 99)),
        ("feature", np.full((1, 3), FEATURES)),
        ("threshold", np.zeros((1, 2))),
        ("contamination", np.array(0.7)),
        ("depth", np.array(9_999_999)),
        ("sample", np.array(0)),
        ("feature", np.array([object()], dtype=object)),
        ("revision", np.array(REVISION - 1)),
    ],
)
def test_a_forest_that_was_tampered_with_is_refused(field: str, value: np.ndarray) -> None:
    """Branches that lead nowhere, features that there are not or that meant something else, arrays that do not fit, and
    pickled objects."""
    arrays: dict[str, np.ndarray] = {
        name: np.zeros((1, 3), dtype=np.int32) for name in ("feature", "threshold", "left", "right", "length")
    }
    arrays |= {name: np.array(1) for name in ("depth", "sample")} | {"bar": np.array(0.5)}
    arrays |= {"contamination": np.array(RATE), "revision": np.array(REVISION)}
    whole, broken = io.BytesIO(), io.BytesIO()
    np.savez(whole, **arrays)
    np.savez(broken, **(arrays | {field: value}))
    assert Forest.loaded(whole.getvalue()).depth == 1
    with pytest.raises(ValueError, match="no forest"):
        Forest.loaded(broken.getvalue())


def test_minutes_near_trouble_are_not_ordinary() -> None:
    """What overlaps it is left out from before its start until after its end; only the segment itself is trouble."""
    seen = SeenMinutes()
    for number in range(100):
        seen.add(60.0 * number, [ALPHA, BRAVO, CARD], np.full((3, FEATURES), float(number)))
    trouble = Trouble(segment=ALPHA, since=1_800.0, until=2_400.0)
    rows, ordinary, ill = seen.labelled([trouble])
    at = 60.0 * rows[:, 0].reshape(100, 3)[:, 0]
    near = (at >= trouble.since - BEFORE_S) & (at <= trouble.until + AFTER_S)
    np.testing.assert_array_equal(ordinary.reshape(100, 3)[:, 0], ~near)
    np.testing.assert_array_equal(ordinary.reshape(100, 3)[:, 2], ~near, "a card payment may be one of alpha")
    assert ordinary.reshape(100, 3)[:, 1].all()
    np.testing.assert_array_equal(ill.reshape(100, 3)[:, 0], (at > trouble.since) & (at <= trouble.until))
    assert not ill.reshape(100, 3)[:, 1:].any()


def test_the_oldest_minutes_make_room() -> None:
    """Memory is bounded by rows."""
    seen = SeenMinutes(rows_max=10)
    for number in range(50):
        seen.add(60.0 * number, [ALPHA, BRAVO], np.full((2, FEATURES), float(number)))
    rows, _, _ = seen.labelled([])
    assert len(seen) == len(rows) == 10
    assert rows[:, 0].min() == 45


def test_too_few_ordinary_minutes_are_said() -> None:
    """Neither a short time nor one that was all trouble gives a forest."""
    assert isinstance(trained(minutes(100), [], contamination=RATE), TooFewData)
    always = [Trouble(segment=ALPHA, since=0, until=1e9), Trouble(segment=BRAVO, since=0, until=1e9)]
    assert isinstance(trained(minutes(2_000), always, contamination=RATE), TooFewData)


def test_a_forest_is_judged_on_later_minutes() -> None:
    """About as many as it was told look unusual there; of trouble far more do."""
    seen = minutes(2_000)
    rng = np.random.default_rng(3)
    for number in range(2_000, 2_030):
        seen.add(60.0 * number, [ALPHA], rng.normal(size=(1, FEATURES)) + 4.0)
    trouble = Trouble(segment=ALPHA, since=60.0 * 1_999, until=60.0 * 2_030)
    found = trained(seen, [trouble], contamination=RATE)
    assert isinstance(found, JudgedForest)
    assert found.better
    assert 0.3 * RATE < found.metrics["unusual_share"] < 3 * RATE
    assert found.metrics["trouble_unusual"] > 0.9
    assert found.metrics["later_minutes"] == pytest.approx(found.metrics["ordinary_minutes"] / 4, abs=1)


def test_the_one_that_fits_later_minutes_serves() -> None:
    """One that knows the new ways of the traffic replaces one that does not, not the reverse; equals are replaced."""
    wilder = trained(minutes(2_000, scale=2.0, seed=5), [], contamination=RATE)
    calmer = trained(minutes(2_000, seed=6), [], contamination=RATE)
    assert isinstance(wilder, JudgedForest)
    assert isinstance(calmer, JudgedForest)
    changed = minutes(1_500, seed=8)
    go_on(changed, 500, scale=2.0, since=1_500, seed=9)  # a quarter: what is fitted to saw none of it
    assert better(changed, wilder.forest) is False
    assert better(minutes(2_000, scale=2.0, seed=10), calmer.forest) is True
    assert better(minutes(2_000, seed=11), calmer.forest) is True


def test_a_forest_that_later_minutes_do_not_fit_serves_nobody() -> None:
    """Fitted to calm minutes and judged on wild ones it stays a candidate, also where none is in force."""
    seen = minutes(1_500)
    go_on(seen, 500, scale=3.0, since=1_500)
    found = trained(seen, [], contamination=RATE)
    assert isinstance(found, JudgedForest)
    assert not found.better
    assert "none that can be used was in force" in found.note


def test_another_rate_makes_another_forest() -> None:
    """When the contamination rate was tuned anew, the forest of the old rate goes, however well it fits."""
    first = trained(minutes(2_000), [], contamination=RATE)
    assert isinstance(first, JudgedForest)
    again = trained(minutes(2_000), [], contamination=RATE / 4, in_force=first.forest)
    assert isinstance(again, JudgedForest)
    assert again.better
    assert "fitted for 0.02" in again.note


def test_a_watcher_uses_the_forest_it_is_given(forest: Forest) -> None:
    """And fits none of its own then; without one it does again."""
    patrol = Patrol(contamination=RATE, retrain_s=1.0, seed=0)
    patrol.take(forest)
    busy = minute_of(2_000)
    for at in range(3):
        patrol.look(busy, np.ones(2_000, dtype=np.bool_), float(at))
    assert patrol.forest is forest
    patrol.take(None)
    patrol.look(busy, np.ones(2_000, dtype=np.bool_), 10.0)
    assert patrol.forest is not None
    assert patrol.forest is not forest


def better(seen: SeenMinutes, in_force: Forest) -> bool:
    """Whether a forest fitted to these minutes is better than the one in force."""
    found = trained(seen, [], contamination=RATE, in_force=in_force)
    assert isinstance(found, JudgedForest)
    return found.better


def minute_of(segments: int) -> object:
    """A busy minute of so many segments."""

    class Busy:
        settled = np.full(segments, 100.0)

        def features(self) -> np.ndarray:
            """Normal ones."""
            return RNG.normal(size=(segments, FEATURES))

    return Busy()
