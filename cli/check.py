"""The smoke test after a demo: nothing lost, nothing counted twice, answers in time, the outage seen and avoided."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Any

import msgspec

from cli.check_counts import Counts, count, dead_letters, share_of_gateway
from cli.check_pages import PageAnswers, visit_pages
from cli.running import RunningSystem
from cli.screen import Screen
from ml.experiments.intervals import Interval, Proportion, wilson_interval
from simulator.tally import TrafficSummary
from simulator.world.plan import Label
from storage.anomalies import anomaly_of

IN_TIME_SHARE_MIN = 0.99
SETTLE_S = 5.0
"""After the detection, so long until routing is expected to have left the failing gateway."""

FAILING_SHARE_MAX = 0.08
"""A tenth of the orders is routed evenly as a control (2 % at each of five gateways), and every gateway is still tried
now and then; more than this would be routing that has not understood."""

LEFT_SHARE = 0.04
"""What the control arm, exploration and second tries send to a gateway that routing avoids. A gateway that was avoided
before it failed has nothing left to lose, so a share below this is enough by itself."""

DELAY_S_MAX = 30.0
DRAIN_S_MAX = 20.0
STEADY_S = 1.5


class Expectations(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when the traffic has ended."""

    before: Counts
    summary: TrafficSummary
    first_chart_s: float | None
    restarts: int


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """How the system met the scenario's outage. None: there was none, or it was not seen."""

    gateway: str
    delay_s: float | None = None
    anomalies: int = 0
    share_before: float | None = None
    share_after: float | None = None
    attempts_after: int = 0


async def run_checks(system: RunningSystem, expected: Expectations, screen: Screen) -> bool:
    """Check everything, print each check with its figure, then one flat JSON object; True: all passed."""
    screen.waiting("waiting until everything that was sent is stored")
    after = await _drained(system, expected)
    dead = await dead_letters(system.place.amqp_url)
    outage = await _outage(system, expected.summary)
    arms = await _arms(system)
    pages = await visit_pages(system)
    screen.waiting("")
    facts = figures(expected, after, outage)
    checks = [
        *count_checks(expected, after, dead, facts),
        *routing_checks(expected.summary, outage, facts),
        arms_check(arms),
        _pages_check(pages),
        (
            facts["first_chart_s"] is not None,
            "the charts showed figures",
            f"{facts['first_chart_s']} s after the command",
        ),
    ]
    for passed, claim, figure in checks:
        screen.check(passed, claim, figure)
    ok = all(passed for passed, _, _ in checks)
    screen.result({"ok": ok} | facts)
    return ok


def figures(expected: Expectations, after: Counts, outage: Outage) -> dict[str, Any]:
    """What the last line says, flat."""
    reports, routes = expected.summary.reports, expected.summary.routes
    confirmed = reports["attempts_confirmed"]
    stored = after.attempts - expected.before.attempts
    summed = after.rollup_attempts - expected.before.rollup_attempts
    trip = expected.summary.route_round_trip
    return {
        "reports_sent": confirmed,
        "attempts_stored": stored,
        "lost": max(0, confirmed - stored),
        "doubled": max(0, summed - stored),
        "replies_in_time_share": round(routes["in_time"] / routes["asked"], 5) if routes["asked"] else None,
        "anomaly_delay_s": outage.delay_s,
        "failing_gateway_share_after": outage.share_after,
        "first_chart_s": expected.first_chart_s,
        "reports_with_corrections": reports["confirmed"],
        "attempts_per_second": round(confirmed / expected.summary.elapsed_s, 1),
        "route_p50_ms": trip.p50_ms,
        "route_p99_ms": trip.p99_ms,
    }


Check = tuple[bool, str, str]


def count_checks(expected: Expectations, after: Counts, dead: dict[str, int], facts: dict[str, Any]) -> list[Check]:
    """Nothing lost, doubled or set aside: what was confirmed, what is stored and what was summed agree."""
    reports = expected.summary.reports
    confirmed, stored = facts["reports_sent"], facts["attempts_stored"]
    summed = after.rollup_attempts - expected.before.rollup_attempts
    return [
        (confirmed > 0, "attempts were reported", f"{confirmed} attempts, {reports['confirmed']} reports"),
        (not reports["unconfirmed"], "every report was confirmed by the broker", f"{reports['unconfirmed']} open"),
        (confirmed == stored == summed, "reported = stored = summed", f"{confirmed} = {stored} = {summed}"),
        (not facts["lost"], "no attempt was lost", f"{facts['lost']} lost"),
        (not facts["doubled"], "no attempt was counted twice", f"{facts['doubled']} doubled"),
        (
            after.rollup_statuses == after.statuses,
            "the sums by status equal a recount",
            ", ".join(f"{status} {number}" for status, number in sorted(after.statuses.items())),
        ),
        (
            after.failures == after.rollup_failures == after.statuses.get("failed", 0),
            "the sums of failures equal a recount",
            f"{after.failures} classified, {after.rollup_failures} summed, {after.statuses.get('failed', 0)} failed",
        ),
        (not sum(dead.values()), "there are no dead letters", ", ".join(f"{name} {n}" for name, n in dead.items())),
        (not expected.restarts, "no process died", f"{expected.restarts} restarts"),
    ]


