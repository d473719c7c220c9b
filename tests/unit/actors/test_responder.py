"""The loop around the router advisor, without a broker: what it answers, lets go, and does not wait for."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import actors.responder
import actors.unstored_decisions
from actors.pulse import Pulse
from actors.responder import Answering, Responder
from config.settings import load_settings
from messaging.codec import encode
from messaging.consumer import Consumer, Delivery
from messaging.contracts import RouteRefused
from messaging.envelope import Envelope
from storage.errors import StoreUnavailable
from tests.conftest import eventually
from tests.unit.actors.test_router_advisor import advisor, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.enable_socket  # an event loop wakes itself through a socket pair


class Wire:
    """Stands for a channel: what was sent, and up to where was acknowledged."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.refused: list[RouteRefused] = []
        self.settled = 0

    def send(self, body: bytes, envelope: Envelope, **_: Any) -> None:
        """Keep the type of a message, and what was refused."""
        self.sent.append(envelope.type)
        if envelope.type == "route.refused":
            self.refused.append(msgspec.json.decode(body, type=RouteRefused))

    def acknowledge(self, tag: int, *, multiple: bool = False) -> None:
        """Keep the newest tag."""
        assert multiple
        self.settled = tag


@pytest.fixture(autouse=True)
def nothing_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store knows no decision, whenever it is asked; on a busy machine any request may be old by then."""

    async def none(*_: object) -> list[Any]:
        return []

    monkeypatch.setattr(actors.responder, "find_decisions", none)


def responder() -> Responder:
    """A responder with an advisor of its own, that hears nothing and has no store."""
    settings, pulse = load_settings().runner, Pulse("router_advisor", None)  # type: ignore[arg-type]
    return Responder(advisor(), None, None, settings, pulse)  # type: ignore[arg-type]


def delivered(number: int, *, waited_s: float = 0.0, made_s: float = 0.0, **changes: object) -> Delivery:
    """A request that has waited here so long, and was made so long ago by the checkout's clock."""
    made = datetime.now(UTC) - timedelta(seconds=made_s)
    asked = request(number, **{"requested_at": made, "deadline_ms": 2_000} | changes)
    envelope = Envelope(type="route.requested", message_id=asked.request_id, correlation_id=asked.request_id,
                        reply_to="answers", persistent=False)  # fmt: skip
    return Delivery(number, False, envelope, encode(asked), arrived=time.monotonic() - waited_s)


@asynccontextmanager
async def answering(worker: Responder, deliveries: list[Delivery]) -> AsyncIterator[Wire]:
    """A responder at work on these."""
    wire, asked = Wire(), Consumer("router_advisor")
    for delivery in deliveries:
        asked.put(delivery)
    answers = Answering.on(wire)  # type: ignore[arg-type]
    tasks = [asyncio.create_task(work) for work in (worker._answer(asked, answers), worker._answer_resent(answers))]

    async def taken() -> bool:
        return not asked._waiting

    try:
        await eventually(taken)
        await asyncio.sleep(0.05)
        yield wire
    finally:
        for task in tasks:
            task.cancel()


async def test_what_waited_past_its_deadline_is_let_go_and_the_rest_is_answered() -> None:
    """Nobody waits for it any more; it is acknowledged, and no decision of it is stored."""
    worker = responder()
    late = [delivered(number, waited_s=5.0) for number in range(1, 101)]
    async with answering(worker, [*late, delivered(101)]) as wire:
        assert wire.sent == ["route.advised"]
        assert wire.settled == 100
        assert [each.tag for each in worker._unstored.waiting()] == [101]


async def test_a_checkout_whose_clock_is_behind_is_answered() -> None:
    """How long a request waited is told by this process's own clock."""
    async with answering(responder(), [delivered(1, made_s=3_600.0)]) as wire:
        assert wire.sent == ["route.advised"]


