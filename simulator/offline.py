"""Makes attempts by the million, without a broker, a clock or a system under test: for training, tests and benchmarks.

What a system could see and what only the world knows come in two separate structs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulator.scenario import Scenario, load_dialects
from simulator.world import facts
from simulator.world.arrivals import Arrivals, happening
from simulator.world.draws import Floats, Words, policy_generator
from simulator.world.failures import CodeRow
from simulator.world.incidents import Maintenance
from simulator.world.orders import Flags, Ids, OrderBook, OrderColumns
from simulator.world.outcomes_many import FAILED, OutcomeColumns, OutcomesModel
from simulator.world.plan import IncidentPlan
from simulator.world.shoppers import ATTEMPTS_MAX, Shoppers
from simulator.world.success import SuccessModel
from simulator.world.truth import success_many

CHUNK: Final = 16_384
"""Orders worked on at a time: small enough for the processor's cache, large enough for numpy."""

BEGAN_AT: Final = 1_767_225_600.0
"""Where offline runs begin when nothing else is said: 1 January 2026, midnight UTC."""

ORDERS_EMPTY_MAX: Final = 10_000
"""Chunks without a single order before a scenario is called silent."""

T = TypeVar("T", bound=msgspec.Struct)


class PaymentColumns(msgspec.Struct, frozen=True):
    """What a policy may see of many orders before it chooses; arrays of shape (n,), names coded as in ``facts``."""

    at: Floats
    number: Ids
    customer: Words
    method: Ids
    issuer: Ids
    network: Ids
    country: Ids
    three_ds: Flags
    amount_minor: Ids
    device: Ids


class AttemptColumns(msgspec.Struct, frozen=True):
    """What a checkout could report of many attempts; arrays of shape (n,).

    ``status`` is what the gateway answered, ``status_last`` the last that was heard; places in
    ``outcomes_many.STATUSES``. ``code`` is a place in ``Offline.codes``, -1 for none. Times in seconds, NaN for never.
    """

    order: Words
    number: NDArray[np.int8]
    at: Floats
    customer: Words
    gateway: NDArray[np.int8]
    method: NDArray[np.int8]
    issuer: NDArray[np.int8]
    network: NDArray[np.int8]
    country: NDArray[np.int8]
    three_ds: Flags
    device: NDArray[np.int8]
    amount_minor: Ids
    status: NDArray[np.int8]
    status_last: NDArray[np.int8]
    latency_ms: Floats
    code: NDArray[np.int32]
    settle_after_s: Floats
    reversed_after_s: Floats
    reported_twice: Flags


class TruthColumns(msgspec.Struct, frozen=True):
    """What only the world knows of the same attempts.

    ``success``: chance by gateway with incidents, shape (n, gateways). The rest has shape (n,): ``category`` in
    ``failures.CATEGORIES`` (-1 none), ``cause`` in ``outcomes.CAUSES``, ``incident`` in the plan (-1 none).
    """

    success: Floats
    category: NDArray[np.int8]
    cause: NDArray[np.int8]
    incident: NDArray[np.int16]
    fraud: Flags


class Chunk(msgspec.Struct, frozen=True):
    """Some attempts, and apart from them the truth about them."""

    attempts: AttemptColumns
    truth: TruthColumns

    def __len__(self) -> int:
        return len(self.attempts.at)


Policy = Callable[[PaymentColumns], Ids]
"""Chooses a gateway for each payment: places in ``facts.GATEWAYS``, shape (n,)."""


def uniform_policy(seed: int) -> Policy:
    """Any gateway with equal chances, from a stream that shares nothing with the world."""
    generator = policy_generator(seed)
    return lambda payments: generator.integers(0, len(facts.GATEWAYS), size=len(payments.at))


def fixed_policy(gateway: str) -> Policy:
    """Always the same gateway. Raises: ValueError: there is no such gateway."""
    place = facts.GATEWAYS.index(gateway)
    return lambda payments: np.full(len(payments.at), place, dtype=np.int64)


