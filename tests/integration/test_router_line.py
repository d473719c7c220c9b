"""The router advisor on a real broker and a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import msgspec
import pytest

from actors.responder import RESENT_AFTER
from config.settings import Settings
from messaging.client import RoutingClient
from messaging.codec import encode
from messaging.connection import Connection
from messaging.contracts import PreviousFailure, RouteRequested, RoutingOverride
from messaging.envelope import Envelope, bytes_of, text_of
from messaging.errors import MessageMalformed
from messaging.topology import EXCHANGE
from storage.audit import audit_entry
from storage.database import Database
from storage.read_models.newest_attempts import read_newest_attempts
from storage.routing_overrides import record_override
from tests.conftest import eventually
from tests.factories import report, request
from tests.integration.line import head_of_line, opened, running, say
from tests.web_documents import fill


@asynccontextmanager
async def routed(settings: Settings, *stages: str) -> AsyncIterator[tuple[RoutingClient, Database]]:
    """A running router (and others), a client of it, and the store."""
    async with opened(settings) as database, running(settings, *stages):

        async def alive() -> bool:
            return await database["heartbeats"].count_documents({"stage": "router_advisor"}) > 0

        await eventually(alive, within_s=20)
        client = await RoutingClient.connect(settings.broker.url, fallback=["zulu"])
        try:
            yield client, database
        finally:
            await client.close()


def fresh(number: int = 1, **changed: object) -> RouteRequested:
    """A request of now."""
    return request(number, **{"requested_at": datetime.now(UTC)} | changed)


async def test_an_answer_is_ranked_explained_and_stored(settings: Settings) -> None:
    """Every eligible gateway is ranked with interval, propensity and reason; the rest are excluded with reasons."""
    async with routed(settings, "router_advisor") as (client, database):
        route = await client.route(fresh(), timeout_ms=1_000)
        assert route.decision is not None
        decision = route.decision
        assert {ranked.gateway for ranked in decision.ranking} == {"alpha", "bravo", "charlie", "delta", "echo"}
        assert abs(sum(ranked.propensity for ranked in decision.ranking) - 1) < 1e-6
        for ranked in decision.ranking:
            assert ranked.success_low <= ranked.expected_success <= ranked.success_high
            assert ranked.reason
        assert {excluded.gateway for excluded in decision.excluded} >= {"goldcard"}

        async def stored() -> object:
            return await database["decisions"].find_one({"_id": decision.decision_id})

        document = await eventually(stored)
        assert isinstance(document, dict)
        assert document["request"]["order_id"] == "ord_1"
        assert document["advice"]["ranking"][0]["gateway"] == route.gateways[0]


async def test_a_re_sent_request_gets_the_same_decision_even_from_another_replica(settings: Settings) -> None:
    """Asking again with the same request id never gives a second opinion."""
    async with routed(settings, "router_advisor", "router_advisor") as (client, database):
        requests = [fresh(number) for number in range(40)]
        first = [await client.route(item, timeout_ms=1_000) for item in requests]

        async def stored() -> bool:
            return await database["decisions"].count_documents({}) == 40

        await eventually(stored)
        await asyncio.sleep(RESENT_AFTER.total_seconds())  # sooner, no other replica looks
        for item, before in zip(requests, first, strict=True):
            again = await client.route(item, timeout_ms=1_000)
            assert again.decision == before.decision


async def test_an_id_asked_with_another_method_is_refused_also_by_a_router_that_reads_the_decision(
    settings: Settings,
) -> None:
    """What was asked is stored with its decision; the same request, sent again, gets the same decision there."""
    asked = fresh(issuer="kite_bank", country="IN", candidates=["alpha", "echo"])
    async with routed(settings, "router_advisor") as (client, database):
        before = await client.route(asked, timeout_ms=1_000)

        async def stored() -> bool:
            return await database["decisions"].count_documents({}) == 1

        await eventually(stored)
    async with routed(settings, "router_advisor") as (client, _):
        again = msgspec.structs.replace(asked, requested_at=datetime.now(UTC) - timedelta(seconds=1))
        with pytest.raises(MessageMalformed, match=r"another method before"):
            await client.route(msgspec.structs.replace(again, method="card"), timeout_ms=1_000)
        assert before.decision is not None
        assert (await client.route(again, timeout_ms=1_000)).decision == before.decision


async def test_a_request_that_cannot_be_read_is_refused_with_the_reason(settings: Settings) -> None:
    """The caller learns what to mend instead of waiting in vain."""
    async with routed(settings, "router_advisor") as (client, _):
        broken = msgspec.structs.replace(fresh(), currency="rupees")
        with pytest.raises(MessageMalformed, match=r"\$\.currency"):
            await client.route(broken, timeout_ms=1_000)


async def test_only_candidates_are_ranked(settings: Settings) -> None:
    """A checkout that names its candidates gets those, and a reason for each that cannot take the payment."""
    async with routed(settings, "router_advisor") as (client, _):
        route = await client.route(fresh(candidates=["echo", "goldcard"]), timeout_ms=1_000)
        assert route.decision is not None
        assert route.gateways == ["echo"]
        assert "goldcard" in {excluded.gateway for excluded in route.decision.excluded}


async def test_nobody_answers_and_the_fallback_comes_in_time(settings: Settings) -> None:
    """Without a router, the client returns its own list when the deadline is over."""
    client = await RoutingClient.connect(settings.broker.url, fallback=["zulu", "yankee"])
    route = await client.route(fresh(), timeout_ms=150)
    assert (route.gateways, route.answered) == (["zulu", "yankee"], False)
    assert 140 <= route.elapsed_ms < 1_000
    await client.close()


async def test_a_retry_that_nobody_answers_tries_what_has_not_failed_yet(settings: Settings) -> None:
    """Without a router, too, the gateway that has just failed comes last."""
    client = await RoutingClient.connect(settings.broker.url, fallback=["zulu", "yankee"])
    failed = PreviousFailure(gateway="zulu", failure_code="91")
    route = await client.route(fresh(attempt_number=2, previous_failures=[failed]), timeout_ms=50)
    assert (route.gateways, route.answered, route.refused) == (["yankee", "zulu"], False, False)
    await client.close()


async def test_a_payment_that_no_gateway_may_take_is_refused_and_not_sent_to_the_fallback(settings: Settings) -> None:
    """What the router rules out, the checkout's own list must not let in again."""
    async with routed(settings, "router_advisor") as (client, _):
        route = await client.route(fresh(currency="XYZ"), timeout_ms=1_000)
        assert (route.gateways, route.answered, route.refused) == ([], True, True)
        assert route.decision is not None
        assert route.decision.excluded


