"""A Python checkout with the project's own client: ask for a route, pay, report what happened.

Run it while the system is up: ``IPA_AMQP_URL=amqp://… python examples/checkout_client.py``
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from datetime import UTC, datetime

from messaging.client import Route, RoutingClient
from messaging.contracts import AttemptReported, RouteRequested
from messaging.errors import MessageMalformed

FALLBACK = ["alpha", "bravo"]  # only for when nobody answers in time


async def ask(client: RoutingClient, request: RouteRequested) -> Route:
    """The route of a payment, also when the router cannot read the request."""
    try:
        return await client.route(request, timeout_ms=200)
    except MessageMalformed as error:  # a mistake in the request, which says nothing about gateways: mend it
        print("request refused:", error, file=sys.stderr)
        return Route(gateways=FALLBACK, decision=None, elapsed_ms=0)


async def main() -> None:
    client = await RoutingClient.connect(os.environ["IPA_AMQP_URL"], fallback=FALLBACK)
    order_id = f"ord_{uuid.uuid4().hex}"
    began = datetime.now(UTC)

    route = await ask(
        client,
        RouteRequested(
            request_id=f"req_{uuid.uuid4().hex}",
            order_id=order_id,
            method="upi",
            issuer="harbour_bank",
            amount_minor=49_900,
            currency="INR",
            country="IN",
            requested_at=began,
        ),
    )
    if route.refused and route.decision:  # no gateway may take this payment, also none of the fallback
        print("refused:", route.decision.reason)
        await client.close()
        return
    print("gateway", route.gateways[0], "answered" if route.answered else "fallback", f"{route.elapsed_ms:.1f} ms")

    # ... take the payment at route.gateways[0] here ...

    await client.report(
        AttemptReported(
            event_id=f"evt_{uuid.uuid4().hex}",
            attempt_id=f"att_{uuid.uuid4().hex}",
            order_id=order_id,
            gateway=route.gateways[0],
            method="upi",
            issuer="harbour_bank",
            status="succeeded",
            amount_minor=49_900,
            currency="INR",
            country="IN",
            attempted_at=began,
            occurred_at=datetime.now(UTC),
            latency_ms=812,
            decision_id=route.decision.decision_id if route.decision else None,
        )
    )
    print("reported", order_id)
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
