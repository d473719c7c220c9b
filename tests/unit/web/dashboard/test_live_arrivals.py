"""What came in, poll by poll, and the rolling figures of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from storage.read_models.live_arrivals import ArrivalRing, Arrivals
from storage.read_models.live_series import MinuteCounts, minutes_until
from storage.read_models.live_traffic import COUNTS, LATENCY_COLUMN
from storage.read_models.measures import LATENCY_BUCKETS
from web.dashboard.figures_data import (
    FAILED,
    REVERSED,
    ROLLING_N_MIN,
    ROLLING_S,
    SUCCEEDED,
    arrival_pace,
    arrival_shares,
    category_pace,
    rolling_latencies,
    rolling_rates,
    whole_steps,
)

COLUMNS = LATENCY_COLUMN + LATENCY_BUCKETS
BEGAN = 1_700_000_000.0


def gains(**counted: int) -> np.ndarray:
    """One poll's change of one gateway."""
    change = np.zeros(COLUMNS, dtype=np.int64)
    for name, count in counted.items():
        change[COUNTS.index(name)] = count
    return change


def random_polls(seed: int, polls: int = 200) -> list[tuple[float, dict[str, np.ndarray]]]:
    """Polls at uneven moments: counts of both signs, gateways that come and go, and a stretch without polls."""
    generator = np.random.default_rng(seed)
    at, answered = BEGAN, []
    for poll in range(polls):
        at += float(generator.uniform(0.95, 1.3)) + (90.0 if poll == polls // 2 else 0.0)
        changes = {}
        for name in ("alpha", "bravo", "charlie"):
            if generator.random() < 0.8:
                changes[name] = generator.integers(-2, 4, COLUMNS)
        answered.append((at, changes))
    return answered


def by_hand(polls: list[tuple[float, dict[str, np.ndarray]]], row: int, name: str) -> np.ndarray:
    """Add up one gateway's changes of the polls after the newest one that is a whole window old."""
    at = polls[row][0]
    old = [index for index in range(row) if polls[index][0] <= at - ROLLING_S]
    first = old[-1] + 1 if old else 1  # the first poll is where counting begins
    return sum((changes.get(name, gains()) for _, changes in polls[first : row + 1]), gains())


def arrivals_of(polls: list[tuple[float, dict[str, np.ndarray]]]) -> Arrivals:
    """What a ring holds after these polls."""
    ring = ArrivalRing(COLUMNS, ("alpha",))
    for at, changes in polls:
        ring.add(at, changes)
    return ring.arrivals()


@pytest.mark.parametrize("seed", range(5))
def test_rolling_rate_is_brute_force(seed: int) -> None:
    """Rate, interval, n and gaps equal those of adding up each window by hand, whatever came in or was taken back."""
    polls = random_polls(seed)
    lines = rolling_rates(arrivals_of(polls))
    assert lines.low is not None
    assert lines.high is not None
    gaps = 0
    for place, name in enumerate(lines.names):
        for row in range(len(polls)):
            sums = by_hand(polls, row, name)
            settled = max(0, int(sums[SUCCEEDED] + sums[FAILED] + sums[REVERSED]))
            succeeded = min(max(0, int(sums[SUCCEEDED])), settled)
            assert lines.n[place, row] == settled
            if settled < ROLLING_N_MIN:
                gaps += 1
                assert np.isnan([lines.value[place, row], lines.low[place, row], lines.high[place, row]]).all()
                continue
            low, high = proportion_confint(succeeded, settled, alpha=0.05, method="wilson")
            shown = lines.value[place, row], lines.low[place, row], lines.high[place, row]
            assert shown == pytest.approx((100 * succeeded / settled, 100 * low, 100 * high), abs=1e-9)
            assert 0 <= shown[1] <= shown[0] + 1e-9 <= shown[2] + 2e-9 <= 100 + 2e-9
    assert 0 < gaps < 3 * len(polls)


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=80))
def test_a_rolling_rate_is_never_outside_its_scale(changes: list[tuple[int, int, int]]) -> None:
    """However wild the corrections, a rate lies in 0 to 100 or is a gap."""
    polls = [
        (BEGAN + poll, {"alpha": gains(succeeded=s, failed=f, reversed=r)}) for poll, (s, f, r) in enumerate(changes)
    ]
    lines = rolling_rates(arrivals_of(polls))
    known = lines.value[np.isfinite(lines.value)]
    assert ((known >= 0) & (known <= 100)).all()
    assert (lines.n >= 0).all()


