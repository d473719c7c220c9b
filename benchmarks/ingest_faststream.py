"""The FastStream consumer: one handler with a model, one insert a message; the framework's own way.

(The framework reads the annotations of the handler when it is defined, so they stand at the top of a module.)
"""

import os
from datetime import datetime
from typing import Any

from faststream import FastStream
from faststream.rabbit import RabbitBroker, RabbitQueue
from pydantic import BaseModel
from pymongo import AsyncMongoClient

client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(os.environ["IPA_MONGO_URL"])
attempts = client[os.environ["IPA_STORE__DATABASE"]]["attempts"]
broker = RabbitBroker(os.environ["IPA_AMQP_URL"])
app = FastStream(broker)


class Report(BaseModel):
    """One attempt as a checkout reports it."""

    event_id: str
    attempt_id: str
    order_id: str
    gateway: str
    method: str
    status: str
    amount_minor: int
    currency: str
    attempted_at: datetime
    occurred_at: datetime
    issuer: str = "unknown"
    network: str | None = None
    country: str | None = None
    customer_id: str | None = None
    attempt_number: int = 1
    three_ds: bool | None = None
    latency_ms: float | None = None
    failure_code: str | None = None
    failure_message: str | None = None


@broker.subscriber(RabbitQueue("ingestor", declare=False))
async def store(report: Report) -> None:
    """Insert one report."""
    document = report.model_dump()
    document["_id"] = document.pop("attempt_id")
    await attempts.insert_one(document)
