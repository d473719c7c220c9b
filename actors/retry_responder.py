"""The loop around the retry advisor: take → decode → read → answer → acknowledge. Nothing is kept of an advice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from actors.pulse import Pulse, utc_now
from actors.retry_advisor import RetryAdvisor
from config.gateways import Gateway
from config.settings import RunnerSettings
from messaging.channel import Channel
from messaging.codec import Decoder, encode, request_id_in
from messaging.connection import Connection
from messaging.consumer import Consumer, Delivery
from messaging.contracts import Message, RetryAdvised, RetryRefused, RetryRequested, type_of
from messaging.ending import end
from messaging.envelope import Envelope
from messaging.errors import CardDataRefused, ConnectionLost, MessageMalformed
from messaging.line import declare_line
from messaging.topology import stage_named
from ml.failures.codes import code_key
from storage.database import Database
from storage.errors import StoreError
from storage.failure_codes import find_code_rows
from storage.read_models.retry_facts import OrderKind, read_retry_facts

log = structlog.get_logger(__name__)

STAGE: Final = stage_named("retry_advisor")


class RetryResponder:
    """Answers retry requests until it is told to stop.

    Args:
        advisor: decides.
        gateways: those that exist, by name.
        database: the store.
        settings: heartbeat, and how many requests are answered at the same time.
        pulse: the worker's heartbeat.
    """

    def __init__(
        self,
        advisor: RetryAdvisor,
        gateways: Mapping[str, Gateway],
        database: Database,
        settings: RunnerSettings,
        pulse: Pulse,
    ) -> None:
        self._advisor = advisor
        self._gateways = gateways
        self._database = database
        self._settings = settings
        self._pulse = pulse
        self._decoder = Decoder([RetryRequested], from_outside=True)

    async def run(self, connection: Connection, stopping: asyncio.Event) -> None:
        """Answer until ``stopping`` is set.

        Raises: ConnectionLost: the broker is gone; run again on a new connection.
        """
        channel = await connection.channel(confirms=False)
        counting = await connection.channel(confirms=False)
        await declare_line(channel)
        at_once = self._settings.batches.of(STAGE.name).size_max
        asked = await channel.consume(STAGE.name, prefetch=at_once)
        log.info("started", stage=STAGE.name)
        tasks = [
            asyncio.create_task(self._answer(asked, channel, at_once)),
            asyncio.create_task(self._pulse.go_on(self._settings.heartbeat_s, lambda: _waiting(counting))),
            asyncio.create_task(stopping.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                await end(task)

    async def _answer(self, asked: Consumer, channel: Channel, at_once: int) -> None:
        while True:
            deliveries = await asked.take(at_once, 0)
            await asyncio.gather(*(self._answer_one(delivery, channel) for delivery in deliveries))
            self._pulse.count_batch(len(deliveries))

    async def _answer_one(self, delivery: Delivery, channel: Channel) -> None:
        answer = await self._advice(delivery)
        if answer is not None and delivery.envelope.reply_to:
            envelope = Envelope(type=type_of(answer), correlation_id=delivery.envelope.correlation_id, persistent=False)
            channel.send(encode(answer), envelope, exchange="", routing_key=delivery.envelope.reply_to)
        channel.acknowledge(delivery.tag)

    async def _advice(self, delivery: Delivery) -> Message | None:
        """The answer to one request; None where it cannot be given in time, and the checkout goes on by itself."""
        try:
            request = self._decoder.decode(delivery)
        except (MessageMalformed, CardDataRefused) as error:
            log.warning("rejected", stage=STAGE.name, reason=str(error))
            readable = isinstance(error, MessageMalformed)  # of card data nothing is repeated
            return RetryRefused(reason=str(error)[:500], request_id=request_id_in(delivery.body) if readable else None)
        assert isinstance(request, RetryRequested)
        try:
            async with asyncio.timeout(request.deadline_ms / 1000):
                return await self._advised(request)
        except (TimeoutError, StoreError) as error:
            log.warning("not_answered", stage=STAGE.name, reason=str(error) or type(error).__name__)
            self._pulse.note_error(f"a retry request was not answered: {error or type(error).__name__}")
            return None

    async def _advised(self, request: RetryRequested) -> RetryAdvised | RetryRefused:
        now = utc_now()
        told = OrderKind(
            method=request.method,
            currency=request.currency,
            country=request.country,
            network=request.network,
            customer_id=request.customer_id,
        )
        facts = await read_retry_facts(self._database, request.order_id, told, self._gateways, now)
        rows: dict[str, str] = {}
        if (failed := request.failed) is not None:
            key = code_key(failed.gateway, failed.failure_code, failed.failure_message)
            found = await find_code_rows(self._database, [key])
            rows = {key: row.category for key, row in found.items() if row.category is not None}
        return self._advisor.advise(request, facts, rows, now)


async def _waiting(channel: Channel) -> int | None:
    try:
        return await channel.count_ready(STAGE.name)
    except ConnectionLost:
        return None
