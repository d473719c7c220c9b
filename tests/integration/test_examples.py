"""The checkouts in examples/ do what the README says, in every language."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from config.settings import Settings
from messaging.channel import Channel
from messaging.codec import Decoder, encode
from messaging.contracts import Message, RouteAdvised, RouteRefused, RouteRequested, type_of
from messaging.envelope import Envelope
from tests.chaos.link import Link
from tests.conftest import eventually
from tests.integration.line import head_of_line, opened, running

EXAMPLES = Path(__file__).parents[2] / "examples"

SAID = ("gateway ", "refused: ", "reported ")
"""How the lines of a checkout begin."""

STALL_S = 4.0
"""How long a link lets nothing through: many times the 200 ms after which a checkout goes on."""


@pytest.fixture(scope="module")
def node_checkout(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The command of the checkout in Node.js, with amqplib installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        if os.environ.get("CI"):
            pytest.fail("CI needs node and npm for the Node.js example")
        pytest.skip("needs Node.js: apt-get install nodejs npm")
    directory = tmp_path_factory.mktemp("checkout") / "node"
    shutil.copytree(EXAMPLES / "node", directory, ignore=shutil.ignore_patterns("node_modules"))
    install = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(directory)]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=120, check=False)
    assert installed.returncode == 0, installed.stderr
    return node, str(directory / "checkout.js")


@pytest.fixture(params=["checkout_client.py", "checkout_pika.py", "checkout.js"])
def checkout(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The command of each checkout: with the client of this project, with plain pika, with Node.js and amqplib."""
    if request.param == "checkout.js":
        command: tuple[str, ...] = request.getfixturevalue("node_checkout")
        return command
    return sys.executable, str(EXAMPLES / request.param)


@asynccontextmanager
async def started(url: str, command: Sequence[str]) -> AsyncIterator[Process]:
    """A running checkout; what it prints comes line by line."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | {"IPA_AMQP_URL": url, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def printed(process: Process) -> list[str]:
    """Wait until a checkout ended well; return the lines it printed that were not read yet, without the log's."""
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return [line for line in output.decode().splitlines() if line.startswith(SAID)]


async def next_line(process: Process) -> str:
    """Wait for the next line that a checkout prints, without the log's."""
    assert process.stdout
    while line := (await process.stdout.readline()).decode():
        if line.startswith(SAID):
            return line
    raise AssertionError("the checkout ended")


async def run_checkout(settings: Settings, *command: str) -> list[str]:
    """Run one checkout; return the lines it printed."""
    async with started(settings.broker.url, command) as process:
        return await printed(process)


@asynccontextmanager
async def asked_instead_of_a_router(
    settings: Settings, hear: Callable[[RouteRequested], Message | None]
) -> AsyncIterator[Channel]:
    """Answer requests in place of a router, with what ``hear`` returns; the channel counts what waits in queues."""
    async with head_of_line(settings) as channel:
        requests = await channel.consume("router_advisor", prefetch=10, no_ack=True)
        decoder = Decoder([RouteRequested], from_outside=True)

        async def answer() -> None:
            while True:
                for delivery in await requests.take(10, 0):
                    request = decoder.decode(delivery)
                    assert isinstance(request, RouteRequested)
                    message = hear(request)
                    if message is None:
                        continue
                    envelope = Envelope(type=type_of(message), correlation_id=delivery.envelope.correlation_id)
                    reply_to = delivery.envelope.reply_to
                    assert reply_to
                    channel.send(encode(message), envelope, exchange="", routing_key=reply_to)

        answering = asyncio.create_task(answer())
        try:
            yield channel
        finally:
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering


async def assert_routed_and_reported(settings: Settings, *command: str) -> None:
    """The checkout gets an answer from the router; its attempt and the decision are stored, and belong together."""
    async with opened(settings) as database, running(settings, "ingestor", "router_advisor"):

        async def alive() -> bool:
            return await database["heartbeats"].count_documents({}) == 2

        await eventually(alive, within_s=20)
        asked, reported = await run_checkout(settings, *command)
        assert asked.split()[2] == "answered"
        order_id = reported.split()[1]

        async def stored() -> bool:
            attempt = await database["attempts"].find_one({"order_id": order_id})
            decision = await database["decisions"].find_one({"request.order_id": order_id})
            return bool(
                attempt
                and decision
                and attempt["decision_id"] == decision["_id"]
                and attempt["gateway"] == asked.split()[1] == decision["advice"]["ranking"][0]["gateway"]
            )

        await eventually(stored)


