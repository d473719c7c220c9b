"""Checkouts under chaos: orders with duplicates, reordered and late reports, and messages that nobody can take."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta

from messaging.channel import Channel
from messaging.client import RoutingClient
from messaging.codec import encode
from messaging.connection import Connection
from messaging.contracts import STATUS_FINALITY, AttemptReported, type_of
from messaging.envelope import Envelope
from messaging.errors import MessagingError
from messaging.topology import EXCHANGE
from tests.factories import report, request

POISON_SHARE = 0.02
CARD_SHARE = 0.01
CARD = "4111111111111111"
STORIES = {
    "paid": ["succeeded"],
    "failed": ["failed"],
    "slow": ["pending", "succeeded"],
    "late success": ["failed", "succeeded"],
    "reversed": ["succeeded", "reversed"],
    "three turns": ["pending", "failed", "succeeded"],
}


class Publisher:
    """Publishes bodies until the broker has confirmed them, over as many connections as it takes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._channel: Channel | None = None
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self.published = 0

    async def publish(self, body: bytes, message_id: str) -> None:
        """Publish one body; it may arrive more than once, under the same id."""
        kind = type_of(AttemptReported)
        while True:
            try:
                async with self._opening:
                    if self._channel is None or self._channel.failed is not None:
                        await self.close()
                        self._connection = await Connection.open(self._url, name="chaos", wait_s_max=60)
                        self._channel = await self._connection.channel()
                    channel = self._channel
                self.published += 1
                await channel.publish(
                    body, Envelope(type=kind, message_id=message_id), exchange=EXCHANGE, routing_key=kind
                )
                return
            except MessagingError:
                await asyncio.sleep(0.2)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()


class Load:
    """Sends orders, and remembers what was confirmed.

    Args:
        url: of the broker; without a link in between, so that only the system is in trouble.
        client: asks for routes.
        draw: decides everything.
    """

    def __init__(self, url: str, client: RoutingClient, draw: random.Random) -> None:
        self._publisher = Publisher(url)
        self._client = client
        self._draw = draw
        self.events: dict[str, set[str]] = {}
        self.last: dict[str, AttemptReported] = {}
        self.poison: set[str] = set()
        self.with_card = 0
        self.orders = 0

    @property
    def published(self) -> int:
        """Messages handed to the broker, repetitions included."""
        return self._publisher.published

    async def run(self, until: asyncio.Task[None], *, at_once: int, pause_s: float) -> None:
        """Send orders until a task is over; each of ``at_once`` shoppers rests ``pause_s`` after an order."""

        async def shopper() -> None:
            while not until.done():
                self.orders += 1
                await self._order(self.orders)
                await asyncio.sleep(pause_s)

        await asyncio.gather(*(shopper() for _ in range(at_once)))
        await self._publisher.close()

    async def _order(self, number: int) -> None:
        now = datetime.now(UTC)
        asked = request(number, request_id=f"req_{number}", order_id=f"ord_{number}", requested_at=now)
        route = await self._client.route(asked, timeout_ms=200)
        common = {
            "attempt_id": f"att_{number}",
            "order_id": f"ord_{number}",
            "gateway": route.gateways[0],
            "country": "IN",
            "attempted_at": now,
            "decision_id": route.decision.decision_id if route.decision else None,
        }
        statuses = STORIES[self._draw.choice(list(STORIES))]
        reports = [
            report(
                number,
                event_id=f"evt_{number}_{place}",
                status=status,
                occurred_at=now + timedelta(seconds=place),
                failure_code="51" if status == "failed" else None,
                **common,
            )
            for place, status in enumerate(statuses)
        ]
        self.last[f"att_{number}"] = max(reports, key=lambda one: (one.occurred_at, STATUS_FINALITY[one.status]))
        sent = [*reports, *self._draw.sample(reports, self._draw.choice([0, 0, 0, 1, len(reports)]))]
        if self._draw.random() < 0.3:
            self._draw.shuffle(sent)
        for item in sent:
            await self._publisher.publish(encode(item), item.event_id)
        self.events[f"att_{number}"] = {item.event_id for item in reports}
        if self._draw.random() < POISON_SHARE:
            await self._poison(number, reports[0])
        if self._draw.random() < CARD_SHARE:
            ids = {"event_id": f"evt_card_{number}", "attempt_id": f"att_card_{number}"}
            await self._publisher.publish(encode(report(number, failure_message=CARD, **ids)), ids["event_id"])
            self.with_card += 1

    async def _poison(self, number: int, good: AttemptReported) -> None:
        fields = json.loads(encode(good)) | {"event_id": f"evt_poison_{number}", "attempt_id": f"att_poison_{number}"}
        body = self._draw.choice(
            [
                lambda: json.dumps(fields)[:-9].encode(),
                lambda: json.dumps(fields | {"amount_minor": "12.50"}).encode(),
                lambda: json.dumps(fields | {"gateway": "zulu"}).encode(),
                lambda: json.dumps({name: value for name, value in fields.items() if name != "order_id"}).encode(),
                lambda: bytes([0xFF, number % 256, 0x7B]),
            ]
        )()
        await self._publisher.publish(body, f"evt_poison_{number}")
        self.poison.add(f"evt_poison_{number}")
