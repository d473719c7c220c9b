"""Lets a routing policy live in the world, event by event, as fast as the processor allows.

The policy sees what a router would see, when it would see it: outcomes come after the latency, late ones when they
settle, reversals when they happen. It never sees the world's chances, and draws its own luck from its own stream.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from simulator.tally import Truth, TruthSums
from simulator.world import facts
from simulator.world.fees import fee_minor
from simulator.world.orders import Order
from simulator.world.outcomes import Outcome
from simulator.world.world import World

ORDERS_AHEAD: Final = 256


class Payment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a policy sees before it chooses. ``at`` is seconds since epoch in the world's time."""

    order: int
    number: int
    at: float
    method: str
    issuer: str
    network: str | None
    country: str
    amount_minor: int
    customer: int
    candidates: tuple[str, ...]
    gateways_failed: tuple[str, ...]


class Heard(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a policy hears of an attempt; a later report of the same payment corrects the earlier one.

    ``status`` is succeeded, failed, pending or reversed.
    """

    payment: Payment
    gateway: str
    status: str
    at: float
    latency_ms: float
    failure_code: str | None
    failure_message: str | None


class Policy(Protocol):
    """What is tried. It may keep state; it must not look at the world."""

    def choose(self, payment: Payment) -> str:
        """Name one of the payment's candidates."""

    def learn(self, heard: Heard) -> None:
        """Take note of what happened."""


class LoopResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a policy fared. ``truth`` counts first attempts; ``paid`` counts orders, whatever it took."""

    orders: int
    attempts: int
    paid: int
    given_up: int
    awaiting: int
    attempts_by_gateway: dict[str, int]
    truth: Truth
    truth_in_incidents: Truth


class ClosedLoop:
    """One policy in one world.

    Args:
        world: where it lives; use a world once.
        policy: what is tried.
    """

    def __init__(self, world: World, policy: Policy) -> None:
        self._world = world
        self._policy = policy
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._now = 0.0
        self._counts = {"attempts": 0, "paid": 0, "given_up": 0, "awaiting": 0}
        self._by_gateway = [0] * len(facts.GATEWAYS)
        self._truth = TruthSums()
        self._truth_in_incidents = TruthSums()

    def run(self, orders: int) -> LoopResult:
        """Let so many orders come, and everything that follows from them.

        Raises: ValueError: the policy names a gateway that is no candidate.
        """
        started = 0
        while started < orders:
            for order in self._world.next_orders(ORDERS_AHEAD)[: orders - started]:
                self._until(order.placed_at)
                self._now = order.placed_at
                self._attempt(order, 1, (), 0.0)
                started += 1
        self._until(float("inf"))
        return LoopResult(
            orders=started,
            **self._counts,
            attempts_by_gateway=dict(zip(facts.GATEWAYS, self._by_gateway, strict=True)),
            truth=self._truth.truth(),
            truth_in_incidents=self._truth_in_incidents.truth(),
        )

    def _at(self, when: float, what: Callable[..., None], *about: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (when, self._sequence, what, about))

    def _until(self, when: float) -> None:
        while self._events and self._events[0][0] <= when:
            self._now, _, what, about = heapq.heappop(self._events)
            what(*about)

    def _attempt(self, order: Order, number: int, failed: tuple[str, ...], waited_ms: float) -> None:
        closed = self._world.plan.closed_gateways(self._now)
        payment = Payment(
            order=order.index,
            number=number,
            at=self._now,
            method=facts.METHODS[order.method],
            issuer=facts.ISSUER_NAMES[order.issuer],
            network=None if order.network == facts.NO_NETWORK else facts.NETWORKS[order.network],
            country=facts.COUNTRIES[order.country],
            amount_minor=order.amount_minor,
            customer=order.customer,
            candidates=tuple(name for place, name in enumerate(facts.GATEWAYS) if place not in closed),
            gateways_failed=failed,
        )
        chosen = self._policy.choose(payment)
        if chosen not in payment.candidates:
            raise ValueError(f"the policy chose {chosen!r}; the candidates were {', '.join(payment.candidates)}")
        gateway = facts.GATEWAYS.index(chosen)
        outcome = self._world.attempt(order, gateway, number, self._now)
        self._counts["attempts"] += 1
        self._by_gateway[gateway] += 1
        if number == 1:
            self._count_truth(order, gateway, outcome)
        after_s = outcome.latency_ms / 1000
        self._at(self._now + after_s, self._answered, order, payment, chosen, outcome, waited_ms)

    def _count_truth(self, order: Order, gateway: int, outcome: Outcome) -> None:
        chances = self._world.success_probabilities(order, self._now)
        succeeded = outcome.status_final == "succeeded"
        sums = [self._truth, self._truth_in_incidents] if self._world.plan.active(self._now) else [self._truth]
        for one in sums:
            one.add(chances, gateway, order.amount_minor)
            one.add_result(succeeded, fee_minor(order, gateway, succeeded=succeeded))

    def _answered(self, order: Order, payment: Payment, gateway: str, outcome: Outcome, waited_ms: float) -> None:
        self._tell(payment, gateway, outcome, outcome.status)
        if outcome.settle_after_s is not None and outcome.status_final is not None:
            self._at(self._now + outcome.settle_after_s, self._tell, payment, gateway, outcome, outcome.status_final)
        if outcome.reversed_after_s is not None:
            self._at(self._now + outcome.reversed_after_s, self._tell, payment, gateway, outcome, "reversed")
        if outcome.status != "failed":
            self._counts["paid" if outcome.status == "succeeded" else "awaiting"] += 1
            return
        waited_ms += outcome.latency_ms
        assert outcome.category is not None
        reaction = self._world.reaction(order, payment.number, outcome.category, waited_ms)
        if reaction.choice == "give_up":
            self._counts["given_up"] += 1
            return
        failed = (*payment.gateways_failed, gateway)
        self._at(self._now + reaction.after_s, self._again, order, reaction, payment.number + 1, failed, waited_ms)

    def _again(self, order: Order, reaction: Any, number: int, failed: tuple[str, ...], waited_ms: float) -> None:
        if reaction.choice == "switch":
            order = self._world.switched(order, reaction.method, self._now)
        self._attempt(order, number, failed, waited_ms)

    def _tell(self, payment: Payment, gateway: str, outcome: Outcome, status: str) -> None:
        failed = status == "failed"
        heard = Heard(
            payment=payment,
            gateway=gateway,
            status=status,
            at=self._now,
            latency_ms=outcome.latency_ms,
            failure_code=outcome.failure_code if failed else None,
            failure_message=outcome.failure_message if failed else None,
        )
        self._policy.learn(heard)
