"""The awaitable layer over pika, on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pika
import pytest

from config.settings import Settings
from messaging.connection import Connection
from messaging.consumer import Delivery
from messaging.envelope import Envelope
from messaging.errors import BrokerRefused, BrokerUnavailable, ConnectionLost, PublishRefused, Unroutable
from messaging.line import Outgoing, declare_line, declare_queue, publish
from messaging.topology import Queue
from tests.conftest import eventually, management
from tests.factories import report


async def test_a_published_message_is_taken_with_its_envelope(connection: Connection) -> None:
    """What is published arrives, in order, with id, type and headers."""
    channel = await connection.channel()
    await channel.declare_queue(Queue("q", (), {}))
    for number in range(3):
        envelope = Envelope(type="t", message_id=f"m{number}", headers={"traceparent": "x"})
        await channel.publish(b"body %d" % number, envelope, exchange="", routing_key="q")
    consumer = await channel.consume("q", prefetch=10)
    taken = await consumer.take(10, 200)
    assert [(d.body, d.envelope.message_id, d.envelope.type) for d in taken] == [
        (b"body 0", "m0", "t"),
        (b"body 1", "m1", "t"),
        (b"body 2", "m2", "t"),
    ]
    assert taken[0].envelope.headers == {"traceparent": "x"}


async def test_messages_of_all_sizes_come_whole_and_in_order(connection: Connection) -> None:
    """Without a body, within a packet, over many packets and over many frames, in turn."""
    publishing, consuming = await connection.channel(), await connection.channel()
    await consuming.declare_queue(Queue("q", (), {}))
    consumer = await consuming.consume("q", prefetch=200)
    bodies = [bytes([number]) * size for number in range(20) for size in (0, 1, 600, 70_000, 300_000)]
    for number, body in enumerate(bodies):
        publishing.publish(body, Envelope(message_id=f"m{number}"), exchange="", routing_key="q")
    taken: list[Delivery] = []
    while len(taken) < len(bodies):
        taken += await asyncio.wait_for(consumer.take(200, 0), 20)
    assert [delivery.body for delivery in taken] == bodies
    assert [delivery.envelope.message_id for delivery in taken] == [f"m{number}" for number in range(len(bodies))]
    assert [delivery.tag for delivery in taken] == list(range(1, len(bodies) + 1))


async def test_after_a_consumer_is_cancelled_nothing_is_lost(connection: Connection) -> None:
    """What it has not taken goes back to the queue, also what was on its way."""
    publishing, consuming = await connection.channel(), await connection.channel()
    await consuming.declare_queue(Queue("q", (), {}))
    consumer = await consuming.consume("q", prefetch=10)
    sent = [publishing.publish(b"%d" % number, Envelope(), exchange="", routing_key="q") for number in range(500)]
    taken = 0
    while taken < 50:
        batch = await consumer.take(10, 0)
        consuming.acknowledge(batch[-1].tag, multiple=True)
        taken += len(batch)
    await consuming.cancel(consumer)
    await asyncio.gather(*sent)
    try:
        held = len(await asyncio.wait_for(consumer.take(500, 0), 0.3))
    except TimeoutError:
        held = 0
    other = await (await connection.channel()).consume("q", prefetch=1_000)
    rest = 0
    while rest < 500 - taken - held:
        rest += len(await asyncio.wait_for(other.take(1_000, 50), 10))
    assert taken + held + rest == 500


async def test_what_was_said_before_the_end_arrives(connection: Connection, settings: Settings) -> None:
    """A connection that is closed at once still says what it was told to: messages and acknowledgements."""
    leaving = await Connection.open(settings.broker.url, name="leaving", wait_s_max=5)
    channel, staying = await leaving.channel(), await connection.channel()
    await staying.declare_queue(Queue("q", (), {}))
    for number in range(100):
        channel.publish(b"%d" % number, Envelope(), exchange="", routing_key="q")
    await leaving.close()
    again = await Connection.open(settings.broker.url, name="again", wait_s_max=5)
    taking = await again.channel()
    consumer = await taking.consume("q", prefetch=100)
    taken: list[Delivery] = []
    while len(taken) < 100:
        taken += await asyncio.wait_for(consumer.take(100, 50), 10)
    taking.acknowledge(taken[-1].tag, multiple=True)
    await again.close()
    assert await staying.count_ready("q") == 0


async def test_over_tls_messages_come_whole_and_in_order(connection: Connection, encrypted: str) -> None:
    """What is read and written past pika's frames is so behind TLS too, where a socket gives and takes in records."""
    safe = await Connection.open(encrypted, name="safe", wait_s_max=5)
    publishing, consuming = await safe.channel(), await safe.channel()
    await consuming.declare_queue(Queue("q", (), {}))
    consumer = await consuming.consume("q", prefetch=200)
    bodies = [bytes([number]) * size for number in range(20) for size in (0, 1, 600, 70_000, 300_000)]
    sent = [publishing.publish(body, Envelope(), exchange="", routing_key="q") for body in bodies]
    taken: list[Delivery] = []
    while len(taken) < len(bodies):
        taken += await asyncio.wait_for(consumer.take(200, 0), 20)
    assert [delivery.body for delivery in taken] == bodies
    await asyncio.gather(*sent)
    await safe.close()


