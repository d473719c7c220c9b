"""The load: publishes reports with confirms, at a rate or as fast as the broker confirms, and says what it did.

``python -m benchmarks.generator URL FILE [RATE]``: FILE holds msgpack, a list of bodies. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from messaging.channel import Channel
from messaging.connection import Connection
from messaging.contracts import AttemptReported, type_of
from messaging.envelope import Envelope
from messaging.topology import EXCHANGE

IN_FLIGHT_MAX: Final = 2_000
"""Messages published and not yet confirmed."""

SLICE: Final = 100


async def publish_all(url: str, bodies: list[bytes], rate: float | None) -> dict[str, float]:
    """Publish every body once.

    Args:
        url: of the broker.
        bodies: reports as JSON; their place is their message id.
        rate: messages per second, open loop; None: as fast as they are confirmed.
    Returns: first and last moment (seconds since epoch), how many, and the worst lag behind the rate in seconds.
    """
    connection = await Connection.open(url, name="load", wait_s_max=10)
    channel = await connection.channel()
    kind = type_of(AttemptReported)
    began, lag = time.time(), 0.0
    for place in range(0, len(bodies), SLICE):
        if rate:
            due = began + place / rate
            lag = max(lag, time.time() - due)
            await asyncio.sleep(max(0.0, due - time.time()))
        for offset, body in enumerate(bodies[place : place + SLICE]):
            envelope = Envelope(type=kind, message_id=f"evt_{place + offset}")
            channel.send(body, envelope, exchange=EXCHANGE, routing_key=kind)
        await _confirmed(channel, IN_FLIGHT_MAX)
    await _confirmed(channel, 0)
    ended = time.time()
    await connection.close()
    return {"began": began, "ended": ended, "sent": len(bodies), "lag_s_max": lag}


async def _confirmed(channel: Channel, left_max: int) -> None:
    await asyncio.sleep(0)
    while channel.unconfirmed > left_max:  # noqa: ASYNC110 - the loop must turn for confirms to come in
        await asyncio.sleep(0.001)


def main() -> None:
    """Read the bodies, publish them, print what happened."""
    url, file = sys.argv[1:3]
    rate = float(sys.argv[3]) if len(sys.argv) > 3 else None
    bodies = msgspec.msgpack.decode(Path(file).read_bytes(), type=list[bytes])
    print(json.dumps(asyncio.run(publish_all(url, bodies, rate))))


if __name__ == "__main__":
    main()
