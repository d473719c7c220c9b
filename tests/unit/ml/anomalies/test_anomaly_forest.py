"""The Isolation Forest: as plain arrays what scikit-learn fitted, and no surer than it may be."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from ml.anomalies.channels import COUNTED
from ml.anomalies.counting import Evidence
from ml.anomalies.forest import FEATURES, HELD_BACK, ROWS_MAX, TREES, Minute, Minutes, fitted, nats_of
from ml.anomalies.patrol import Patrol

ORDINARY = np.random.default_rng(0).normal(size=(4000, FEATURES))


def test_arrays_score_as_the_fitted_forest_does():
    """Every row gets the score that scikit-learn gives it."""
    forest = fitted(ORDINARY, contamination=0.01, seed=1)
    held = np.arange(len(ORDINARY)) % HELD_BACK == 0
    model = IsolationForest(n_estimators=TREES, random_state=1).fit(ORDINARY[~held])
    rows = np.random.default_rng(2).normal(0, 2, (200, FEATURES))
    assert forest.score(rows) == pytest.approx(-model.score_samples(rows), abs=1e-6)


def test_about_the_agreed_share_of_new_ordinary_minutes_is_unusual():
    """The bar is set on rows the forest was not fitted to, so it holds on rows it never saw."""
    forest = fitted(ORDINARY, contamination=0.02, seed=1)
    fresh = np.random.default_rng(3).normal(size=(4000, FEATURES))
    assert forest.unusual(fresh).mean() == pytest.approx(0.02, abs=0.012)
    assert forest.unusual(np.full((1, FEATURES), 6.0)).all()


def test_ordinary_minutes_speak_against_trouble_on_average():
    """Under chance the evidence falls; with every second minute unusual it rises."""
    share = 0.01
    flagged, plain = nats_of(np.array([True, False]), share)
    assert share * flagged + (1 - share) * plain < 0 < (flagged + plain) / 2


def test_what_is_remembered_is_bounded_and_the_forest_is_fitted_when_due():
    """The oldest minutes make room; nothing is fitted to too few, nor before its time."""
    minutes = Minutes()
    minutes.add(np.repeat(ORDINARY, 3, axis=0))
    assert len(minutes.rows()) == ROWS_MAX
    patrol = Patrol(contamination=0.01, retrain_s=3600, seed=1)
    minute, clean = Minute(2000), np.ones(2000, dtype=bool)
    minute.settled += 100
    assert patrol.look(minute, ~clean, 0.0).tolist() == [0.0] * 2000
    assert patrol.forest is None
    patrol.look(minute, clean, 60.0)
    first = patrol.forest
    assert first is not None
    patrol.look(minute, clean, 120.0)
    assert patrol.forest is first


def test_a_quarter_fewer_orders_is_no_more_than_one_deviation_however_many_there_are():
    """How many are expected is not known better; more of them, and orders that say nothing, are nothing."""
    minute = Minute(4)
    counts = Evidence._make(np.zeros((1, 4)) for _ in Evidence._fields)
    counts = counts._replace(
        hits=np.zeros((COUNTED, 1, 4)),
        expected=np.zeros((COUNTED, 1, 4)),
        orders=np.array([[7_500.0, 20_000.0, 0.0, 500.0]]),
    )
    minute.add(counts, np.array([[10_000.0, 10_000.0, 10_000.0, 0.0]]), 1)
    assert minute.features()[:, -1] == pytest.approx([-1.25, 1.0, -5.0, 0.0], abs=0.01)
