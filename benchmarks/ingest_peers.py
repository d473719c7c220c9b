"""Consumers to compare the ingestor with, each as its users would write it: ``python -m benchmarks.ingest_peers NAME``.

``floor``       bare pika: decodes and inserts batches of 500; no check, no sums, no outbox, no guard against twice.
``aio_pika``    aio-pika, batches of 500 or 20 ms, ``insert_many``.
``faststream``  FastStream with a pydantic model and one ``insert_one`` a message.

They read ``IPA_AMQP_URL``, ``IPA_MONGO_URL`` and ``IPA_STORE__DATABASE``, and take from the ingestor's queue.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any, Final

QUEUE: Final = "ingestor"
BATCH: Final = 500
WAIT_S: Final = 0.02


def floor() -> None:
    """The least that can be done with pika and PyMongo."""
    import msgspec
    import pika
    from pika.adapters.asyncio_connection import AsyncioConnection
    from pymongo import MongoClient

    collection = MongoClient(os.environ["IPA_MONGO_URL"])[os.environ["IPA_STORE__DATABASE"]]["attempts"]
    loop = asyncio.new_event_loop()
    taken: list[bytes] = []
    state: dict[str, Any] = {"tag": 0, "timer": None}

    def write(channel: Any) -> None:
        state["timer"] = None
        if not taken:
            return
        documents = [msgspec.json.decode(body) for body in taken]
        for document in documents:
            document["_id"] = document.pop("attempt_id")
        collection.insert_many(documents, ordered=False)
        taken.clear()
        channel.basic_ack(state["tag"], multiple=True)

    def on_message(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        taken.append(body)
        state["tag"] = method.delivery_tag
        if len(taken) >= BATCH:
            if state["timer"]:
                state["timer"].cancel()
            write(channel)
        elif state["timer"] is None:
            state["timer"] = loop.call_later(WAIT_S, write, channel)

    def on_channel(channel: Any) -> None:
        channel.basic_qos(prefetch_count=2 * BATCH, callback=lambda _: channel.basic_consume(QUEUE, on_message))

    asyncio.set_event_loop(loop)
    AsyncioConnection(
        pika.URLParameters(os.environ["IPA_AMQP_URL"]),
        on_open_callback=lambda connection: connection.channel(on_open_callback=on_channel),
        custom_ioloop=loop,
    )
    loop.run_forever()


async def aio_pika() -> None:
    """Batches over aio-pika, as its users write them."""
    import aio_pika as library
    from pymongo import AsyncMongoClient

    collection = AsyncMongoClient(os.environ["IPA_MONGO_URL"])[os.environ["IPA_STORE__DATABASE"]]["attempts"]
    connection = await library.connect_robust(os.environ["IPA_AMQP_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=2 * BATCH)
    queue = await channel.get_queue(QUEUE)
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    await queue.consume(arrived.put)
    while True:
        batch = [await arrived.get()]
        until = time.monotonic() + WAIT_S
        while len(batch) < BATCH:
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    batch.append(await arrived.get())
            except TimeoutError:
                break
        documents = []
        for message in batch:
            document = json.loads(message.body)
            document["_id"] = document.pop("attempt_id")
            documents.append(document)
        await collection.insert_many(documents, ordered=False)
        await batch[-1].ack(multiple=True)


def main() -> None:
    """Run one of them for ever."""
    name = sys.argv[1]
    if name == "floor":
        floor()
    elif name == "aio_pika":
        asyncio.run(aio_pika())
    else:
        from benchmarks.ingest_faststream import app

        asyncio.run(app.run())


if __name__ == "__main__":
    main()
