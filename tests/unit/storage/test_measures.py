"""The measures that pages share."""

from __future__ import annotations

import numpy as np
import pytest

from storage.read_models.health import state_of
from storage.read_models.measures import LATENCY_MS_FIRST, LATENCY_RATIO, latency_quantile_ms, rate_of
from storage.rollups import latency_bucket


def test_no_settled_attempt_has_no_rate() -> None:
    """Without a settled attempt the rate and its interval are unknown, not zero."""
    rate = rate_of(0, 0)
    assert (rate.rate, rate.low, rate.high) == (None, None, None)


def test_rate_lies_inside_its_interval() -> None:
    """The interval holds the rate, stays a share, and narrows with more attempts."""
    few, many = rate_of(9, 10), rate_of(9_000, 10_000)
    assert few.low is not None
    assert many.low is not None
    assert few.high is not None
    assert many.high is not None
    assert 0 <= few.low < many.low < 0.9 < many.high < few.high <= 1


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_quantile_is_right_within_a_bucket(share: float) -> None:
    """Estimates from bucket counts are within one bucket of the exact quantile, over several samples."""
    for seed in range(5):
        sample = np.random.default_rng(seed).lognormal(np.log(400), 0.6, 3_000)
        counts: dict[int, int] = {}
        for value in sample:
            counts[latency_bucket(value)] = counts.get(latency_bucket(value), 0) + 1
        estimate = latency_quantile_ms(counts, share)
        assert estimate is not None
        exact = float(np.quantile(sample, share))
        assert exact / LATENCY_RATIO <= estimate <= exact * LATENCY_RATIO


def test_quantile_stays_inside_the_only_bucket() -> None:
    """With all attempts in one bucket every quantile lies in it."""
    for share in (0.0, 0.5, 1.0):
        estimate = latency_quantile_ms({7: 3}, share)
        assert estimate is not None
        assert LATENCY_MS_FIRST * LATENCY_RATIO**7 <= estimate <= LATENCY_MS_FIRST * LATENCY_RATIO**8


def test_heartbeat_grows_stale_in_steps() -> None:
    """A process is late after three missed heartbeats and stopped after fifteen."""
    assert [state_of(age, 2.0) for age in (0, 6, 6.1, 30, 30.1)] == ["running", "running", "late", "late", "stopped"]
