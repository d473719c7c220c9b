"""The share of the gap that a policy closes, over the seeds of a scenario together."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.routing import pooled_gaps


def test_a_seed_without_a_gap_to_close_decides_nothing() -> None:
    """Each seed counts by the size of its gap."""
    measures = {"context_gap_closed": [0.8, 0.8, -3.0], "context_gap_points": [3.0, 2.99, 0.01]}
    ((share, half),) = pooled_gaps(measures).values()
    assert share == pytest.approx((0.8 * 5.99 - 3.0 * 0.01) / 6.0)
    assert 0 < half < 0.05


def test_the_interval_holds_the_true_share() -> None:
    """In 95 of 100 samples of twenty seeds, about: seeds whose share is noise over the gap."""
    generator = np.random.default_rng(2)
    held = 0
    for _ in range(1_000):
        gaps = generator.uniform(0.1, 5.0, 20)
        shares = 0.7 + generator.normal(0, 0.5, 20) / gaps
        share, half = pooled_gaps({"late_gap_closed": list(shares), "late_gap_points": list(gaps)})["late"]
        held += abs(share - 0.7) <= half
    assert 900 < held < 970
