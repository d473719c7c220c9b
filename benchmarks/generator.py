"""The load: publishes reports with confirms, at a rate or as fast as the broker confirms, and says what it did.

``python -m benchmarks.generator URL FILE [RATE]``: FILE holds msgpack, a list of bodies. The last line is JSON. The
frames are made before the clock starts, so that on a machine of few processors the load takes little from the
contestant and its servers.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pika
from pika import spec
from pika.adapters.asyncio_connection import AsyncioConnection

from messaging.contracts import AttemptReported, type_of
from messaging.envelope import Envelope
from messaging.frames import publication
from messaging.topology import EXCHANGE

IN_FLIGHT_MAX: Final = 2_000
"""Messages published and not yet confirmed."""

SLICE: Final = 100
CHANNEL: Final = 1
OPEN_S_MAX: Final = 30.0


class Publisher:
    """One connection with one channel that writes frames as they are, and counts confirms."""

    def __init__(self, url: str) -> None:
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done = 0  # everything up to this tag is confirmed
        self._beyond: set[int] = set()
        self._failed: str | None = None
        self.sent = 0
        self._connection = AsyncioConnection(
            pika.URLParameters(url),
            on_open_callback=lambda connection: connection.channel(CHANNEL, on_open_callback=self._on_channel),
            on_open_error_callback=lambda _, error: self._fail(f"no connection: {error}"),
            on_close_callback=lambda _, reason: self._fail(f"the connection ended: {reason}"),
        )

    async def opened(self) -> None:
        """Wait until frames can be sent."""
        await asyncio.wait_for(self._opened, OPEN_S_MAX)

    def send(self, frames: Sequence[bytes]) -> None:
        """Publish messages whose frames were made by ``frames_of``."""
        # pika has no public way to send frames that exist; to make them again costs four times the sending.
        self._connection._output_marshaled_frames([b"".join(frames)])  # one packet instead of one for each message
        self.sent += len(frames)

    async def confirmed(self, left_max: int) -> None:
        """Wait until at most so many messages are unconfirmed.

        Raises: RuntimeError: the broker refused one, or is gone.
        """
        await asyncio.sleep(0)
        while self.sent - self._done - len(self._beyond) > left_max:
            if self._failed is not None:
                raise RuntimeError(self._failed)
            await asyncio.sleep(0.001)  # the loop must turn for confirms to come in

    def _on_channel(self, channel: Any) -> None:
        channel.add_on_close_callback(lambda _, reason: self._fail(f"the channel ended: {reason}"))
        channel.confirm_delivery(self._on_confirmed, callback=lambda _: self._opened.set_result(None))

    def _on_confirmed(self, said: Any) -> None:
        tag = said.method.delivery_tag
        if isinstance(said.method, spec.Basic.Nack):
            self._fail("the broker refused a message: its queue is full")
        if said.method.multiple:
            self._done = max(self._done, tag)
            self._beyond = {later for later in self._beyond if later > self._done}
        else:
            self._beyond.add(tag)
        while self._done + 1 in self._beyond:
            self._done += 1
            self._beyond.discard(self._done)

    def _fail(self, reason: str) -> None:
        self._failed = self._failed or reason
        if not self._opened.done():
            self._opened.set_exception(RuntimeError(reason))


def frames_of(body: bytes, place: int) -> bytes:
    """A report as it goes over the wire; its place is its message id."""
    kind = type_of(AttemptReported)
    envelope = Envelope(type=kind, message_id=f"evt_{place}")
    return publication(body, envelope, channel=CHANNEL, exchange=EXCHANGE, routing_key=kind,
                       mandatory=False, piece_max=len(body))  # fmt: skip


async def publish_all(url: str, bodies: list[bytes], rate: float | None) -> dict[str, float]:
    """Publish every body once.

    Args:
        url: of the broker.
        bodies: reports as JSON, each shorter than a frame (128 KB).
        rate: messages per second, open loop; None: as fast as they are confirmed.
    Returns: first and last moment (seconds since epoch), how many, and the worst lag behind the rate in seconds.
    """
    frames = [frames_of(body, place) for place, body in enumerate(bodies)]
    publisher = Publisher(url)
    await publisher.opened()
    began, lag = time.time(), 0.0
    for place in range(0, len(frames), SLICE):
        if rate:
            due = began + place / rate
            lag = max(lag, time.time() - due)
            await asyncio.sleep(max(0.0, due - time.time()))
        publisher.send(frames[place : place + SLICE])
        await publisher.confirmed(IN_FLIGHT_MAX)
    await publisher.confirmed(0)
    return {"began": began, "ended": time.time(), "sent": len(bodies), "lag_s_max": lag}


def main() -> None:
    """Read the bodies, publish them, print what happened."""
    url, file = sys.argv[1:3]
    rate = float(sys.argv[3]) if len(sys.argv) > 3 else None
    bodies = msgspec.msgpack.decode(Path(file).read_bytes(), type=list[bytes])
    print(json.dumps(asyncio.run(publish_all(url, bodies, rate))))


if __name__ == "__main__":
    main()
