"""A checkout with plain pika and nothing of this project: ask for a route, pay, report what happened.

Run it while the system is up: ``IPA_AMQP_URL=amqp://… python examples/checkout_pika.py``
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from datetime import UTC, datetime

import pika
from pika.exceptions import AMQPError

DEADLINE_MS = 200
FALLBACK = ["alpha", "bravo"]  # only for when nobody answers in time
AGAIN_S = 1
BROKER_GONE = (AMQPError, OSError)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Broker:
    """A connection to RabbitMQ, for one thread. One that idles must call ``process_data_events`` for heartbeats."""

    def __init__(self, url: str) -> None:
        self._parameters = pika.URLParameters(url)
        self._connect()

    def _connect(self) -> None:
        """All that waits for the broker without a deadline; no payment waits for it."""
        self._connection = pika.BlockingConnection(self._parameters)
        self._asking, self._reporting = self._connection.channel(), self._connection.channel()
        self._reporting.confirm_delivery()  # basic_publish now returns when the broker has the message on disk
        self._answers: dict[str, bytes] = {}
        self._reply_to = self._asking.queue_declare("", exclusive=True).method.queue
        self._asking.basic_consume(self._reply_to, self._on_answer, auto_ack=True)

    def _on_answer(self, _channel, _method, properties: pika.BasicProperties, body: bytes) -> None:
        self._answers[properties.correlation_id] = body

    def ask(self, request: dict) -> dict | None:
        """Publish a request and wait for its answer; None when nobody answers in time, or the broker is gone."""
        end = time.monotonic() + DEADLINE_MS / 1000
        asked = request["request_id"]
        properties = pika.BasicProperties(
            type="route.requested",
            content_type="application/json",
            message_id=asked,
            correlation_id=asked,
            reply_to=self._reply_to,
            expiration=str(DEADLINE_MS),
        )
        self._answers.clear()  # those that came too late
        try:
            self._asking.basic_publish("ipa", "route.requested", json.dumps(request), properties)
            while asked not in self._answers and (left := end - time.monotonic()) > 0:
                self._connection.process_data_events(time_limit=left)
        except BROKER_GONE as error:
            print("not asked:", repr(error), file=sys.stderr)
        if asked not in self._answers:
            return None
        answer = json.loads(self._answers.pop(asked))
        if answer["type"] == "route.refused":  # a mistake in the request, which says nothing about gateways: mend it
            print("request refused:", answer["reason"], file=sys.stderr)
            return None
        return answer

    def report(self, report: dict) -> None:
        """Return when the broker has the report; sent again, with the same id, until it has."""
        properties = pika.BasicProperties(
            type="attempt.reported", content_type="application/json", message_id=report["event_id"], delivery_mode=2
        )
        while True:
            try:
                if not self._reporting.is_open:
                    self.close()
                    self._connect()
                self._reporting.basic_publish("ipa", "attempt.reported", json.dumps(report), properties, mandatory=True)
                return
            except BROKER_GONE as error:
                print("report waits:", repr(error), file=sys.stderr)
                time.sleep(AGAIN_S)

    def close(self) -> None:
        """Close the connection, if it is still there."""
        if self._connection.is_open:
            self._connection.close()


def main() -> None:
    broker = Broker(os.environ["IPA_AMQP_URL"])
    order_id, began = f"ord_{uuid.uuid4().hex}", now()
    payment = {
        "order_id": order_id,
        "method": "upi",
        "issuer": "harbour_bank",
        "amount_minor": 49_900,
        "currency": "INR",
        "country": "IN",
    }
    request = payment | {
        "type": "route.requested",
        "request_id": f"req_{uuid.uuid4().hex}",
        "requested_at": began,
        "deadline_ms": DEADLINE_MS,
    }
    decision = broker.ask(request)
    if decision and not decision["ranking"]:  # no gateway may take this payment, also none of the fallback
        print("refused:", decision["reason"])
        broker.close()
        return
    gateway = decision["ranking"][0]["gateway"] if decision else FALLBACK[0]
    print("gateway", gateway, "answered" if decision else "fallback")

    # ... take the payment at the gateway here ...

    broker.report(
        payment
        | {
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
    )
    print("reported", order_id)
    broker.close()


if __name__ == "__main__":
    main()
