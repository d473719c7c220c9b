"""A checkout with plain pika and nothing of this project: ask for a route, pay, report what happened.

Run it while the system is up: ``IPA_AMQP_URL=amqp://… python examples/checkout_pika.py``
"""

from __future__ import annotations

import json
import os
import time
import uuid
from datetime import UTC, datetime

import pika

DEADLINE_MS = 200
FALLBACK = ["alpha", "bravo"]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def ask(connection: pika.BlockingConnection, channel, reply_to: str, request: dict) -> dict | None:
    """Publish a request and wait for its answer; None when nobody answers in time."""
    answers: list[dict] = []
    properties = pika.BasicProperties(
        type="route.requested",
        content_type="application/json",
        message_id=request["request_id"],
        correlation_id=request["request_id"],
        reply_to=reply_to,
        expiration=str(DEADLINE_MS),
    )

    def on_answer(_channel, _method, answered: pika.BasicProperties, body: bytes) -> None:
        if answered.correlation_id == request["request_id"]:  # an older answer may still come
            answers.append(json.loads(body))

    tag = channel.basic_consume(reply_to, on_answer, auto_ack=True)
    channel.basic_publish("ipa", "route.requested", json.dumps(request), properties)
    end = time.monotonic() + DEADLINE_MS / 1000
    while not answers and time.monotonic() < end:
        connection.process_data_events(time_limit=max(0.001, end - time.monotonic()))
    channel.basic_cancel(tag)
    return answers[0] if answers and answers[0]["type"] == "route.advised" else None


def main() -> None:
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["IPA_AMQP_URL"]))
    asking, reporting = connection.channel(), connection.channel()
    reporting.confirm_delivery()  # basic_publish now returns when the broker has the message on disk
    reply_to = asking.queue_declare("", exclusive=True).method.queue

    order_id, began = f"ord_{uuid.uuid4().hex}", now()
    payment = {
        "order_id": order_id,
        "method": "upi",
        "issuer": "harbour_bank",
        "amount_minor": 49_900,
        "currency": "INR",
        "country": "IN",
    }
    request = payment | {"type": "route.requested", "request_id": f"req_{uuid.uuid4().hex}", "requested_at": began}
    decision = ask(connection, asking, reply_to, request)
    gateway = decision["ranking"][0]["gateway"] if decision and decision["ranking"] else FALLBACK[0]
    print("gateway", gateway, "answered" if decision else "fallback")

    # ... take the payment at the gateway here ...

    report = payment | {
        "type": "attempt.reported",
        "event_id": f"evt_{uuid.uuid4().hex}",
        "attempt_id": f"att_{uuid.uuid4().hex}",
        "gateway": gateway,
        "status": "succeeded",
        "attempted_at": began,
        "occurred_at": now(),
        "latency_ms": 812,
        "decision_id": decision and decision["decision_id"],
    }
    properties = pika.BasicProperties(
        type="attempt.reported", content_type="application/json", message_id=report["event_id"], delivery_mode=2
    )
    reporting.basic_publish("ipa", "attempt.reported", json.dumps(report), properties, mandatory=True)
    print("reported", order_id)
    connection.close()


if __name__ == "__main__":
    main()
