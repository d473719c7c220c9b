"""The figures of the report, and the page itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from simulator.offline import Chunk, Offline
from simulator.report import page
from simulator.report_figures import (
    amount_groups,
    calibration,
    calibration_overall,
    failures_by_category,
    latency_densities,
    local_hour,
    orders_by_hour,
    rate_of,
    rates_by,
    retries,
    success_by_time,
)
from simulator.scenario import Scenario, load_scenario
from simulator.world import facts
from simulator.world.outcomes_many import SUCCEEDED
from simulator.world.shoppers import ATTEMPTS_MAX


@pytest.fixture(scope="module")
def month() -> Chunk:
    """A month without incidents."""
    return Offline(Scenario(title="A month", rhythm="daily"), seed=11, rate=0.12).take(300_000)


@given(st.integers(0, 500), st.integers(1, 500))
def test_intervals_are_wilsons(successes: int, more: int) -> None:
    """The same as the field's library gives."""
    rate = rate_of(successes, successes + more)
    low, high = proportion_confint(successes, successes + more, alpha=0.05, method="wilson")
    assert (rate.low, rate.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_the_simulated_declines_match_the_public_ones(month: Chunk) -> None:
    """Over all banks within 5 % and 15 %; bank by bank at most three of twenty intervals miss the public figure."""
    rows = calibration(month)
    overall = calibration_overall(rows)
    public, simulated = overall["business decline"]
    assert simulated == pytest.approx(public, rel=0.05)
    public, simulated = overall["technical decline"]
    assert simulated == pytest.approx(public, rel=0.15)
    assert sum(overall[name][1] for name in overall) == pytest.approx(1)
    missed = [
        row.issuer for row in rows if not (row.business.low or 0) <= row.business_public <= (row.business.high or 1)
    ]
    assert len(missed) <= 3, missed


def test_rates_by_group_agree_with_counting(month: Chunk) -> None:
    """One cell counted by hand, and all cells together hold every first attempt."""
    attempts = month.attempts
    table = rates_by(month, attempts.method.astype(np.int64), 4)
    mine = (attempts.number == 1) & (attempts.gateway == 1) & (attempts.method == 1)
    assert (int(mine.sum()), (attempts.status_last[mine] == SUCCEEDED).mean()) == (table[1][1].n, table[1][1].rate)
    assert (attempts.number == 1).sum() == sum(cell.n for row in table for cell in row)


def test_sums_over_the_figures_are_the_whole(month: Chunk) -> None:
    """Nothing is dropped: categories, hours, amounts, latencies and times add up."""
    attempts = month.attempts
    assert (month.truth.category >= 0).sum() == sum(sum(counts) for _, counts in failures_by_category(month))
    groups, names = amount_groups(attempts.amount_minor)
    assert set(range(len(names))) == set(groups.tolist())
    assert set(range(24)) == set(local_hour(attempts.at).tolist())
    assert (attempts.number == 1).sum() == orders_by_hour(month, 60).sum()
    for density in latency_densities(month, np.geomspace(20, 13_000, 50)):
        assert density.sum() == pytest.approx(1)
    times = success_by_time(month, float(attempts.at[0]), 86_400, 60)
    assert len(attempts.at) == sum(rate.n for row in times for rate in row)


def test_retries_rescue_orders_and_later_attempts_succeed_less(month: Chunk) -> None:
    """Orders end better than first attempts, and who failed once fails more often again."""
    found = retries(month, ATTEMPTS_MAX)
    first, second = found.success_by_number[:2]
    assert found.orders_paid.low is not None
    assert found.first_attempts_paid.high is not None
    assert found.orders_paid.low > found.first_attempts_paid.high
    assert first.low is not None
    assert second.high is not None
    assert second.high < first.low


def test_the_demo_shows_in_the_figures() -> None:
    """Bravo's success falls in the windows of its outage and nowhere else, nobody else's does."""
    offline = Offline(load_scenario("demo"), seed=7, rate=100)
    table = success_by_time(offline.take(20_000), offline.plan.began_at, 10, 18)
    low = [[rate.rate is not None and rate.rate < 0.3 for rate in row] for row in table]
    bravo = facts.GATEWAYS.index("bravo")
    assert [6 <= place < 15 for place in range(18)] == low[bravo]
    assert not any(any(row) for place, row in enumerate(low) if place != bravo)


def test_the_page_is_whole_and_stands_alone() -> None:
    """Every section is there, and nothing is loaded from elsewhere."""
    shown = page(20_000, 7)
    for title in ("Success by context", "Latency and rhythm", "Failures and retries", "Calibration", "The demo"):
        assert title in shown
    assert '<script src="' not in shown
    assert "twenty largest paying banks" in shown