def test_a_late_success_leaves_no_trace_after_its_window() -> None:
    """A correction of an old failure lifts the rate at most to 100 per cent, and is gone when the window has passed."""
    polls = [(BEGAN + at, {"alpha": gains(succeeded=9, failed=1)}) for at in range(200)]
    polls[100][1]["alpha"] = gains(succeeded=9 + 400, failed=1 - 400)
    value = rolling_rates(arrivals_of(polls)).value[0]
    assert value[99] == 90
    assert value[100] == 100
    assert value[159] == 100
    assert value[160] == 90


def test_an_outage_shows_within_seconds() -> None:
    """Five seconds of nothing but failures at a steady pace move the rate by a twelfth of the way."""
    polls = [
        (BEGAN + at, {"alpha": gains(succeeded=10 if at <= 100 else 0, failed=at > 100 and 10)}) for at in range(106)
    ]
    assert rolling_rates(arrivals_of(polls)).value[0, -1] == pytest.approx(100 * 55 / 60)


def test_a_part_of_the_rows_is_what_it_is_in_all() -> None:
    """Rows that are streamed one by one equal those that are computed together."""
    arrivals = arrivals_of(random_polls(9))
    whole = rolling_rates(arrivals)
    for row in (0, 57, len(arrivals.times) - 1):
        part = rolling_rates(arrivals, row)
        np.testing.assert_array_equal(part.value, whole.value[:, row:])
        np.testing.assert_array_equal(part.n, whole.n[:, row:])


def test_rolling_latency_is_that_of_the_window() -> None:
    """The percentile is of what came in during the window, with a gap below the smallest n."""
    fast, slow = gains(), gains()
    fast[LATENCY_COLUMN + 10], slow[LATENCY_COLUMN + 20] = 1, 1
    polls = [(BEGAN + at, {"alpha": fast if at < 100 else slow}) for at in range(200)]
    lines = rolling_latencies(arrivals_of(polls), share=0.5)
    assert np.isnan(lines.value[0, :ROLLING_N_MIN]).all()
    assert np.isfinite(lines.value[0, ROLLING_N_MIN:]).all()
    assert lines.value[0, 99] < 10 * 1.25**11 < lines.value[0, 199]
    assert lines.n[0, 199] == 60


def test_the_ring_keeps_the_newest_rows() -> None:
    """Old rows give way without changing what came in between the others."""
    ring = ArrivalRing(1, capacity=3)
    for second in range(6):
        ring.add(BEGAN + second, {"alpha": np.array([second])})
    arrivals = ring.arrivals()
    assert arrivals.times.tolist() == [BEGAN + 3, BEGAN + 4, BEGAN + 5]
    assert np.diff(arrivals.sums[:, 0, 0]).tolist() == [4, 5]
    assert arrivals.serial == 6
    assert ring.arrivals() is arrivals


def test_fast_polls_share_a_row() -> None:
    """Ten polls a second make one row a second, and nothing is lost."""
    ring = ArrivalRing(1)
    for poll in range(101):
        ring.add(BEGAN + poll / 10, {"alpha": np.array([1])})
    arrivals = ring.arrivals()
    assert 10 <= len(arrivals.times) <= 12
    ring.add(BEGAN + 100, {})
    assert ring.arrivals().sums[-1, 0, 0] == 101


def test_a_new_name_had_nothing_before() -> None:
    """A gateway that appears late has 0 in the earlier rows, and what it gained is not lost."""
    ring = ArrivalRing(1, ("alpha",))
    ring.add(BEGAN, {"alpha": np.array([2])})
    ring.add(BEGAN + 1, {"bravo": np.array([3]), "charlie": np.array([4])})
    arrivals = ring.arrivals()
    assert arrivals.names == ("alpha", "bravo", "charlie")
    assert arrivals.sums[..., 0].tolist() == [[2, 0, 0], [2, 3, 4]]


