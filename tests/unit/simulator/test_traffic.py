"""Live traffic without a broker: the tally, the closed loop, the judge of alarms, the checkout's decisions."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from messaging.client import Route
from messaging.contracts import AttemptReported, RouteRequested
from simulator.checkout import Checkout
from simulator.closed_loop import ClosedLoop, Heard, Payment
from simulator.detection import Alarm, judge
from simulator.scenario import load_dialects, load_scenario
from simulator.tally import BINS_MAX, Durations, TrafficSummary, TrafficTally, TruthSums
from simulator.world import facts
from simulator.world.draws import policy_generator
from simulator.world.incidents import AnyIncident, Outage
from simulator.world.plan import IncidentPlan, Label
from simulator.world.world import World

BEGAN = 1_800_000_000.0
EVENT_LOOP = pytest.mark.enable_socket
"""An event loop wakes itself up through a pair of sockets; nothing else here opens one."""

ABOUT = {"scenario": "demo", "seed": 7, "rate": 60.0, "speed": 1.0, "run_id": "7.1"}


def a_world(incidents: list[AnyIncident], *, rate: float = 60, capacity: dict[str, float] | None = None) -> World:
    """A world that began at BEGAN."""
    plan = IncidentPlan(incidents, BEGAN)
    return World(7, plan=plan, dialects=load_dialects(), rate=rate, capacity_per_s=capacity)


def test_quantiles_are_right_to_two_per_cent() -> None:
    """Against numpy on log-normal times; nothing counted is None, not zero."""
    durations = Durations()
    assert durations.quantile(0.5) is None
    values = np.random.default_rng(1).lognormal(3, 1.5, 20_000)
    for value in values:
        durations.add(float(value))
    for share in (0.5, 0.9, 0.99):
        assert durations.quantile(share) == pytest.approx(float(np.quantile(values, share)), rel=0.021)


def test_the_timeline_is_bounded_and_counts_by_the_second_of_sending() -> None:
    """Old seconds fall out; what belongs to them is dropped, not misplaced."""
    tally = TrafficTally(BEGAN, ABOUT)
    tally.attempt_sent("alpha", BEGAN + 0.5)
    tally.attempt_sent("alpha", BEGAN + 2.5)
    tally.attempt_succeeded("alpha", BEGAN + 2.5)
    timeline = tally.summary(BEGAN + 3, [], final=False).timeline
    assert timeline.attempts["alpha"] == [1, 0, 1]
    assert timeline.succeeded["alpha"] == [0, 0, 1]
    assert timeline.attempts["echo"] == [0, 0, 0]
    tally.attempt_sent("bravo", BEGAN + BINS_MAX + 1.5)
    tally.attempt_succeeded("alpha", BEGAN + 0.5)
    timeline = tally.summary(BEGAN + 3, [], final=False).timeline
    assert {BINS_MAX} == {len(bins) for bins in (*timeline.attempts.values(), *timeline.succeeded.values())}
    assert timeline.starts_at.timestamp() == BEGAN + 2
    assert (timeline.attempts["alpha"][0], timeline.attempts["bravo"][-1]) == (1, 1)
    assert sum(timeline.succeeded["alpha"]) == 1


def test_the_summary_file_is_whole_and_read_back_as_it_was(tmp_path: Path) -> None:
    """Written twice, nothing is left beside it."""
    path = tmp_path / "summary.json"
    summary = TrafficTally(BEGAN, ABOUT).summary(BEGAN + 1, [], final=True)
    for _ in range(2):
        summary.write(path)
    assert summary == msgspec.json.decode(path.read_bytes(), type=TrafficSummary)
    assert [path] == list(tmp_path.iterdir())


def test_truth_sums_know_oracle_best_fixed_and_uniform() -> None:
    """On two orders whose best gateways differ, by hand."""
    sums = TruthSums()
    assert sums.truth().oracle is None
    sums.add((0.9, 0.5, 0.5, 0.5, 0.5), 1, 1_000)
    sums.add((0.6, 0.8, 0.5, 0.5, 0.5), 1, 2_000)
    sums.add_result(True, 10.0)
    sums.add_result(False, 5.0)
    truth = sums.truth()
    assert (truth.oracle, truth.best_fixed, truth.best_fixed_gateway, truth.routed) == (0.85, 0.75, "alpha", 0.65)
    assert truth.uniform == pytest.approx(0.58)
    assert (truth.regret_attempts, truth.regret_minor, truth.fees_minor, truth.succeeded) == (0.4, 400.0, 15.0, 0.5)


class Uniform:
    """A policy that learns nothing and keeps what it hears."""

    def __init__(self, seed: int) -> None:
        self.generator = policy_generator(seed)
        self.heard: list[Heard] = []
        self.now = 0.0

    def choose(self, payment: Payment) -> str:
        """Any candidate."""
        assert payment.at >= self.now
        self.now = payment.at
        return payment.candidates[int(self.generator.integers(len(payment.candidates)))]

    def learn(self, heard: Heard) -> None:
        """Keep it."""
        assert heard.at >= self.now
        self.now = heard.at
        self.heard.append(heard)


class Fixed(Uniform):
    """Always the same gateway."""

    def choose(self, payment: Payment) -> str:
        """Charlie."""
        return "charlie"


def test_the_closed_loop_tells_a_policy_everything_in_order_and_nothing_early() -> None:
    """Every attempt is heard once when answered, after its latency; corrections come later; counts add up."""
    policy = Uniform(1)
    result = ClosedLoop(a_world([]), policy).run(4_000)
    delays = [heard.at - heard.payment.at - heard.latency_ms / 1000 for heard in policy.heard]
    assert min(delays) > -1e-5
    first = [delay for delay in delays if delay < 1e-5]
    assert result.attempts == len(first)
    assert 4_000 == result.orders == result.paid + result.given_up + result.awaiting
    assert result.attempts == sum(result.attempts_by_gateway.values())
    assert {"succeeded", "failed", "pending", "reversed"} == {heard.status for heard in policy.heard}
    assert all((heard.failure_code is not None) == (heard.status == "failed") for heard in policy.heard)
    assert result.truth.routed == pytest.approx(result.truth.uniform, abs=0.005)


def test_the_closed_loop_is_the_same_for_the_same_seed_and_shares_fates_between_policies() -> None:
    """A policy's choices change what it gets, not what orders come or what would have been best."""
    runs = [ClosedLoop(a_world([]), policy).run(1_000) for policy in (Uniform(1), Uniform(1), Fixed(1))]
    assert runs[0] == runs[1]
    assert runs[0].truth.oracle == runs[2].truth.oracle
    assert runs[0].truth.by_gateway == runs[2].truth.by_gateway
    assert runs[2].truth.routed == runs[2].truth.by_gateway["charlie"]


