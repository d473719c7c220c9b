"""Checkouts that try out two routing policies on the real system, in a world whose truth is known exactly.

Every order asks for a route, is paid or not with the probability that the truth gives its gateway and method, and is
reported. An order that was not routed in time goes to the first gateway of the checkout's own list, without a decision;
one that no gateway may take is not paid.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from messaging.client import RoutingClient
from messaging.contracts import AttemptReported, RouteRequested

Truth = Mapping[tuple[str, str], float]
"""Probability that a payment succeeds, by (gateway, method)."""

ROUTE_MS = 1500
ISSUERS = ("harbour_bank", "meadow_bank", "lantern_bank")


class Seen(msgspec.Struct):
    """What the checkouts saw: orders, those that were routed in time, and when each arm last decided one."""

    orders: int = 0
    routed: int = 0
    last_decided: dict[tuple[str, str], datetime] = msgspec.field(default_factory=dict)
    by_arm: defaultdict[tuple[str, str], int] = msgspec.field(default_factory=lambda: defaultdict(int))


class Trial:
    """Runs orders against a system.

    Args:
        client: connected to the system's broker.
        truth: see there; every gateway of it may be advised.
        shares: of the methods among the orders, adding up to 1.
        generator: source of all randomness.
    """

    def __init__(
        self, client: RoutingClient, truth: Truth, shares: Mapping[str, float], generator: np.random.Generator
    ) -> None:
        self._client = client
        self._truth = truth
        self._methods = list(shares)
        self._shares = list(shares.values())
        self._generator = generator
        self.seen = Seen()

    async def run(
        self, orders_max: int, done: Callable[[], Awaitable[bool]], *, at_once: int = 64, look_every: int = 512
    ) -> None:
        """Run orders until ``done`` or ``orders_max``; so many at once, and ``done`` is asked after so many."""
        while self.seen.orders < orders_max:
            for _ in range(max(1, look_every // at_once)):
                await asyncio.gather(*(self._order(self.seen.orders + n) for n in range(at_once)))
                self.seen.orders += at_once
            if await done():
                return

    async def _order(self, number: int) -> None:
        method = self._methods[int(self._generator.choice(len(self._methods), p=self._shares))]
        issuer = ISSUERS[number % len(ISSUERS)]
        luck, latency_ms = float(self._generator.random()), float(self._generator.gamma(4.0, 100.0))
        payment: dict[str, Any] = {
            "order_id": f"ord_{number}",
            "method": method,
            "issuer": issuer,
            "country": "IN",
            "amount_minor": 10_000 + 1_000 * (number % 60),
            "currency": "INR",
        }
        asked = datetime.now(UTC)
        request = RouteRequested(request_id=f"req_{number}", requested_at=asked, deadline_ms=ROUTE_MS, **payment)
        route = await self._client.route(request)
        decision = route.decision
        if decision is not None:
            self.seen.routed += 1
            arm = (decision.experiment or "", decision.arm or "")
            self.seen.by_arm[arm] += 1
            self.seen.last_decided[arm] = asked
        if route.refused:
            return
        gateway = route.gateways[0]
        paid = luck < self._truth[gateway, method]
        attempt = AttemptReported(
            event_id=f"evt_{number}",
            attempt_id=f"att_{number}",
            gateway=gateway,
            status="succeeded" if paid else "failed",
            attempted_at=asked,
            occurred_at=asked + timedelta(milliseconds=latency_ms),
            latency_ms=latency_ms,
            decision_id=None if decision is None else decision.decision_id,
            **payment,
        )
        await self._client.report(attempt)


def gateways_yaml(gateways: Sequence[str], methods: Sequence[str]) -> str:
    """A gateways file in which every gateway takes every method in rupees."""
    listed = ", ".join(methods)
    rows = [f"  - {{name: {name}, title: {name}, methods: [{listed}], currencies: [INR]}}" for name in gateways]
    return "gateways:\n" + "\n".join(rows) + "\n"


def experiment_yaml(name: str, methods: Sequence[str], *, smallest_effect: float, orders_expected: int) -> str:
    """One experiment of a trial: gateway bravo first against gateway alpha first, for some methods; stops on harm."""
    return f"""\
  - name: {name}
    seed: trial-{name}
    methods: [{", ".join(methods)}]
    arms:
      - {{name: challenger, policy: fixed_order, weight: 0.5, parameters: {{order: [bravo]}}}}
      - {{name: control, policy: fixed_order, weight: 0.5, parameters: {{order: [alpha]}}}}
    smallest_effect: {smallest_effect}
    orders_expected: {orders_expected}
    min_days: 0
    maturity_minutes: 0.05
    on_harm: stop
"""