def routing_checks(summary: TrafficSummary, outage: Outage, facts: dict[str, Any]) -> list[Check]:
    """Answers came in time; the outage was seen, and traffic left the failing gateway."""
    share = facts["replies_in_time_share"]
    routes, trip = summary.routes, summary.route_round_trip
    checks: list[Check] = [
        (
            share is not None and share >= IN_TIME_SHARE_MIN,
            f"at least {IN_TIME_SHARE_MIN:.0%} of the routes were answered in time",
            f"{routes['in_time']} of {routes['asked']}; p50 {trip.p50_ms} ms, p99 {trip.p99_ms} ms",
        )
    ]
    if not outage.gateway:
        return [
            *checks,
            (False, "the scenario has an outage of a gateway", "none began in this run; let it run longer"),
        ]
    seen = outage.delay_s is not None and outage.delay_s <= DELAY_S_MAX
    before, after = outage.share_before, outage.share_after
    left = False
    if after is not None and after <= FAILING_SHARE_MAX:
        fell = before is None or after < before
        left = fell or _surely_at_least(after, outage.attempts_after) <= LEFT_SHARE
    return [
        *checks,
        (
            seen,
            f"the outage of {outage.gateway} was raised as an anomaly",
            f"{outage.delay_s} s after it began" if outage.delay_s is not None else "not seen",
        ),
        (
            left,
            f"traffic left {outage.gateway}",
            f"{_percent(before)} of attempts before, {_percent(after)} after (n = {outage.attempts_after})",
        ),
    ]


def _surely_at_least(share: float, attempts: int) -> float:
    """The lower end of the 95 % interval of a share of so many attempts; without attempts the share itself."""
    interval = wilson_interval(Proportion(round(share * attempts), attempts)) if attempts else None
    return interval.low if isinstance(interval, Interval) else share


def arms_check(arms: dict[str, dict[str, int]]) -> Check:
    """At least one experiment has orders in every one of its arms, of which there are two or more."""
    both = any(len(counts) >= 2 and all(counts.values()) for counts in arms.values())
    figure = "; ".join(
        f"{name}: " + ", ".join(f"{arm} {n}" for arm, n in counts.items()) for name, counts in arms.items()
    )
    return both, "the experiment shows orders in both arms", figure or "no experiment was reported"


def _pages_check(pages: PageAnswers) -> Check:
    wrong = {path: status for path, status in pages.statuses.items() if status != 200}
    figure = ", ".join(f"{path} {status}" for path, status in wrong.items()) or f"{len(pages.statuses)} pages"
    return pages.logged_in and not wrong, "every page answers 200 after the login", figure


async def _drained(system: RunningSystem, expected: Expectations) -> Counts:
    """Count until the store holds what was confirmed and nothing changes any more, or the time is up."""
    deadline = time.monotonic() + DRAIN_S_MAX
    wanted = expected.before.attempts + expected.summary.reports["attempts_confirmed"]
    last, since = await count(system.database), time.monotonic()
    while time.monotonic() < deadline:
        await asyncio.sleep(0.25)
        now = await count(system.database)
        if now != last:
            last, since = now, time.monotonic()
        complete = now.attempts >= wanted and now.failures == now.statuses.get("failed", 0)
        if complete and time.monotonic() - since >= STEADY_S:
            break
    return last


def first_outage(summary: TrafficSummary) -> Label | None:
    """The first outage of a gateway that began while there was traffic."""
    outages = [
        label
        for label in summary.incidents
        if label.kind == "outage" and label.gateway and label.starts_at < summary.updated_at
    ]
    return min(outages, key=lambda label: label.starts_at, default=None)


async def _outage(system: RunningSystem, summary: TrafficSummary) -> Outage:
    """Compare what the simulator broke with what the system saw and did."""
    label = first_outage(summary)
    if label is None or label.gateway is None:
        return Outage(gateway="")
    cursor = system.database["anomalies"].find(
        {"segment.gateway": label.gateway, "detected_at": {"$gte": label.starts_at, "$lt": label.ends_at}}
    )
    anomalies = sorted([anomaly_of(found) async for found in cursor], key=lambda anomaly: anomaly.detected_at)
    before = await share_of_gateway(system.database, label.gateway, summary.started_at, label.starts_at)
    if not anomalies:
        return Outage(gateway=label.gateway, share_before=before[0])
    detected_at: datetime = anomalies[0].detected_at
    until = min(label.ends_at, summary.updated_at)
    after = await share_of_gateway(system.database, label.gateway, detected_at + timedelta(seconds=SETTLE_S), until)
    return Outage(
        gateway=label.gateway,
        delay_s=round((detected_at - label.starts_at).total_seconds(), 1),
        anomalies=len(anomalies),
        share_before=before[0],
        share_after=after[0],
        attempts_after=after[1],
    )


async def _arms(system: RunningSystem) -> dict[str, dict[str, int]]:
    """Orders by arm of each experiment, from its last report."""
    reports = system.database["experiment_reports"].find({}, {"arms.arm": 1, "arms.orders": 1})
    return {report["_id"]: {arm["arm"]: arm["orders"] for arm in report["arms"]} async for report in reports}


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"
