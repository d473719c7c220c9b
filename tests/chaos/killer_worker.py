"""A worker that dies of one message: for the test of what becomes of that message and of its neighbours."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from actors.pulse import Pulse
from actors.runner import Runner, Wiring
from actors.shelves import AttemptShelf
from config.settings import Settings, load_settings
from messaging.connection import Connection
from messaging.topology import stage_named
from storage.database import connect
from tests.chaos.test_killing_message import POISON, AttemptKeeper


async def main(settings: Settings) -> None:
    """Run an ingestor that kills itself when a batch holds the poison."""
    database = await connect(settings.store)
    keeper = AttemptKeeper()

    def handle(messages: list, now: object, known: dict, batch_id: str) -> object:  # type: ignore[type-arg]
        if any(message.order_id == POISON for message in messages):
            os.kill(os.getpid(), signal.SIGKILL)
        return keeper.ingestor.handle(messages, now, known, batch_id=batch_id)  # type: ignore[arg-type]

    async def start() -> None:
        return None

    wiring = Wiring(
        stage=stage_named("ingestor"),
        shelves=(AttemptShelf(database, slot=0),),
        handle=handle,  # type: ignore[arg-type]
        tick=lambda now: iter(()),
        start=start,
    )
    connection = await Connection.open(settings.broker.url, name="killer", wait_s_max=20)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await Runner(wiring, database, settings.runner, Pulse("ingestor", database)).run(connection, stopping)
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(load_settings()))
    sys.exit(0)