async def test_a_checkout_asks_and_reports(settings: Settings, checkout: tuple[str, ...]) -> None:
    """In every language."""
    await assert_routed_and_reported(settings, *checkout)


async def test_what_no_gateway_may_take_is_not_paid(settings: Settings, checkout: tuple[str, ...]) -> None:
    """An answer without a gateway is a refusal, not a missing answer: nothing is paid at the checkout's own list."""

    def refuse(request: RouteRequested) -> RouteAdvised:
        return RouteAdvised(
            decision_id="dec_1",
            request_id=request.request_id,
            order_id=request.order_id,
            advised_at=datetime.now(UTC),
            ranking=[],
            policy="adaptive",
            reason="no gateway may take this payment",
        )

    async with asked_instead_of_a_router(settings, refuse) as channel:
        assert await run_checkout(settings, *checkout) == ["refused: no gateway may take this payment"]
        assert await channel.count_ready("ingestor") == 0


async def test_a_request_that_cannot_be_read_is_paid_by_the_own_list(
    settings: Settings, checkout: tuple[str, ...]
) -> None:
    """The mistake is the request's, so it says nothing of gateways; the checkout tells it and goes on."""

    def refuse(request: RouteRequested) -> RouteRefused:
        return RouteRefused(reason="$.currency: expected three letters", request_id=request.request_id)

    async with (
        asked_instead_of_a_router(settings, refuse) as channel,
        started(settings.broker.url, checkout) as process,
    ):
        assert process.stderr
        told = process.stderr.readline()
        assert "$.currency" in (await asyncio.wait_for(told, 20)).decode()
        asked, _ = await printed(process)
        assert asked.split()[:3] == ["gateway", "alpha", "fallback"]
        assert await channel.count_ready("ingestor") == 1


@pytest.mark.parametrize("fault", ["silent", "cut"])
async def test_a_broker_that_goes_while_it_is_asked_delays_no_payment(
    settings: Settings, checkout: tuple[str, ...], fault: str
) -> None:
    """The payment is made by the own list at the deadline, whatever the connection does; the report comes later."""
    broker = urlsplit(settings.broker.url)
    assert broker.port
    async with Link(broker.port) as link:
        url = settings.broker.url.replace(f":{broker.port}/", f":{link.port}/")
        fallen = asyncio.Event()
        stalls: list[asyncio.Task[None]] = []

        def fall(_: RouteRequested) -> None:
            stalls.append(asyncio.create_task(link.stall(STALL_S)))
            if fault == "cut":
                link.cut()
            fallen.set()

        async with asked_instead_of_a_router(settings, fall) as channel, started(url, checkout) as process:
            await asyncio.wait_for(fallen.wait(), 20)
            asked = await asyncio.wait_for(next_line(process), STALL_S / 2)
            assert asked.split()[:3] == ["gateway", "alpha", "fallback"]
            assert not stalls[0].done()
            (reported,) = await printed(process)
            assert reported.startswith("reported ord_")
            assert await channel.count_ready("ingestor") == 1
        await asyncio.gather(*stalls)


async def test_without_a_router_a_checkout_falls_back(settings: Settings, checkout: tuple[str, ...]) -> None:
    """Nobody answers: the checkout goes on with its own list, and its report waits safely in the queue."""
    async with opened(settings) as database, head_of_line(settings):
        asked, reported = await run_checkout(settings, *checkout)
        assert asked.split()[:3] == ["gateway", "alpha", "fallback"]
        async with running(settings, "ingestor"):

            async def stored() -> bool:
                return await database["attempts"].find_one({"order_id": reported.split()[1]}) is not None

            await eventually(stored)