def test_a_policy_that_names_no_candidate_is_refused() -> None:
    """The error names both."""

    class Odd(Uniform):
        def choose(self, payment: Payment) -> str:
            return "zulu"

    with pytest.raises(ValueError, match="chose 'zulu'; the candidates were alpha"):
        ClosedLoop(a_world([]), Odd(1)).run(1)


def test_a_full_gateway_turns_payments_away() -> None:
    """With room for ten a second and sixty coming, all but ten a second are refused quickly for want of room."""
    policy = Fixed(1)
    result = ClosedLoop(a_world([], capacity={"charlie": 10}), policy).run(3_000)
    refused = sum(heard.latency_ms == 40.0 for heard in policy.heard)
    assert refused == pytest.approx(result.attempts - 10 * 3_000 / 60, rel=0.05)


def a_label(start: float, lasts: float, *, anomaly: bool = True, **segment: str) -> Label:
    """A true incident."""
    starts_at = datetime.fromtimestamp(BEGAN + start, UTC)
    return Label(
        incident_id=f"inc_{start}",
        kind="outage",
        signal="success_rate",
        anomaly=anomaly,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(seconds=lasts),
        **segment,
    )


def an_alarm(at: float, **segment: str) -> Alarm:
    """What a system said."""
    return Alarm(detected_at=datetime.fromtimestamp(BEGAN + at, UTC), signal="success_rate", **segment)


def test_alarms_are_matched_with_incidents_by_time_and_segment() -> None:
    """First fitting alarm is the detection; what nothing explains is false; what only tempted is told apart."""
    outage = a_label(10, 60, gateway="bravo")
    missed = a_label(500, 60, gateway="alpha")
    sale = a_label(200, 60, anomaly=False)
    alarms = [
        an_alarm(400, gateway="echo"),
        an_alarm(18, gateway="bravo", issuer="banyan_national"),
        an_alarm(15.5, gateway="bravo"),
        an_alarm(15, gateway="alpha"),
        an_alarm(230),
    ]
    verdict = judge([outage, sale, missed], alarms)
    assert [(outage.incident_id, 5.5), (missed.incident_id, None)] == [
        (found.incident.incident_id, found.delay_s) for found in verdict.detections
    ]
    assert verdict.missed == 1
    assert [an_alarm(15, gateway="alpha"), an_alarm(230), an_alarm(400, gateway="echo")] == verdict.false_alarms
    assert [an_alarm(230)] == verdict.tempted


