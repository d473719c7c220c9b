"""Checkouts on the real system: orders of the simulated world that ask for routes and report what happened.

Open loop: orders come when the world says, however the system fares; an order that finds too many others open is shed
and counted. With ``speed`` above 1 the world runs faster than the wall: waits and incidents shrink, ``rate`` stays
orders per second on the wall, and messages carry the wall's time, as the system under test keeps its own clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog
from msgspec import Meta

from messaging.client import RoutingClient
from messaging.ending import end
from simulator.checkout import Checkout
from simulator.control import HOST, Control
from simulator.scenario import load_dialects, load_scenario
from simulator.tally import TrafficSummary, TrafficTally
from simulator.world import facts
from simulator.world.incidents import Incident
from simulator.world.plan import IncidentPlan, Label
from simulator.world.world import World

FINISH_S_MAX: Final = 5.0
"""How long open orders and unconfirmed reports may take after the end, seconds."""

SUMMARY_EVERY_S: Final = 1.0

ORDERS_AHEAD: Final = 64
"""Orders are worked out this many at a time."""

log = structlog.get_logger(__name__)


class TrafficOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What traffic to make.

    ``rate`` is orders per second on the wall; ``duration_s`` None means until stopped; ``summary`` is a file for the
    running account; ``open_orders_max`` bounds the orders under way. ``control_port`` opens the door
    of ``simulator.control`` on loopback (0: any free port); None leaves it shut.
    """

    url: str
    scenario: str = "demo"
    rate: Annotated[float, Meta(gt=0, le=100_000)] = 60.0
    speed: Annotated[float, Meta(gt=0, le=1_000)] = 1.0
    seed: int = 7
    duration_s: Annotated[float, Meta(gt=0)] | None = None
    summary: Path | None = None
    route_timeout_ms: Annotated[float, Meta(gt=0, le=2000)] = 200.0
    open_orders_max: Annotated[int, Meta(ge=1)] = 5_000
    connect_wait_s_max: Annotated[float, Meta(gt=0)] = 30.0
    control_port: Annotated[int, Meta(ge=0, le=65_535)] | None = None


