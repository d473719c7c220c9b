"""One checkout: asks for a route, takes the simulated payment, reports what happened, and lets the shopper react."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec
import structlog

from messaging.client import Route, RoutingClient
from messaging.contracts import AttemptReported, PreviousFailure, RouteRequested
from messaging.ending import end
from messaging.errors import MessagingError
from simulator.tally import TrafficTally
from simulator.world import facts
from simulator.world.fees import fee_minor
from simulator.world.orders import Order, bank_identification_number
from simulator.world.outcomes import Outcome
from simulator.world.world import World

REPORTS_OPEN_MAX: Final = 20_000
"""Reports waiting for the broker at most; beyond it shoppers wait, so memory stays bounded while the broker is away."""

LETTERS: Final = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
"""Ids are spelled in letters, so that none can ever look like a card number."""

CODES: Final = {name: place for place, name in enumerate(facts.GATEWAYS)}

log = structlog.get_logger(__name__)


class Clock(Protocol):
    """Tells the world's time."""

    speed: float

    def now(self) -> float:
        """The world's time, seconds since epoch."""


class Try(msgspec.Struct, frozen=True, gc=False):
    """One attempt under way: what every report of it repeats."""

    report: AttemptReported
    order: Order
    gateway: int
    sent_at: float


class Checkout:
    """Pays orders of the world through the system under test.

    Args:
        world: decides what happens.
        client: the way to the system under test.
        tally: counts.
        run_id: makes ids of different runs differ.
        clock: the world's time.
        route_timeout_ms: how long to wait for a route before falling back.
    """

    def __init__(
        self,
        world: World,
        client: RoutingClient,
        tally: TrafficTally,
        *,
        run_id: str,
        clock: Clock,
        route_timeout_ms: float,
    ) -> None:
        self._world = world
        self._client = client
        self._tally = tally
        self._key = hashlib.blake2b(run_id.encode(), digest_size=32).digest()
        self._clock = clock
        self._route_timeout_ms = route_timeout_ms
        self._hurried = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._reports_open = asyncio.Semaphore(REPORTS_OPEN_MAX)

    async def pay(self, order: Order) -> None:
        """See one order through: paid, given up, or waiting for an outcome that may never come."""
        failures: list[PreviousFailure] = []
        waited_ms = 0.0
        number = 0
        while not (number and self._hurried.is_set()):
            number += 1
            route = await self._route(order, number, failures)
            if route.refused:
                break
            chosen = next((name for name in route.gateways if name in CODES), facts.GATEWAYS[0])
            one, outcome = self._begin(order, CODES[chosen], number, route)
            await self._sleep(outcome.latency_ms / 1000)
            waited_ms += outcome.latency_ms + route.elapsed_ms
            await self._answered(one, outcome)
            if outcome.status == "succeeded":
                self._tally.orders["paid"] += 1
                return
            if outcome.status == "pending":
                self._tally.orders["awaiting"] += 1
                return
            failures.append(
                PreviousFailure(
                    gateway=chosen, failure_code=outcome.failure_code, failure_message=outcome.failure_message
                )
            )
            assert outcome.category is not None
            reaction = self._world.reaction(order, number, outcome.category, waited_ms)
            if reaction.choice == "give_up":
                break
            await self._sleep(reaction.after_s)
            if reaction.choice == "switch":
                order = self._world.switched(order, reaction.method, self._clock.now())
        self._tally.orders["given_up"] += 1

    def hurry(self) -> None:
        """Stop waiting for anything but the broker: the run is over."""
        self._hurried.set()

    async def flush(self, wait_s_max: float) -> None:
        """Wait until the broker has confirmed every report, at most so many seconds; count those it has not."""
        until = time.monotonic() + wait_s_max
        while self._background and (left := until - time.monotonic()) > 0:
            await asyncio.wait(set(self._background), timeout=left)
        await end(*self._background)
        self._tally.reports["unconfirmed"] = self._tally.reports["made"] - self._tally.reports["confirmed"]

    def _id(self, prefix: str, what: str) -> str:
        digest = hashlib.blake2b(what.encode(), key=self._key, digest_size=8).hexdigest()
        return f"{prefix}_{digest.translate(LETTERS)}"

    async def _route(self, order: Order, number: int, failures: list[PreviousFailure]) -> Route:
        """Ask the system under test; count how well it answered."""
        closed = self._world.plan.closed_gateways(self._clock.now())
        candidates = [name for place, name in enumerate(facts.GATEWAYS) if place not in closed] if closed else []
        request = RouteRequested(
            request_id=self._id("req", f"{order.index}/{number}"),
            order_id=self._id("ord", f"{order.index}"),
            method=facts.METHODS[order.method],
            amount_minor=order.amount_minor,
            currency=facts.CURRENCY,
            requested_at=datetime.now(UTC),
            deadline_ms=max(1, int(self._route_timeout_ms)),
            issuer=facts.ISSUER_NAMES[order.issuer],
            network=None if order.network == facts.NO_NETWORK else facts.NETWORKS[order.network],
            country=facts.COUNTRIES[order.country],
            bin=bank_identification_number(order.issuer, order.network),
            customer_id=_customer_id(order.customer),
            attempt_number=number,
            three_ds=order.three_ds if order.method == facts.CARD else None,
            candidates=candidates,
            previous_failures=list(failures),
        )
        self._tally.routes["asked"] += 1
        route = await self._client.route(request, timeout_ms=self._route_timeout_ms)
        if route.answered:
            self._tally.routes["answered"] += 1
            self._tally.routes["in_time"] += route.elapsed_ms <= self._route_timeout_ms
            self._tally.round_trip.add(route.elapsed_ms)
        else:
            self._tally.routes["fallback"] += 1
        return route

    def _begin(self, order: Order, gateway: int, number: int, route: Route) -> tuple[Try, Outcome]:
        """Send the payment to the gateway; the world decides at this moment what will come of it."""
        now = self._clock.now()
        outcome = self._world.attempt(order, gateway, number, now)
        sent_at = time.time()
        name = facts.GATEWAYS[gateway]
        self._tally.attempt_sent(name, sent_at)
        if number == 1:
            chances = self._world.success_probabilities(order, now)
            fee = fee_minor(order, gateway, succeeded=outcome.status_final == "succeeded")
            sums = [self._tally.truth] + ([self._tally.truth_in_incidents] if self._world.plan.active(now) else [])
            for one in sums:
                one.add(chances, gateway, order.amount_minor)
                one.add_result(outcome.status_final == "succeeded", fee)
        attempted_at = datetime.fromtimestamp(sent_at, UTC)
        attempt = f"{order.index}/{number}"
        report = AttemptReported(
            event_id=self._id("evt", attempt),
            attempt_id=self._id("att", attempt),
            order_id=self._id("ord", f"{order.index}"),
            gateway=name,
            method=facts.METHODS[order.method],
            status=outcome.status,
            amount_minor=order.amount_minor,
            currency=facts.CURRENCY,
            attempted_at=attempted_at,
            occurred_at=attempted_at,
            issuer=facts.ISSUER_NAMES[order.issuer],
            network=None if order.network == facts.NO_NETWORK else facts.NETWORKS[order.network],
            country=facts.COUNTRIES[order.country],
            bin=bank_identification_number(order.issuer, order.network),
            customer_id=_customer_id(order.customer),
            attempt_number=number,
            three_ds=order.three_ds if order.method == facts.CARD else None,
            latency_ms=outcome.latency_ms,
            failure_code=outcome.failure_code if outcome.status == "failed" else None,
            failure_message=outcome.failure_message if outcome.status == "failed" else None,
            decision_id=route.decision.decision_id if route.decision is not None else None,
        )
        return Try(report, order, gateway, sent_at), outcome

    async def _answered(self, one: Try, outcome: Outcome) -> None:
        """The gateway has answered: report it, and see to what comes later."""
        name = facts.GATEWAYS[one.gateway]
        totals = self._tally.gateways[name]
        setattr(totals, outcome.status, getattr(totals, outcome.status) + 1)
        if outcome.status_final == "succeeded":
            self._tally.attempt_succeeded(name, one.sent_at)
        report = msgspec.structs.replace(one.report, occurred_at=datetime.now(UTC))
        await self._send(report, "attempts_confirmed")
        if outcome.reported_twice:
            await self._send(report, "duplicates_confirmed")
        if outcome.settle_after_s is not None or outcome.reversed_after_s is not None:
            self._start(self._correct(one, outcome))

    async def _correct(self, one: Try, outcome: Outcome) -> None:
        """Report a late outcome or a reversal when its time has come."""
        await self._sleep(outcome.settle_after_s or outcome.reversed_after_s or 0.0)
        status = outcome.status_final if outcome.settle_after_s is not None else "reversed"
        assert status is not None
        failed = status == "failed"
        correction = msgspec.structs.replace(
            one.report,
            event_id=f"{one.report.event_id}.2",
            status=status,
            occurred_at=datetime.now(UTC),
            failure_code=outcome.failure_code if failed else None,
            failure_message=outcome.failure_message if failed else None,
        )
        await self._send(correction, "corrections_confirmed")

    async def _send(self, report: AttemptReported, counted: str) -> None:
        """Hand a report over; the shopper does not wait for the broker."""
        await self._reports_open.acquire()
        self._tally.reports["made"] += 1
        self._start(self._report(report, counted))

    async def _report(self, report: AttemptReported, counted: str) -> None:
        try:
            await self._client.report(report)
            self._tally.reports["confirmed"] += 1
            self._tally.reports[counted] += 1
        except MessagingError as error:
            log.error("report_refused", event_id=report.event_id, reason=str(error))
        finally:
            self._reports_open.release()

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _sleep(self, world_s: float) -> None:
        """Wait in the world's time, or until the run is over."""
        if self._hurried.is_set():
            return
        try:
            async with asyncio.timeout(world_s / self._clock.speed):
                await self._hurried.wait()
        except TimeoutError:
            return


def _customer_id(customer: int) -> str:
    """A customer's id, the same in every run."""
    return f"cus_{hashlib.blake2b(str(customer).encode(), digest_size=8).hexdigest().translate(LETTERS)}"
