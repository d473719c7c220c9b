"""Reports as checkouts send them, by the thousand: what the benchmarks of the line publish."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from messaging.codec import encode
from messaging.contracts import AttemptReported
from simulator.export import attempts_table
from simulator.offline import Offline
from simulator.scenario import load_scenario

SAME: Final = (
    "gateway", "method", "issuer", "network", "country", "currency", "customer_id", "failure_code", "failure_message",
    "attempted_at",
)  # fmt: skip
"""What the simulator's table and a report call the same."""


def reports(count: int, *, seed: int, rate: float, prefix: str = "") -> Iterator[AttemptReported]:
    """Final reports of simulated attempts, in the order in which they began.

    Args:
        count: how many.
        seed: of the world.
        rate: orders per second of the world's time, so that the moments lie as densely as the load will.
        prefix: put before each number in an id, so that several runs can share a database; letters.
    """
    offline = Offline(load_scenario("calm"), seed=seed, rate=rate, began_at=time.time() - count / rate)
    # Shoppers who come back hours later are left out: they would lie in the future.
    table = attempts_table(offline.take(round(1.1 * count) + 1_000).attempts, offline.codes).head(count)
    for row in table.to_dict("records"):
        yield _report(row, prefix)


def bodies(count: int, *, seed: int, rate: float, prefix: str = "") -> list[bytes]:
    """The same as JSON, ready for the wire."""
    return [encode(report) for report in reports(count, seed=seed, rate=rate, prefix=prefix)]


def _report(row: dict[str, Any], prefix: str) -> AttemptReported:
    attempt_id = f"att_{prefix}{row['attempt_id'].removeprefix('att_')}"
    fields = {name: row[name] or None for name in SAME}
    fields |= {
        "event_id": f"evt_{attempt_id}",
        "attempt_id": attempt_id,
        "order_id": f"ord_{prefix}{row['order_id'].removeprefix('ord_')}",
        "status": "succeeded" if row["status_last"] == "reversed" else row["status_last"],
        "amount_minor": int(row["amount_minor"]),
        "attempt_number": int(row["attempt_number"]),
        "three_ds": bool(row["three_ds"]),
        "latency_ms": round(float(row["latency_ms"]), 1),
        "occurred_at": row["answered_at"],
    }
    return msgspec.convert(fields, AttemptReported)
