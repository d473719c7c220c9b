"""Which anomalies fell into an experiment: by its time and by the payments that it may take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from messaging.contracts import Anomaly, ExperimentReported, Segment
from ml.experiments.design import Arm, Experiment
from storage.read_models.experiments import _disturbs

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
REPORT = ExperimentReported(
    experiment="e", version="v", reported_at=NOW, arms=[], verdict="", started_at=NOW - timedelta(hours=3)
)
DEFINED = Experiment(
    name="e", seed="s", methods=["card"], issuers=["harbour_bank"],
    arms=[Arm(name="a", policy="adaptive", weight=0.5), Arm(name="control", policy="uniform", weight=0.5)],
)  # fmt: skip


def anomaly(begin_h: float, end_h: float | None, **segment: str) -> Anomaly:
    """An anomaly from and to so many hours before now; None: it is open."""
    began = NOW - timedelta(hours=begin_h)
    return Anomaly(
        anomaly_id="a", segment=Segment(**segment), signal="success_rate", severity="major", started_at=began,
        detected_at=began, updated_at=began, observed=0.4, expected=0.9, expected_low=0.8, expected_high=0.95,
        attempts_seen=50, score=20.0, closed_at=None if end_h is None else NOW - timedelta(hours=end_h),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fell", "begin_h", "end_h", "segment"),
    [
        (True, 2.0, 1.0, {"gateway": "bravo"}),
        (True, 5.0, None, {}),
        (True, 4.0, 2.0, {"method": "card", "issuer": "harbour_bank"}),
        (False, 5.0, 3.5, {}),
        (False, 2.0, 1.0, {"method": "upi"}),
        (False, 2.0, 1.0, {"issuer": "lantern_bank"}),
    ],
)
def test_time_and_payments_decide(fell: bool, begin_h: float, end_h: float | None, segment: dict[str, Any]) -> None:
    """What ended before the start, or concerns other payments, did not disturb it."""
    assert _disturbs(anomaly(begin_h, end_h, **segment), REPORT, DEFINED) is fell


def test_what_came_after_its_end_did_not_disturb_it() -> None:
    """An experiment that was stopped is judged by what it lived through."""
    stopped = msgspec.structs.replace(REPORT, running=False, reported_at=NOW - timedelta(hours=1))
    assert _disturbs(anomaly(2.0, None), stopped, None)
    assert not _disturbs(anomaly(0.5, None), stopped, None)
    assert not _disturbs(anomaly(2.0, None), msgspec.structs.replace(REPORT, started_at=None), DEFINED)