async def test_a_store_that_is_away_is_not_asked_again_for_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look-up that fails is enough for a while; each takes half of the time that re-sent requests have left."""
    asked = 0

    async def away(*_: object) -> list[Any]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(30)
        return []

    monkeypatch.setattr(actors.responder, "find_decisions", away)
    requests = [delivered(number, made_s=0.12) for number in range(1, 101)]
    async with answering(responder(), requests) as wire:

        async def all_answered() -> bool:
            return len(wire.sent) == 100

        await eventually(all_answered)
        assert set(wire.sent) == {"route.advised"}
    assert asked == 1


async def test_no_other_request_waits_for_a_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store stands still, a request that nobody can have answered before is answered at once."""
    looking = asyncio.Event()

    async def stands_still(*_: object) -> list[Any]:
        looking.set()
        await asyncio.sleep(30)
        return []

    monkeypatch.setattr(actors.responder, "find_decisions", stands_still)
    worker = responder()
    async with answering(worker, [delivered(1, made_s=0.12), delivered(2)]) as wire:
        await looking.wait()
        assert wire.sent == ["route.advised"]
        assert [each.tag for each in worker._unstored.waiting()] == [2]


async def test_a_decision_that_the_store_takes_long_to_find_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy store has half of the deadline; a request beside it that nobody awaits any more takes nothing of that."""
    before = request(1, deadline_ms=2_000)
    other = advisor()
    made = msgspec.structs.replace(other.advise(before, datetime.now(UTC)), reason="made by another router")

    async def slow(*_: object) -> list[Any]:
        await asyncio.sleep(0.2)
        return [(before, made)]

    monkeypatch.setattr(actors.responder, "find_decisions", slow)
    worker = responder()
    late = delivered(2, made_s=0.12, waited_s=2.5)
    async with answering(worker, [delivered(1, made_s=0.12), late]) as wire:

        async def answered() -> bool:
            return bool(wire.sent)

        await eventually(answered)
        assert [each.advised.reason for each in worker._unstored.waiting()] == ["made by another router"]
        assert wire.settled == 0


async def test_a_store_that_stands_still_is_given_up_and_the_decisions_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen machine neither answers nor refuses; the decisions stay to be stored later."""

    async def frozen(*_: object) -> int:
        await asyncio.sleep(30)
        return 0

    monkeypatch.setattr(actors.unstored_decisions, "write_decisions", frozen)
    monkeypatch.setattr(actors.unstored_decisions, "STORE_S_MAX", 0.05)
    worker = responder()
    async with answering(worker, [delivered(1)]) as wire:
        with pytest.raises(StoreUnavailable, match="did not answer"):
            await worker._unstored.store_batch(10)
        assert len(worker._unstored.waiting()) == 1
        assert wire.settled == 0


@pytest.mark.parametrize("changes", [{"order_id": "ord_other"}, {"method": "upi"}])
async def test_an_id_of_another_request_is_refused_by_name_and_done(changes: dict[str, object]) -> None:
    """The checkout is told which request it is, and it is not delivered again."""
    again = msgspec.structs.replace(delivered(1, **changes), tag=2)
    worker = responder()
    async with answering(worker, [delivered(1), again]) as wire:
        assert wire.sent == ["route.advised", "route.refused"]
        assert [refused.request_id for refused in wire.refused] == ["req_1"]
        assert "request_id" in worker._unstored._refused[0].reason


@pytest.mark.parametrize(
    ("found", "put", "named"),
    [
        (b'"currency":"INR"', b'"currency":"rupees"', "req_1"),
        (b'"request_id":"req_1"', b'"request_id":"a b"', None),
        (b'"order_id":"ord_1"', b'"order_id":"4111 1111 1111 1111"', None),
        (b'"request_id":"req_1"', b'"request_id":"4111 1111 1111 1111"', None),
        (b"}", b"", None),
    ],
    ids=["a wrong field", "a wrong id", "card data", "card data for an id", "no JSON"],
)
async def test_a_refusal_names_its_request_where_that_can_be_read(found: bytes, put: bytes, named: str | None) -> None:
    """So whoever asked can tell which one it was; of card data nothing is repeated."""
    asked = delivered(1)
    broken = msgspec.structs.replace(asked, body=asked.body.replace(found, put))
    assert broken.body != asked.body
    async with answering(responder(), [broken]) as wire:
        assert [refused.request_id for refused in wire.refused] == [named]
        assert b"4111" not in encode(wire.refused[0])