def test_a_ring_begins_with_the_minutes_before() -> None:
    """After a restart past minutes stand as one row each, the empty ones before them left out."""
    minutes = BEGAN // 60 * 60 + 60 * np.arange(4)
    values = np.array([0, 30, 60, 5], dtype=np.int64).reshape(4, 1, 1)
    ring = ArrivalRing(1)
    ring.begin(minutes, ("alpha",), values, minutes[-1] + 12)
    arrivals = ring.arrivals()
    assert arrivals.times.tolist() == [minutes[1], minutes[2], minutes[3], minutes[3] + 12]
    assert arrivals.sums[:, 0, 0].tolist() == [0, 30, 90, 95]
    assert arrivals.rolling(60.0)[2, 0, 0] == 60
    assert arrivals.began_at == minutes[1]


def test_nothing_came_in() -> None:
    """Without an arrival there is no beginning, no bar and no line."""
    ring = ArrivalRing(COLUMNS)
    assert ring.arrivals().began_at is None
    ring.begin(np.array([BEGAN]), (), np.zeros((1, 0, COLUMNS), dtype=np.int64), BEGAN)
    arrivals = ring.arrivals()
    assert arrivals.began_at is None
    assert arrival_pace(arrivals, step_s=5, span_s=900).names == ()
    assert arrival_shares(arrivals, step_s=5, span_s=900).value.size == 0
    assert rolling_rates(arrivals).value.shape == (0, 1)


@pytest.mark.parametrize("seed", range(3))
def test_bars_hold_what_came_in(seed: int) -> None:
    """The bars of whole steps add up to what came in between the first and the last edge; none is negative."""
    generator = np.random.default_rng(seed)
    polls = [
        (BEGAN + 0.5 + poll, {name: gains(attempts=int(generator.integers(0, 9))) for name in ("alpha", "bravo")})
        for poll in range(100)
    ]
    arrivals = arrivals_of(polls)
    edges = whole_steps(arrivals, 5.0, 900.0)
    assert np.diff(edges).tolist() == [5.0] * (len(edges) - 1)
    assert (edges % 5 == 0).all()
    assert edges[-1] <= arrivals.times[-1] < edges[-1] + 5
    pace = arrival_pace(arrivals, step_s=5.0, span_s=900.0)
    for place in range(2):
        reached = np.interp(edges[[0, -1]], arrivals.times, arrivals.sums[:, place, 0])
        assert pace.n[place].sum() == pytest.approx(reached[1] - reached[0])
    assert (pace.n >= 0).all()
    np.testing.assert_allclose(pace.value * 5, pace.n)
    shares = arrival_shares(arrivals, step_s=5.0, span_s=900.0)
    np.testing.assert_allclose(shares.value.sum(axis=0), 100)


def test_bars_reach_back_no_further_than_their_span() -> None:
    """The span bounds the number of bars."""
    arrivals = arrivals_of([(BEGAN + at, {"alpha": gains(attempts=1)}) for at in range(300)])
    assert len(whole_steps(arrivals, 10.0, 100.0)) == 11


def test_categories_keep_the_order_of_the_hour() -> None:
    """Bars of failures stand in the legend's order, and small categories are added up without losing one."""
    names = tuple(f"category_{index}" for index in range(12))
    minutes = minutes_until(BEGAN)
    values = np.zeros((len(minutes), 1, len(names), 1), dtype=np.int64)
    values[-1, 0, :, 0] = np.arange(1, 13)
    ring = ArrivalRing(1)
    for poll in range(31):
        ring.add(BEGAN + poll, {name: np.array([1]) for name in names})
    lines = category_pace(ring.arrivals(), MinuteCounts(minutes, ("alpha",), names, values), step_s=10.0, span_s=900.0)
    assert lines.names == (*names[:3:-1], "other")
    assert lines.value[-1].tolist() == [40.0] * len(lines.times)
    assert lines.value.sum() == pytest.approx(12 * 10 * len(lines.times))
