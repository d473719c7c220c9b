"""Success against cost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ml.routing.frontier import MARGINS, Offered, frontier
from ml.routing.worth import Fees

FEES = {"cheap": Fees(fixed_success=5.0), "dear": Fees(fixed_success=20.0, fixed_failure=10.0, bps_success=200.0)}


def test_cheap_and_dear_gateways_make_a_frontier() -> None:
    """The more a success earns, the more the dear gateway is worth it; success alone is the surest and dearest."""
    rng = np.random.default_rng(0)
    offered = [
        Offered(int(amount), {"cheap": 0.85, "dear": 0.85 + better}, "dear")
        for amount, better in zip(rng.integers(500, 50_000, 400), rng.uniform(0.0, 0.1, 400), strict=True)
    ]
    points = frontier(offered, FEES)
    assert [point.name for point in points] == ["as it was", *["margin"] * len(MARGINS), "success alone"]
    margins = points[1:]
    assert all(later.success >= earlier.success - 1e-12 for earlier, later in itertools.pairwise(margins))
    assert all(later.cost_minor >= earlier.cost_minor - 1e-9 for earlier, later in itertools.pairwise(margins))
    assert points[1].success == pytest.approx(0.85)
    assert points[-1].success == pytest.approx(float(np.mean([each.success["dear"] for each in offered])))
    assert points[-1].best
    assert points[0] == points[-1].__class__(name="as it was", margin_share=None, success=points[-1].success,
                                             cost_minor=points[-1].cost_minor)  # fmt: skip


def test_what_is_beaten_says_so() -> None:
    """A choice with less success for more money is not on the frontier."""
    points = frontier([Offered(1_000, {"cheap": 0.9, "dear": 0.8}, "dear")], FEES)
    assert not points[0].best
    assert points[-1].best


def test_a_gateway_that_could_not_take_a_payment_is_never_chosen() -> None:
    """Each decision has its own gateways."""
    offered = [Offered(1_000, {"dear": 0.5}, "dear"), Offered(1_000, {"cheap": 0.9}, "cheap")]
    assert {round(point.success, 6) for point in frontier(offered, FEES)} == {0.7}
    assert frontier([], FEES) == []