@pytest.fixture
async def encrypted(settings: Settings, tmp_path: Path) -> AsyncIterator[str]:
    """The broker's address behind a TLS end of its own, as behind a load balancer."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = await asyncio.create_subprocess_exec(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        "-keyout", str(key), "-out", str(certificate), stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await made.wait() == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    broker = urlsplit(settings.broker.url)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while said := await reader.read(65_536):
                writer.write(said)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(broker.hostname, broker.port)
        await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        options = quote(repr({"ca_certs": str(certificate)}))
        yield f"amqps://{broker.username}:{broker.password}@localhost:{port}{broker.path}?ssl_options={options}"


async def test_a_batch_is_bounded_by_size_and_by_time(connection: Connection) -> None:
    """A batch ends when it is full, or when its first message has waited long enough."""
    channel = await connection.channel()
    await channel.declare_queue(Queue("q", (), {}))
    for _ in range(5):
        await channel.publish(b"x", Envelope(), exchange="", routing_key="q")
    consumer = await channel.consume("q", prefetch=10)
    assert len(await consumer.take(3, 5_000)) == 3
    assert len(await consumer.take(3, 100)) == 2


async def test_what_no_queue_hears_is_an_error(connection: Connection) -> None:
    """A mandatory message without a queue does not vanish."""
    channel = await connection.channel()
    with pytest.raises(Unroutable):
        await channel.publish(b"x", Envelope(message_id="m"), exchange="", routing_key="nobody")
    await channel.publish(b"x", Envelope(message_id="m"), exchange="", routing_key="nobody", mandatory=False)


async def test_a_full_queue_refuses(connection: Connection) -> None:
    """A publisher learns at once that a bounded queue is full."""
    channel = await connection.channel()
    await channel.declare_queue(Queue("q", (), {"x-max-length": 1, "x-overflow": "reject-publish"}))

    async def fill() -> bool:
        try:
            await channel.publish(b"x", Envelope(), exchange="", routing_key="q")
        except PublishRefused:
            return True
        return False

    await eventually(fill)


async def test_acknowledging_many_leaves_none(connection: Connection) -> None:
    """One multiple acknowledgement ends all earlier deliveries of its channel."""
    channel, counting = await connection.channel(), await connection.channel()
    await channel.declare_queue(Queue("q", (), {}))
    for _ in range(10):
        await channel.publish(b"x", Envelope(), exchange="", routing_key="q")
    taken = await (await channel.consume("q", prefetch=10)).take(10, 500)
    channel.acknowledge(taken[-1].tag, multiple=True)
    await channel.publish(b"x", Envelope(), exchange="", routing_key="q")  # round trip
    await connection.close()
    assert counting.failed


async def test_declaring_the_line_twice_changes_nothing(connection: Connection) -> None:
    """Every process declares the line at start."""
    channel = await connection.channel()
    await declare_line(channel)
    await declare_line(channel)
    await publish(channel, [Outgoing.of(report(), "evt_1")])
    assert await eventually(lambda: channel.count_ready("ingestor")) == 1


async def test_a_queue_declared_otherwise_is_a_refusal(connection: Connection) -> None:
    """A changed queue is said in words instead of a closed channel."""
    channel = await connection.channel()
    await channel.declare_queue(Queue("q", (), {}))
    with pytest.raises(BrokerRefused, match=r"PRECONDITION_FAILED.*rabbitmqctl delete_queue q --if-empty"):
        await declare_queue(channel, Queue("q", (), {"x-max-length": 5}))


async def test_everything_that_waits_ends_when_the_broker_cuts(connection: Connection, rabbitmq, amqp_url) -> None:
    """A cut connection ends waits with ConnectionLost, never with silence."""
    channel = await connection.channel()
    await channel.declare_queue(Queue("q", (), {}))
    consumer = await channel.consume("q", prefetch=1)
    waiting = asyncio.create_task(consumer.take(1, 0))
    await asyncio.sleep(0)
    vhost = amqp_url.rsplit("/", 1)[1]
    await asyncio.to_thread(management, rabbitmq, "DELETE", f"/api/vhosts/{vhost}")
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(waiting, 10)
    with pytest.raises(ConnectionLost):
        await channel.publish(b"x", Envelope(), exchange="", routing_key="q")
    await asyncio.to_thread(management, rabbitmq, "PUT", f"/api/vhosts/{vhost}", b"{}")


async def test_nobody_at_the_address_is_said_in_words() -> None:
    """An absent broker is named with its address, never with its password."""
    with pytest.raises(BrokerUnavailable, match=r"no RabbitMQ answers at 127\.0\.0\.1:1 .*IPA_AMQP_URL") as caught:
        await Connection.open("amqp://user:hunter2@127.0.0.1:1/", name="test", wait_s_max=0.5)
    assert "hunter2" not in str(caught.value)


async def test_a_wrong_password_is_a_refusal_at_once(rabbitmq) -> None:
    """Trying again would not help, so nobody waits."""
    url = f"amqp://{rabbitmq.user}:wrong@127.0.0.1:{rabbitmq.ports['amqp']}/"
    with pytest.raises(BrokerRefused, match="refuses this user, password or virtual host"):
        await asyncio.wait_for(Connection.open(url, name="test", wait_s_max=30), 15)


async def test_a_wrong_url_is_a_refusal() -> None:
    """Something that is no AMQP URL is said so."""
    with pytest.raises(BrokerRefused, match="IPA_AMQP_URL"):
        await Connection.open("amqp://host:notaport/", name="test", wait_s_max=1)


async def test_a_broker_that_goes_down_while_shaking_hands_refuses_nobody() -> None:
    """It is looked for again, like one that is not there."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        start = pika.spec.Connection.Start(
            version_major=0, version_minor=9, server_properties={}, mechanisms="PLAIN", locales="en_US"
        )
        writer.write(pika.frame.Method(0, start).marshal())
        await reader.read(10)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerUnavailable):
            await Connection.open(f"amqp://user:word@127.0.0.1:{port}/", name="test", wait_s_max=1)


async def test_a_channel_without_confirms_keeps_nothing_of_what_it_sent(connection: Connection) -> None:
    """The router answers for months on one such channel."""
    channel = await connection.channel(confirms=False)
    for number in range(100):
        channel.send(b"{}", Envelope(message_id=f"msg_{number}"), exchange="", routing_key="nobody")
    assert len(channel._waiting) == 0
