"""The smoke test's own arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.check import Expectations, Outage, arms_check, count_checks, figures, first_outage, routing_checks
from cli.check_counts import Counts
from simulator.tally import TrafficSummary, TrafficTally
from simulator.world.plan import Label

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def counts(attempts: int, *, doubled: int = 0, failed: int = 0, **more: Any) -> Counts:
    """A store that holds attempts, and sums that may count some of them twice."""
    statuses = {"succeeded": attempts - failed} | ({"failed": failed} if failed else {})
    sums = statuses | {"succeeded": attempts - failed + doubled}
    facts = {"failures": failed, "rollup_failures": failed} | more
    return Counts(
        attempts=attempts, statuses=statuses, rollup_attempts=attempts + doubled, rollup_statuses=sums, **facts
    )


def summary(*, confirmed: int = 100, in_time: int = 100, incidents: list[Label] | None = None) -> TrafficSummary:
    """An account of the traffic."""
    about = {"scenario": "smoke", "seed": 7, "rate": 60.0, "speed": 1.0, "run_id": "r"}
    tally = TrafficTally(START.timestamp(), about)
    tally.reports |= {"made": confirmed, "confirmed": confirmed, "attempts_confirmed": confirmed}
    tally.routes |= {"asked": 100, "answered": 100, "in_time": in_time}
    return tally.summary((START + timedelta(seconds=45)).timestamp(), incidents or [], final=True)


def failed_claims(
    before: Counts, after: Counts, account: TrafficSummary, dead: int = 0, restarts: int = 0
) -> list[str]:
    """The claims about counts that do not hold."""
    expected = Expectations(before=before, summary=account, first_chart_s=9.0, restarts=restarts)
    facts = figures(expected, after, Outage(gateway="bravo"))
    checks = count_checks(expected, after, {"ingestor.dead": dead}, facts)
    return [claim for passed, claim, _ in checks if not passed]


def test_all_is_well() -> None:
    """Confirmed = stored = summed, on top of what an earlier run had stored: nothing is wrong."""
    assert failed_claims(counts(50, failed=5), counts(150, failed=15), summary()) == []


@pytest.mark.parametrize(
    ("after", "account", "more", "wrong"),
    [
        (counts(99), summary(), {}, ["reported = stored = summed", "no attempt was lost"]),
        (
            counts(100, doubled=3),
            summary(),
            {},
            ["reported = stored = summed", "no attempt was counted twice", "the sums by status equal a recount"],
        ),
        (counts(100, failed=9, failures=8), summary(), {}, ["the sums of failures equal a recount"]),
        (counts(100, failed=9, rollup_failures=10), summary(), {}, ["the sums of failures equal a recount"]),
        (counts(0), summary(confirmed=0), {}, ["attempts were reported"]),
        (counts(100), summary(), {"dead": 1}, ["there are no dead letters"]),
        (counts(100), summary(), {"restarts": 1}, ["no process died"]),
    ],
)
def test_what_is_wrong_is_seen(after: Counts, account: TrafficSummary, more: dict[str, int], wrong: list[str]) -> None:
    """Each kind of damage fails its own check, and only the checks that speak of it."""
    assert failed_claims(counts(0), after, account, **more) == wrong


@pytest.mark.parametrize(
    ("in_time", "outage", "wrong"),
    [
        (100, Outage(gateway="bravo", delay_s=4, share_before=0.2, share_after=0.03), []),
        (100, Outage(gateway="bravo", delay_s=4, share_before=0.025, share_after=0.028), []),
        (100, Outage(gateway="bravo", delay_s=4, share_before=0.05, share_after=0.06), ["traffic left bravo"]),
        (100, Outage(gateway="bravo", delay_s=4, share_before=0.033, share_after=0.041, attempts_after=271), []),
        (
            100,
            Outage(gateway="bravo", delay_s=4, share_before=0.05, share_after=0.06, attempts_after=5000),
            ["traffic left bravo"],
        ),
        (98, Outage(gateway="bravo", delay_s=4, share_before=0.2, share_after=0.03), ["at least 99%"]),
        (100, Outage(gateway="bravo", delay_s=31, share_before=0.2, share_after=0.03), ["the outage of bravo"]),
        (100, Outage(gateway="bravo", share_before=0.2), ["the outage of bravo", "traffic left bravo"]),
        (100, Outage(gateway="bravo", delay_s=4, share_before=0.2, share_after=0.09), ["traffic left bravo"]),
        (100, Outage(gateway=""), ["the scenario has an outage"]),
    ],
)
def test_routing_is_judged(in_time: int, outage: Outage, wrong: list[str]) -> None:
    """Late answers, an outage that was not seen or not avoided, and a run without one each fail."""
    account = summary(in_time=in_time)
    expected = Expectations(before=counts(0), summary=account, first_chart_s=9.0, restarts=0)
    checks = routing_checks(account, outage, figures(expected, counts(100), outage))
    failed = [claim for passed, claim, _ in checks if not passed]
    assert [claim.startswith(start) for claim, start in zip(failed, wrong, strict=True)] == [True] * len(wrong)


@pytest.mark.parametrize(
    ("arms", "passed"),
    [
        ({"a-vs-b": {"adaptive": 90, "control": 10}}, True),
        ({"a-vs-b": {"adaptive": 90, "control": 0}}, False),
        ({"a-vs-b": {"adaptive": 90}}, False),
        ({}, False),
    ],
)
def test_both_arms_need_orders(arms: dict[str, dict[str, int]], passed: bool) -> None:
    """One arm alone, an empty arm, and no experiment at all are no experiment."""
    assert arms_check(arms)[0] is passed


def test_first_outage_that_began_counts() -> None:
    """The outage that is looked at is the first one of a gateway that began while there was traffic."""

    def label(kind: str, starts_s: float, gateway: str | None) -> Label:
        starts_at = START + timedelta(seconds=starts_s)
        ends_at = starts_at + timedelta(seconds=30)
        return Label(
            incident_id=f"{kind}{starts_s}", kind=kind, signal="success_rate", anomaly=True, gateway=gateway,
            starts_at=starts_at, ends_at=ends_at,
        )  # fmt: skip

    incidents = [label("latency", 1, "echo"), label("outage", 2, None), label("outage", 60, "alpha")]
    assert first_outage(summary(incidents=incidents)) is None
    found = first_outage(summary(incidents=[*incidents, label("outage", 30, "delta"), label("outage", 14, "bravo")]))
    assert found is not None
    assert found.gateway == "bravo"