async def test_the_router_is_told_how_long_the_client_waits(settings: Settings) -> None:
    """It lets go what waits longer, so a client that waits longer than the request says must say so."""
    async with routed(settings, "router_advisor") as (client, database):
        route = await client.route(fresh(deadline_ms=1), timeout_ms=1_000)
        assert route.answered

        async def stored() -> bool:
            return await database["decisions"].find_one({"request.deadline_ms": 1_000}) is not None

        await eventually(stored)


async def test_two_who_wait_for_the_same_request_both_get_its_answer(settings: Settings) -> None:
    """A checkout that asks again before the first answer came, with the same id, loses neither."""
    async with routed(settings, "router_advisor") as (client, _):
        request = fresh()
        routes = await asyncio.gather(*(client.route(request, timeout_ms=1_000) for _ in range(3)))
        assert all(route.answered for route in routes)
        assert len({route.decision.decision_id for route in routes if route.decision}) == 1


async def test_the_router_learns_from_the_line_and_after_a_restart(settings: Settings) -> None:
    """What attempts taught is in the next answers, and still there in a router that starts later."""
    now = datetime.now(UTC)

    def lesson(number: int, gateway: str, status: str) -> object:
        times = {"attempted_at": now - timedelta(seconds=30), "occurred_at": now - timedelta(seconds=29)}
        return report(number, gateway=gateway, status=status, country="IN", **times)

    async with routed(settings, "ingestor", "router_advisor") as (client, database):
        async with head_of_line(settings) as channel:
            lessons = [lesson(n, "echo", "succeeded") for n in range(150)]
            for place, gateway in enumerate(("alpha", "bravo", "charlie", "delta")):
                lessons += [lesson(1_000 * (place + 1) + n, gateway, "failed") for n in range(150)]
            await say(channel, lessons)  # type: ignore[arg-type]

        async def learnt() -> bool:
            if await database["attempts"].count_documents({}) < 750:
                return False
            await asyncio.sleep(0.2)
            route = await client.route(fresh(int(datetime.now(UTC).timestamp() * 1e6)), timeout_ms=1_000)
            ranked = {item.gateway: item.expected_success for item in route.decision.ranking} if route.decision else {}
            return bool(ranked) and ranked["echo"] > 0.85 and ranked["alpha"] < 0.2

        await eventually(learnt, within_s=20)
    async with routed(settings, "router_advisor") as (client, _):
        route = await client.route(fresh(7_000_000), timeout_ms=1_000)
        assert route.decision is not None
        ranked = {item.gateway: item.expected_success for item in route.decision.ranking}
        assert ranked["echo"] > 0.85
        assert ranked["alpha"] < 0.2


