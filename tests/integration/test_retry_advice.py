"""Retry advice over RPC, on a real broker and a real store."""

from __future__ import annotations

from datetime import UTC, datetime

from config.settings import Settings
from messaging.codec import Decoder, encode
from messaging.connection import Connection
from messaging.contracts import Message, PreviousFailure, RetryAdvised, RetryRefused, RetryRequested
from messaging.envelope import Envelope
from messaging.topology import EXCHANGE
from storage.database import close, connect, declare
from tests.conftest import eventually
from tests.factories import report
from tests.integration.line import head_of_line, running, say


async def asked(connection: Connection, requests: list[RetryRequested]) -> dict[str, Message]:
    """Ask each request, and wait for all answers, by order."""
    channel = await connection.channel()
    reply_to = await channel.declare_reply_queue()
    replies = await channel.consume(reply_to, prefetch=100, no_ack=True)
    for request in requests:
        envelope = Envelope(
            type="retry.requested", correlation_id=request.order_id, reply_to=reply_to, expiration_ms=20_000
        )
        await channel.publish(encode(request), envelope, exchange=EXCHANGE, routing_key="retry.requested")
    decoder = Decoder([RetryAdvised, RetryRefused], from_outside=False)
    found: dict[str, Message] = {}
    while len(found) < len(requests):
        for delivery in await replies.take(100, 0):
            found[delivery.envelope.correlation_id or ""] = decoder.decode_body(delivery.body)
    return found


async def test_advice_rests_on_what_is_stored_and_on_what_is_told(settings: Settings) -> None:
    """A stored failure, one that is only told of, a paid order and an unknown one each get their answer."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    now = datetime.now(UTC)
    common = {"method": "card", "attempted_at": now, "occurred_at": now, "status": "failed"}
    reports = [
        report(1, failure_code="91", **common),
        report(2, failure_code="51", **common),
        report(3, failure_code="43", **common),
        report(4, failure_code="91", **common),
        report(5, order_id="ord_4", gateway="bravo", **(common | {"status": "succeeded"})),
    ]
    workers = running(settings, "ingestor", "failure_classifier", "retry_advisor")
    async with head_of_line(settings) as channel, workers:
        await say(channel, reports)

        async def classified() -> bool:
            return await database["failures"].count_documents({}) == 4

        await eventually(classified, within_s=60)
        connection = await Connection.open(settings.broker.url, name="checkout", wait_s_max=10)
        told = PreviousFailure(gateway="alpha", failure_code="55", failure_message="WRONG PIN")
        requests = [
            RetryRequested(request_id=f"rty_{n}", order_id=f"ord_{n}", requested_at=now, deadline_ms=2000)
            for n in (1, 2, 3, 4, 6)
        ]
        requests.append(
            RetryRequested(
                request_id="rty_7", order_id="ord_7", requested_at=now, deadline_ms=2000, failed=told, method="card"
            )
        )
        found = await asked(connection, requests)
        await connection.close()
    await close(database)

    told_of = {
        order: (answer.action, answer.rule) for order, answer in found.items() if isinstance(answer, RetryAdvised)
    }
    assert told_of == {
        "ord_1": ("now", "other_gateway"),
        "ord_2": ("later", "wait"),
        "ord_3": ("never", "never_category"),
        "ord_4": ("never", "paid"),
        "ord_7": ("ask_customer", "needs_shopper"),
    }
    first = found["ord_1"]
    assert isinstance(first, RetryAdvised)
    assert (first.category, first.evidence) == ("issuer_unavailable", "code_table")
    assert first.gateway not in (None, "alpha")
    refused = found["ord_6"]
    assert isinstance(refused, RetryRefused)
    assert "no failed attempt of this order is known" in refused.reason