class Wire:
    """Stands where the broker's client stands: answers at once and keeps what was reported."""

    def __init__(self, *, answers: list[str]) -> None:
        self.answers = answers
        self.asked: list[RouteRequested] = []
        self.reports: list[AttemptReported] = []

    async def route(self, request: RouteRequested, *, timeout_ms: float | None = None) -> Route:
        """The same gateways for everybody."""
        self.asked.append(request)
        return Route(gateways=self.answers, decision=None, elapsed_ms=1.0)

    async def report(self, attempt: AttemptReported) -> None:
        """Keep it."""
        await asyncio.sleep(0)
        self.reports.append(attempt)


class FastClock:
    """The world's time from BEGAN on, much faster than life."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since epoch in the world."""
        return BEGAN + (time.monotonic() - self._began) * self.speed


async def paid(world: World, wire: Wire, orders: int, *, speed: float = 100_000) -> TrafficTally:
    """Let so many orders be paid over a wire, much faster than life."""
    tally = TrafficTally(time.time(), ABOUT)
    checkout = Checkout(
        world,
        wire,  # type: ignore[arg-type]
        tally,
        run_id="7.1",
        clock=FastClock(speed),
        route_timeout_ms=200,
    )
    rows = []
    while len(rows) < orders:
        rows += world.next_orders()
    await asyncio.gather(*(checkout.pay(order) for order in rows[:orders]))
    checkout.hurry()
    await checkout.flush(5)
    return tally


@EVENT_LOOP
async def test_a_checkout_reports_every_attempt_once_and_corrections_with_a_new_event() -> None:
    """Counts add up, ids start with their letters and hold no digits, duplicates repeat the report to the letter."""
    wire = Wire(answers=["zulu", "charlie"])
    tally = await paid(a_world([]), wire, 1_500)
    by_event: dict[str, set[bytes]] = {}
    for report in wire.reports:
        by_event.setdefault(report.event_id, set()).add(msgspec.json.encode(report))
    assert {1} == {len(reports) for reports in by_event.values()}
    assert tally.reports["made"] == tally.reports["confirmed"] == len(wire.reports)
    assert tally.reports["unconfirmed"] == 0
    attempts = {report.attempt_id for report in wire.reports}
    assert len(attempts) == tally.reports["attempts_confirmed"] == tally.gateways["charlie"].attempts == len(wire.asked)
    corrections = [report for report in wire.reports if report.event_id.endswith(".2")]
    assert tally.reports["corrections_confirmed"] == len(corrections) > 0
    assert tally.reports["duplicates_confirmed"] == len(wire.reports) - len(attempts) - len(corrections) > 0
    assert {"charlie"} == {report.gateway for report in wire.reports}
    for identifier in (*attempts, wire.reports[0].order_id, wire.reports[0].customer_id or ""):
        assert identifier.split("_")[1].isalpha()
    assert tally.orders["paid"] + tally.orders["given_up"] + tally.orders["awaiting"] == 1_500


@EVENT_LOOP
async def test_a_checkout_says_what_failed_before_and_asks_again() -> None:
    """The second request of an order carries the first failure; its attempts count up."""
    outage = Outage(starts_s=0, lasts_s=30_000_000, success=0.0)
    wire = Wire(answers=["bravo"])
    tally = await paid(a_world([outage]), wire, 300)
    again = [request for request in wire.asked if request.attempt_number > 1]
    assert again
    for request in again:
        assert request.attempt_number - 1 == len(request.previous_failures)
        assert all(failure.gateway == "bravo" and failure.failure_code for failure in request.previous_failures)
    assert tally.orders["paid"] == 0
    assert tally.truth.truth().oracle == 0.0


@EVENT_LOOP
async def test_reports_tell_only_what_a_checkout_could_know() -> None:
    """No pending report carries a reason, and no report's text holds the world's categories or causes."""
    wire = Wire(answers=list(facts.GATEWAYS))
    await paid(a_world([]), wire, 800)
    for report in wire.reports:
        assert (report.failure_code is not None) == (report.status == "failed")
        assert not {"category", "cause", "success"} & set(msgspec.to_builtins(report))


def test_the_demo_scenario_takes_bravo_down_to_four_per_cent() -> None:
    """The truth of the shipped story at second 100 of the traffic, and its calm before."""
    plan = IncidentPlan(load_scenario("demo").incidents, BEGAN)
    world = World(7, plan=plan, dialects=load_dialects(), rate=60)
    order = world.order(1, BEGAN)
    bravo = facts.GATEWAYS.index("bravo")
    assert world.success_probabilities(order, BEGAN + 100)[bravo] == 0.04
    assert world.success_probabilities(order, BEGAN + 30)[bravo] > 0.6
    assert world.success_probabilities(order, BEGAN + 400)[bravo] == 0.04