class Offline:
    """The attempts of one seed under one scenario and one policy.

    Args:
        scenario: incidents and rhythm.
        seed: of the world.
        rate: mean orders per second of the world's time, > 0.
        began_at: seconds since epoch.
        policy: chooses the gateways; uniform when left out.
        retries: whether shoppers try again.
    Raises: ValueError: the rate or an incident does not fit.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int,
        rate: float = 50.0,
        began_at: float = BEGAN_AT,
        policy: Policy | None = None,
        retries: bool = True,
    ) -> None:
        self.plan = IncidentPlan(scenario.incidents, began_at)
        self._arrivals = Arrivals(seed, rate=rate, rhythm=scenario.rhythm, plan=self.plan)
        self._book = OrderBook(seed)
        self._success = SuccessModel()
        self._outcomes = OutcomesModel(seed, load_dialects())
        self._shoppers = Shoppers(seed)
        self._policy = policy or uniform_policy(seed)
        self._attempts_max = ATTEMPTS_MAX if retries else 1

    @property
    def codes(self) -> tuple[CodeRow, ...]:
        """What ``AttemptColumns.code`` points at."""
        return self._outcomes.codes

    def chunks(self) -> Iterator[Chunk]:
        """All attempts, without end, in the order in which their orders came.

        A chunk holds all attempts of its orders, first attempts first; a later attempt may come after the next chunk's
        first. Raises: ValueError: the scenario lets no order come.
        """
        empty = 0
        while empty < ORDERS_EMPTY_MAX:
            orders = self._arrivals.next_orders(CHUNK)
            empty = 0 if len(orders.index) else empty + 1
            if not empty:
                yield self._attempted(orders)
        raise ValueError("no order comes in this scenario; raise the factor of its changes of volume")

    def take(self, attempts: int) -> Chunk:
        """The first so many attempts (by order), sorted by time; all in memory, about 250 bytes each."""
        chunks, count = [], 0
        for chunk in self.chunks():
            chunks.append(chunk)
            count += len(chunk)
            if count >= attempts:
                break
        observed = _joined([chunk.attempts for chunk in chunks])
        truth = _joined([chunk.truth for chunk in chunks])
        kept = np.argsort(observed.at[:attempts], kind="stable")
        return Chunk(_rows(observed, kept), _rows(truth, kept))

    def _attempted(self, orders: OrderColumns) -> Chunk:
        now = orders.placed_at
        waited = np.zeros(len(now))
        observed, truths = [], []
        for number in range(1, self._attempts_max + 1):
            chances = self._success.chances(orders)
            gateway = self._open(self._policy(_visible(orders, number, now)), now)
            outcomes = self._outcomes.outcomes(orders, chances, gateway, number, now, self.plan)
            success = success_many(orders, chances, now, self.plan)
            observed.append(_observed(orders, number, now, gateway, outcomes))
            truths.append(TruthColumns(success, outcomes.category, outcomes.cause, outcomes.incident, orders.fraud))
            if number == self._attempts_max:
                break
            failed = np.flatnonzero(outcomes.status == FAILED)
            waited = waited[failed] + outcomes.latency_ms[failed]
            orders = orders.take(failed)
            reactions = self._shoppers.react_many(orders, number, outcomes.category[failed].astype(np.int64), waited)
            again = np.flatnonzero(reactions.again)
            if not len(again):
                break
            now = now[failed[again]] + outcomes.latency_ms[failed[again]] / 1000 + reactions.after_s[again]
            waited = waited[again]
            orders = self._switched(orders.take(again), reactions.method[again], reactions.switching[again], now)
        return Chunk(_joined(observed), _joined(truths))

    def _switched(self, orders: OrderColumns, method: Ids, switching: Flags, now: Floats) -> OrderColumns:
        switched = self._book.switched(orders, method, now)
        columns = zip(switched.all(), orders.all(), strict=True)
        return OrderColumns(*(np.where(switching, after, before) for after, before in columns))

    def _open(self, gateway: Ids, now: Floats) -> Ids:
        """Send nothing to a gateway under announced maintenance: the next one takes it."""
        closures = [one for one in self.plan.planned if isinstance(one.incident, Maintenance)]
        for _ in facts.GATEWAYS if closures else ():
            for one in closures:
                closed = happening(one, now - self.plan.began_at) & (gateway == one.gateway)
                gateway = np.where(closed, (gateway + 1) % len(facts.GATEWAYS), gateway)
        return gateway


def _visible(orders: OrderColumns, number: int, now: Floats) -> PaymentColumns:
    return PaymentColumns(
        at=now,
        number=np.full(len(now), number),
        customer=orders.customer,
        method=orders.method,
        issuer=orders.issuer,
        network=orders.network,
        country=orders.country,
        three_ds=orders.three_ds,
        amount_minor=orders.amount_minor,
        device=orders.device,
    )


def _observed(orders: OrderColumns, number: int, now: Floats, gateway: Ids, outcomes: OutcomeColumns) -> AttemptColumns:
    small = np.int8
    known = np.isfinite(outcomes.settle_after_s)
    return AttemptColumns(
        order=orders.index,
        number=np.full(len(now), number, dtype=small),
        at=now,
        customer=orders.customer,
        gateway=gateway.astype(small),
        method=orders.method.astype(small),
        issuer=orders.issuer.astype(small),
        network=orders.network.astype(small),
        country=orders.country.astype(small),
        three_ds=orders.three_ds,
        device=orders.device.astype(small),
        amount_minor=orders.amount_minor,
        status=outcomes.status,
        status_last=np.where(known, outcomes.status_final, outcomes.status),
        latency_ms=outcomes.latency_ms,
        code=outcomes.code,
        settle_after_s=outcomes.settle_after_s,
        reversed_after_s=outcomes.reversed_after_s,
        reported_twice=outcomes.reported_twice,
    )


def _columns(struct: msgspec.Struct) -> list[NDArray[Any]]:
    return [getattr(struct, name) for name in struct.__struct_fields__]


def _joined(parts: Sequence[T]) -> T:
    """Put columns end to end."""
    if len(parts) == 1:
        return parts[0]
    return type(parts[0])(*(np.concatenate(columns) for columns in zip(*map(_columns, parts), strict=True)))


def _rows(struct: T, rows: NDArray[np.intp]) -> T:
    return type(struct)(*(column[rows] for column in _columns(struct)))
