"""What the charts draw is what was counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from storage.read_models.live_series import MinuteCounts, minutes_until
from storage.read_models.live_traffic import COUNTS, LATENCY_COLUMN
from storage.read_models.measures import LATENCY_BUCKETS, LATENCY_MS_FIRST, LATENCY_RATIO
from web.dashboard.figures_data import (
    CATEGORIES_SHOWN,
    MATURE_S,
    authorization_rates,
    failure_categories,
    mature,
    percentile_ms,
    volumes,
    wilson_interval,
)

NOW = 1_700_000_000.0


def counts_of(cells: dict[tuple[int, str, str], dict[str, int]]) -> MinuteCounts:
    """Lay out cells {(minutes ago, gateway, method): counts}."""
    gateways = tuple(dict.fromkeys(gateway for _, gateway, _ in cells))
    methods = tuple(dict.fromkeys(method for _, _, method in cells))
    minutes = minutes_until(NOW)
    values = np.zeros((len(minutes), len(gateways), len(methods), LATENCY_COLUMN + LATENCY_BUCKETS), dtype=np.int64)
    for (ago, gateway, method), counted in cells.items():
        for name, count in counted.items():
            values[-1 - ago, gateways.index(gateway), methods.index(method), COUNTS.index(name)] = count
    return MinuteCounts(minutes, gateways, methods, values)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 500)), min_size=1, max_size=20))
def test_wilson_is_what_statsmodels_says(pairs: list[tuple[int, int]]) -> None:
    """The interval equals that of statsmodels for every share and size."""
    settled = np.array([n for _, n in pairs])
    succeeded = np.array([min(k, n) for k, n in pairs])
    low, high = wilson_interval(succeeded, settled)
    wanted_low, wanted_high = proportion_confint(succeeded, settled, alpha=0.05, method="wilson")
    np.testing.assert_allclose(low, wanted_low, atol=1e-12)
    np.testing.assert_allclose(high, wanted_high, atol=1e-12)


def test_wilson_knows_nothing_without_trials() -> None:
    """No settled attempt: no interval."""
    low, high = wilson_interval(np.array([0]), np.array([0]))
    assert np.isnan(low).all()
    assert np.isnan(high).all()


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("seed", range(5))
def test_percentile_is_off_by_less_than_one_bucket(seed: int, share: float) -> None:
    """A percentile from buckets lies within one bucket of the true one, and close to it when many are spread."""
    sample = np.random.default_rng(seed).lognormal(np.log(300), 0.6, 5_000)
    bucket = np.clip(np.floor(np.log(sample / LATENCY_MS_FIRST) / np.log(LATENCY_RATIO)), 0, LATENCY_BUCKETS - 1)
    histogram = np.bincount(bucket.astype(int), minlength=LATENCY_BUCKETS)
    found, true = float(percentile_ms(histogram, share)), float(np.percentile(sample, 100 * share))
    assert true / LATENCY_RATIO < found < true * LATENCY_RATIO
    assert found == pytest.approx(true, rel=0.05)


def test_percentile_of_one_bucket_stays_inside_it() -> None:
    """All latencies in one bucket: every percentile lies in that bucket."""
    histogram = np.zeros(LATENCY_BUCKETS, dtype=np.int64)
    histogram[10] = 7
    low, high = LATENCY_MS_FIRST * LATENCY_RATIO**10, LATENCY_MS_FIRST * LATENCY_RATIO**11
    for share in (0.01, 0.5, 0.95, 1.0):
        assert low < float(percentile_ms(histogram, share)) <= high * (1 + 1e-12)
    assert np.isnan(percentile_ms(np.zeros(LATENCY_BUCKETS, dtype=np.int64), 0.5))


def test_rate_leaves_out_what_is_not_settled() -> None:
    """The rate is succeeded / (succeeded + failed + reversed); pending and abandoned do not count."""
    lines = authorization_rates(
        counts_of(
            {
                (1, "alpha", "card"): {
                    "attempts": 20,
                    "succeeded": 6,
                    "failed": 3,
                    "reversed": 1,
                    "pending": 7,
                    "abandoned": 3,
                },
                (1, "alpha", "upi"): {"attempts": 10, "succeeded": 9, "failed": 1},
                (1, "bravo", "upi"): {"attempts": 4, "pending": 4},
            }
        )
    )
    assert lines.names == ("alpha",)
    assert lines.value[0, -2] == pytest.approx(75.0)
    assert lines.n[0, -2] == 20
    assert np.isnan(lines.value[0, -1])
    assert lines.low is not None
    assert lines.high is not None
    assert lines.low[0, -2] < 75 < lines.high[0, -2]


def test_a_minute_is_shown_when_it_is_mature() -> None:
    """The running minute, and one that has just ended, are left out; nothing else changes."""
    counts = counts_of({(ago, "alpha", "card"): {"attempts": 9, "succeeded": 9 - ago} for ago in range(3)})
    lines = authorization_rates(counts)
    running = counts.minutes[-1]
    assert mature(lines, running + MATURE_S - 0.1).times[-1] == running - 120
    ready = mature(lines, running + MATURE_S)
    assert ready.times[-1] == running - 60
    assert ready.value[0, -1] == lines.value[0, -2]
    assert ready.low is not None
    assert ready.low.shape == ready.value.shape == ready.n.shape == (1, 59)
    assert mature(lines, 0.0).value.shape == (1, 0)
    assert mature(volumes(counts), running + 59).value[0, -2:].tolist() == [9.0, 9.0]


def test_small_categories_are_added_up() -> None:
    """Categories beyond the biggest ones become one, and no failure is lost."""
    names = tuple(f"category_{index}" for index in range(CATEGORIES_SHOWN + 4))
    minutes = minutes_until(NOW)
    values = np.zeros((len(minutes), 2, len(names), 1), dtype=np.int64)
    values[-1, 0, :, 0] = np.arange(1, len(names) + 1)
    lines = failure_categories(MinuteCounts(minutes, ("alpha", "bravo"), names, values))
    assert lines.names == (*names[: -CATEGORIES_SHOWN - 1 : -1], "other")
    assert lines.value.sum() == values.sum()
    assert lines.value[-1, -1] == 1 + 2 + 3 + 4


def test_nothing_counted_shows_nothing() -> None:
    """An empty store gives empty lines, never a number."""
    empty = counts_of({})
    assert authorization_rates(empty).value.shape == (0, 60)
    assert volumes(empty).names == ()
    assert failure_categories(MinuteCounts(empty.minutes, (), (), empty.values[..., :1])).names == ()
