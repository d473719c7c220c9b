"""Any metric through score(value, timestamp)."""

from __future__ import annotations

import numpy as np
import pytest

from ml.anomalies.metric import MetricWatcher

STEP_S = 300.0


def scores(values):
    """The score of each value, five minutes apart."""
    watcher = MetricWatcher()
    return np.array([watcher.score(float(value), STEP_S * place) for place, value in enumerate(values)])


def noise(seed, size=2000):
    """A metric with a daily rhythm."""
    at = np.arange(size) * STEP_S
    return 50 + 20 * np.sin(2 * np.pi * at / 86_400) + np.random.default_rng(seed).normal(0, 2, size)


@pytest.mark.parametrize("seed", range(4))
def test_ordinary_values_are_hardly_ever_called_wrong(seed):
    """2,000 values with a daily rhythm: none scores above 0.8, at most two above one half."""
    seen = scores(noise(seed))
    assert seen.max() < 0.8
    assert (seen > 0.5).sum() <= 2


@pytest.mark.parametrize("seed", range(3))
def test_a_spike_scores_higher_than_everything_before_it(seed):
    """One value far away is called wrong at once."""
    values = noise(seed)
    values[1500] += 60
    seen = scores(values)
    assert seen[1500] > 0.5
    assert seen[1500] > seen[300:1500].max()


def test_noise_that_grows_is_found_and_told_once_in_a_while():
    """Five times the spread: found within 20 values, and not told at every value that follows."""
    values = noise(5)
    values[1500:1700] += np.random.default_rng(1).normal(0, 12, 200)
    seen = scores(values)[1500:1700] > 0.5
    assert seen[:20].any()
    assert seen.sum() < 40


def test_a_metric_that_stands_still_is_found():
    """What always moved and now repeats one value is broken."""
    values = noise(6)
    values[1500:] = values[1500]
    assert (scores(values)[1500:1540] > 0.5).any()


def test_what_is_no_number_scores_nothing_and_is_not_learnt():
    """NaN and infinity pass by."""
    watcher = MetricWatcher()
    assert [watcher.score(value, 0.0) for value in (float("nan"), float("inf"), 1.0)] == [
        0.0,
        0.0,
        watcher.score(1.0, 1.0),
    ]
