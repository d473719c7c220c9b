"""What a router hears and reads beside its answers, without a broker and a store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import actors.router_hearing
from actors.pulse import Pulse
from actors.router_hearing import RouterHearing
from messaging.codec import encode
from messaging.consumer import Consumer, Delivery
from messaging.contracts import GatewayPause, GatewayPaused, GatewayResumed
from messaging.envelope import Envelope
from storage.errors import StoreError, StoreRefused, StoreUnavailable
from tests.conftest import eventually
from tests.unit.actors.test_router_advisor import advisor, request

if TYPE_CHECKING:
    from actors.router_advisor import RouterAdvisor

pytestmark = pytest.mark.enable_socket  # an event loop wakes itself through a socket pair


class Store:
    """A store that is away for some starts, and then there."""

    def __init__(self, away: int, error: StoreError | None = None) -> None:
        self.away, self.error, self.starts = away, error or StoreUnavailable("MongoDB does not answer"), 0

    async def start(self) -> None:
        """Fails while the store is away."""
        self.starts += 1
        if self.starts <= self.away:
            raise self.error

    async def prepare(self) -> None:
        """There are no rules."""

    async def refresh(self) -> None:
        """Nothing changes."""


class Heard:
    """Stands for the channel of facts."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []

    def acknowledge(self, tag: int) -> None:
        """Keep the tag."""
        self.acknowledged.append(tag)


def hearing(store: Store) -> tuple[RouterHearing, RouterAdvisor]:
    """What hears for a router, and the router."""
    worker = advisor()
    return RouterHearing(worker, store, Pulse("router_advisor", None)), worker  # type: ignore[arg-type]


async def test_a_store_that_stands_still_at_the_start_holds_up_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The router begins without what it knows, and says so where people look."""
    monkeypatch.setattr(actors.router_hearing, "START_S_MAX", 0.05)
    worker = hearing(Store(0))[0]
    await asyncio.wait_for(worker.wait_for_the_past(asyncio.Event(), asyncio.Event()), 10)
    assert "without what the store knows" in (worker._pulse.beat.last_error or "")


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_store_that_is_not_as_it_must_be_ends_the_first_start_only(
    monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    """No replica set, or a wrong password: who starts the router is told; one that serves goes on serving."""
    monkeypatch.setattr(actors.router_hearing, "STORE_PAUSE_S", 0.01)
    store, tried = Store(1, StoreRefused("is no replica set")), asyncio.Event()
    learning = hearing(store)[0].learn(Consumer("replica"), Heard(), tried, is_first=is_first)  # type: ignore[arg-type]
    task = asyncio.create_task(learning)
    await asyncio.wait_for(tried.wait(), 10)
    if is_first:
        with pytest.raises(StoreRefused):
            await task
        return

    async def tried_again() -> bool:
        return store.starts == 2

    await eventually(tried_again)
    task.cancel()


async def test_what_is_said_while_the_store_is_away_is_heeded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause does not wait for the store; each fact is heard once, and the start is tried until it succeeds."""
    monkeypatch.setattr(actors.router_hearing, "STORE_PAUSE_S", 0.01)
    store, wire, learned = Store(10**9), Heard(), Consumer("replica")
    ears, worker = hearing(store)
    learning = ears.learn(learned, wire, asyncio.Event(), is_first=True)  # type: ignore[arg-type]
    task = asyncio.create_task(learning)

    async def failed_once() -> bool:
        return store.starts > 1

    await eventually(failed_once)
    pause = GatewayPause(pause_id="pau_1", gateway="alpha", kind="pause", starts_at=datetime.now(UTC), ends_at=None,
                         who="olga", reason="7")  # fmt: skip
    learned.put(Delivery(1, False, Envelope(type="gateway.paused"), encode(GatewayPaused(pause=pause))))

    async def heeded() -> bool:
        return {each.gateway for each in worker.advise(request(store.starts), datetime.now(UTC)).ranking} == {"bravo"}

    await eventually(heeded)
    store.away = 0

    async def is_up_to_date() -> bool:
        before = store.starts
        await asyncio.sleep(0.1)
        return store.starts == before

    await eventually(is_up_to_date)
    resumed = GatewayResumed(pause_id="pau_1", gateway="alpha", resumed_at=datetime.now(UTC), who="olga", reason="")
    learned.put(Delivery(2, False, Envelope(type="gateway.resumed"), encode(resumed)))

    async def back() -> bool:
        return wire.acknowledged == [1, 2]

    await eventually(back)
    assert not await heeded()
    task.cancel()


async def test_a_router_that_is_told_to_stop_waits_for_no_store() -> None:
    """It may be told so before the store has said anything."""
    worker, stopping = hearing(Store(0))[0], asyncio.Event()
    stopping.set()
    await asyncio.wait_for(worker.wait_for_the_past(asyncio.Event(), stopping), 2)
    assert worker._pulse.beat.last_error is None