async def test_the_router_follows_its_rules_file_and_the_store_without_being_told(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed file is in force a little later, a mistake changes nothing, an override nobody told of holds."""
    monkeypatch.setattr("actors.router_hearing.REFRESH_S", 0.1)
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: to_echo, order: [echo, alpha]}\n")
    routing = msgspec.structs.replace(settings.routing, rules_path=str(rules))
    async with routed(msgspec.structs.replace(settings, routing=routing), "router_advisor") as (client, database):
        numbers = count(1)

        async def first() -> tuple[str, str | None]:
            route = await client.route(fresh(next(numbers)), timeout_ms=1_000)
            assert route.decision is not None
            return route.gateways[0], route.decision.rule

        assert await first() == ("echo", "to_echo")
        rules.write_text("rules:\n  - {name: to_delta, order: [delta]}\n")

        async def follows() -> bool:
            return await first() == ("delta", "to_delta")

        await eventually(follows)
        rules.write_text("rules:\n  - {name: to_nobody, order: [nobody]}\n")

        async def complains() -> bool:
            beat = await database["heartbeats"].find_one({"stage": "router_advisor"})
            return "nobody" in str(beat)

        await eventually(complains, within_s=20)
        assert await first() == ("delta", "to_delta")
        order = RoutingOverride(
            override_id="ovr_1", order=["bravo"], starts_at=datetime.now(UTC), ends_at=None, who="olga", reason="untold"
        )
        entry = audit_entry(datetime.now(UTC), who="olga", what="routing.overridden", subject="routing")
        await record_override(database, order, entry)

        async def overridden() -> bool:
            return (await first())[0] == "bravo"

        await eventually(overridden)


async def test_a_router_that_restarts_while_its_rules_have_a_mistake_keeps_the_last_good_ones(
    settings: Settings, tmp_path: Path
) -> None:
    """A typing error in a file must not stop the routing, nor make it forget who may take a payment."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: to_echo, order: [echo]}\n")
    changed = msgspec.structs.replace(
        settings, routing=msgspec.structs.replace(settings.routing, rules_path=str(rules))
    )
    async with routed(changed, "router_advisor") as (client, _):
        assert (await client.route(fresh(1), timeout_ms=1_000)).gateways[0] == "echo"
    rules.write_text("rules:\n  - {name: 2026-13-45, order: [echo]}\n")
    async with routed(changed, "router_advisor") as (client, _):
        assert (await client.route(fresh(2), timeout_ms=1_000)).gateways[0] == "echo"


async def test_an_answer_repeats_a_correlation_id_of_raw_bytes(settings: Settings) -> None:
    """Sixteen raw bytes are a common identifier; the checkout gets them back as they were, and the router lives on."""
    raw = bytes([0xA1, 0xFF, 0x00, 0x80] * 4)
    async with routed(settings, "router_advisor") as (client, _):
        connection = await Connection.open(settings.broker.url, name="checkout", wait_s_max=10)
        channel = await connection.channel()
        answers = await channel.declare_reply_queue()
        consumer = await channel.consume(answers, prefetch=1, no_ack=True)
        envelope = Envelope(type="route.requested", correlation_id=text_of(raw), reply_to=answers)
        await channel.publish(encode(fresh()), envelope, exchange=EXCHANGE, routing_key="route.requested")
        (answer,) = await asyncio.wait_for(consumer.take(1, 0), 10)
        assert bytes_of(answer.envelope.correlation_id or "") == raw
        assert (await client.route(fresh(2), timeout_ms=1_000)).decision is not None
        await connection.close()


async def test_the_newest_attempts_come_oldest_first(settings: Settings) -> None:
    """As many as are wanted, in the order in which they were made."""
    async with opened(settings) as database:
        await fill(database, datetime.now(UTC))
        every = await read_newest_attempts(database, 100_000)
        assert len(every) == await database["attempts"].count_documents({})
        moments = [attempt.attempted_at for attempt in every]
        assert moments == sorted(moments)
        assert [each.attempted_at for each in await read_newest_attempts(database, 7)] == moments[-7:]