class Traffic:
    """One run of live traffic. Made by ``run``; ``trigger`` lets something more happen while it runs."""

    def __init__(self, options: TrafficOptions, client: RoutingClient, started_at: float) -> None:
        scenario = load_scenario(options.scenario)
        self.plan = IncidentPlan(scenario.incidents, started_at)
        self._options = options
        self._world = World(
            options.seed,
            plan=self.plan,
            dialects=load_dialects(),
            rate=options.rate / options.speed,
            rhythm=scenario.rhythm,
            capacity_per_s=scenario.capacity_per_s,
        )
        run_id = f"{options.seed}.{int(started_at * 1000)}"
        about = {
            "scenario": options.scenario,
            "seed": options.seed,
            "rate": options.rate,
            "speed": options.speed,
            "run_id": run_id,
        }
        self.tally = TrafficTally(started_at, about)
        self._started_at = started_at
        self._checkout = Checkout(
            self._world,
            client,
            self.tally,
            run_id=run_id,
            clock=WorldClock(started_at, options.speed),
            route_timeout_ms=options.route_timeout_ms,
        )
        self._orders: set[asyncio.Task[None]] = set()

    def trigger(self, incident: Incident) -> str:
        """Let something happen from now on; its ``starts_s`` counts from now. Returns: how labels call it.

        Raises: ValueError: it does not fit this world.
        """
        elapsed = (time.time() - self._started_at) * self._options.speed
        return self.plan.add(msgspec.structs.replace(incident, starts_s=elapsed + incident.starts_s))

    async def run(self, stop: asyncio.Event) -> None:
        """Make traffic until ``stop`` is set or the duration is over, then finish what is open."""
        account = asyncio.create_task(self._keep_account())
        try:
            async with asyncio.timeout(self._options.duration_s):
                await _unless(stop, self._arrive())
        except TimeoutError:
            log.info("traffic_duration_over", duration_s=self._options.duration_s)
        finally:
            await end(account)
            await self._finish()

    async def _arrive(self) -> None:
        """Start every order when it is due."""
        while True:
            for order in self._world.next_orders(ORDERS_AHEAD):
                due = self._started_at + (order.placed_at - self._started_at) / self._options.speed
                if (wait := due - time.time()) > 0:
                    await asyncio.sleep(wait)
                elif self.tally.orders["due"] % 32 == 0:
                    await asyncio.sleep(0)  # behind time: let the open orders go on as well
                self.tally.orders["due"] += 1
                self.tally.arrival_lag.add(max(0.0, time.time() - due) * 1000)
                if len(self._orders) >= self._options.open_orders_max:
                    self.tally.orders["shed"] += 1
                    continue
                self.tally.orders["started"] += 1
                task = asyncio.create_task(self._checkout.pay(order))
                self._orders.add(task)
                task.add_done_callback(self._order_done)

    def _order_done(self, task: asyncio.Task[None]) -> None:
        self._orders.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("order_failed", error=repr(error))

    async def _finish(self) -> None:
        """Let shoppers and late outcomes finish without waiting for the clock, and confirm every report."""
        self._checkout.hurry()
        until = time.monotonic() + FINISH_S_MAX
        if self._orders:
            await asyncio.wait(self._orders, timeout=FINISH_S_MAX - 1)
        for task in self._orders:
            task.cancel()
        await self._checkout.flush(max(0.5, until - time.monotonic()))

    async def _keep_account(self) -> None:
        while True:
            self.account(final=False)
            await asyncio.sleep(SUMMARY_EVERY_S)

    def labels(self) -> list[Label]:
        """The truth about what has begun so far, by start, in the wall's time."""
        elapsed = (time.time() - self._started_at) * self._options.speed
        return self.plan.labels(self._started_at + elapsed, speed=self._options.speed)

    def account(self, *, final: bool) -> TrafficSummary:
        """The account so far; also written to the summary file."""
        summary = self.tally.summary(time.time(), self.labels(), final=final)
        if self._options.summary is not None:
            summary.write(self._options.summary)
        return summary


class WorldClock:
    """The world's time, which may run faster than the wall's.

    Args:
        started_at: when both clocks agreed, seconds since epoch.
        speed: the world's seconds in one second on the wall.
    """

    def __init__(self, started_at: float, speed: float) -> None:
        self.started_at = started_at
        self.speed = speed

    def now(self) -> float:
        """The world's time, seconds since epoch."""
        return self.started_at + (time.time() - self.started_at) * self.speed


async def run(
    options: TrafficOptions, *, stop: asyncio.Event, on_start: Callable[[Traffic], None] | None = None
) -> TrafficSummary:
    """Make traffic on the real system until stopped, and say what it was.

    Args:
        options: what traffic.
        stop: set it to end the run; open orders are then finished within five seconds.
        on_start: called with the running traffic once it is connected, for example to trigger incidents later.
    Returns: the final account, also written to ``options.summary``.
    Raises:
        ConfigError: the scenario does not fit.
        BrokerUnavailable, BrokerRefused: no connection.
        OSError: the control port is taken.
    """
    load_scenario(options.scenario)  # say what is wrong with it before connecting
    client = await RoutingClient.connect(
        options.url, fallback=facts.GATEWAYS, name="simulator", wait_s_max=options.connect_wait_s_max
    )
    try:
        traffic = Traffic(options, client, time.time())
        if on_start is not None:
            on_start(traffic)
        async with _door(traffic, options.control_port):
            await traffic.run(stop)
        return traffic.account(final=True)
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def _door(traffic: Traffic, port: int | None) -> AsyncIterator[None]:
    """Keep the control door open while traffic runs, if a port was given."""
    if port is None:
        yield
        return
    control = Control(traffic)
    log.info("traffic_control_open", url=f"http://{HOST}:{await control.open(port)}")
    try:
        yield
    finally:
        await control.close()


async def _unless(stop: asyncio.Event, work: Coroutine[object, object, None]) -> None:
    """Do work until it ends or ``stop`` is set."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for one in (task, stopped):
            one.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)
