"""No query of the pages, the interface or the live charts reads a whole collection that grows with the traffic."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

from storage.read_models.chosen import Chosen
from storage.read_models.live import LiveFigures
from tests.integration.test_web import Web, database_of, operator, stranger  # noqa: F401  fixtures
from tests.web_documents import STORY, fill
from web.routes import API, PAGES

SMALL: Final = frozenset(
    {"heartbeats", "users", "gateway_pauses", "allocations", "experiments", "models", "rejections"}
)
"""Collections with a bounded, small number of documents (workers, people, gateways, definitions, reasons)."""

MORE: Final = (
    "/payments?status=failed",
    "/payments?gateway=bravo&method=card&issuer=harbour_bank&currency=INR&amount_min=1&since=now-2h&until=now",
    "/payments?customer_id=cus_1",
    "/trends?range=1h&country=IN&amount=10-50&arm=routing-policy/control",
    "/trends?range=7d&country=IN&compare=0",
    "/?country=IN&amount=10-50&arm=routing-policy/control",
    "/failures?country=IN&amount=10-50",
    "/policies?policy=uniform&days=1",
    "/payments?q=" + STORY,
    "/payments/" + STORY,
    "/api/v1/trends?range=24h&country=IN&by=issuer&arm=routing-policy/adaptive",
    "/api/v1/payments?status=failed",
)


async def test_no_page_and_no_resource_scans_a_collection(operator: Web) -> None:  # noqa: F811
    """MongoDB's own profiler sees every query that the addresses make; none scans what grows."""
    database = database_of(operator)
    await fill(database, datetime.now(UTC))
    await database.command("profile", 2)
    for address in (*PAGES, *API, *MORE):
        if "dead-letters" in address:
            continue  # these ask the broker
        answer = await operator.get(address)
        assert answer.status == 200, (address, answer.status)
        await answer.read()
    live = LiveFigures(database, gateways=["alpha"], poll_ms=250, heartbeat_s=2, clock=time.time)
    narrow = live.of(Chosen(country=("IN",), amount=("200-1000",), arm=("routing-policy/control",)))
    await live.poll()
    await live.poll()
    await live.poll_narrow()
    assert narrow.snapshot.attempts.values.any()
    await database.command("profile", 0)
    seen: dict[str, int] = {}
    scans = []
    async for entry in database["system.profile"].find({"op": {"$in": ["query", "command", "getmore"]}}):
        collection = str(entry["ns"]).partition(".")[2]
        seen[collection] = seen.get(collection, 0) + 1
        if "COLLSCAN" in str(entry.get("planSummary", "")) and collection not in SMALL:
            scans.append((collection, str(entry.get("command", {}).get("filter") or entry.get("command"))[:300]))
    assert {"attempts", "attempt_rollups", "failures", "decisions", "anomalies"} <= seen.keys()
    assert not [scan for scan in scans if not scan[0].startswith("system.")], scans
