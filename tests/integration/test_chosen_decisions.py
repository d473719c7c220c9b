"""The router's work as a reader chose it, against the same figures counted in a plain way."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from storage.database import Database, Document
from storage.read_models import routing
from storage.read_models.chosen import ALL, Chosen
from storage.read_models.routing import DECISIONS_SHOWN, read_routing
from tests.integration.test_web import Web, database_of, operator, stranger  # noqa: F401  fixtures
from tests.web_documents import fill

CHOICES = (
    ALL,
    Chosen(gateway=("alpha", "bravo")),
    Chosen(method=("card",), issuer=("harbour_bank", "meadow_bank")),
    Chosen(gateway=("echo",), currency=("EUR",)),
    Chosen(issuer=("no_such_bank",)),
)


def fits(document: Document, gateway: str | None, chosen: Chosen) -> bool:
    """Whether a payment was chosen."""
    known: dict[str, Any] = document | {"gateway": gateway}
    return all(not names or known.get(name) in names for name, names in msgspec.structs.asdict(chosen).items())


@pytest.mark.parametrize("chosen", CHOICES, ids=lambda chosen: str(chosen.names) or "all")
async def test_the_routers_work_follows_the_choice(database: Database, chosen: Chosen) -> None:
    """Choices, deciders, spend, expectations, shares and the newest decisions are those of what is chosen."""
    now = datetime.now(UTC)
    await fill(database, now, attempts=500)
    found = await read_routing(database, now, chosen)
    attempts = [one async for one in database["attempts"].find({"attempted_at": {"$gte": found.since}})]
    mine = [one for one in attempts if fits(one, one["gateway"], chosen)]
    decided = [one async for one in database["decisions"].find()]
    first = {one["_id"]: one["advice"]["ranking"][0]["gateway"] for one in decided}
    kept = [one for one in decided if fits(one["request"], first[one["_id"]], chosen)]
    recent = [one for one in kept if one["decided_at"] >= found.since]

    assert found.decisions == len(recent)
    assert {one.gateway: one.decisions for one in found.choices} == Counter(first[one["_id"]] for one in recent)
    assert sum(one.decisions for one in found.deciders) == len(recent)
    assert {one.currency: one.decisions for one in found.spend} == Counter(one["request"]["currency"] for one in recent)
    assert {one.gateway: one.traffic.attempts for one in found.gateways} == Counter(one["gateway"] for one in mine)
    known = {name for name, gateway in first.items()}
    settled = [one for one in mine if one["status"] in ("succeeded", "failed", "reversed")]
    assert {one.gateway: one.observed.settled for one in found.expectations} == Counter(
        one["gateway"] for one in settled if one.get("decision_id") in known
    )
    assert len(found.latest) == min(DECISIONS_SHOWN, len(kept))
    assert {one.decision_id for one in found.latest} <= {one["_id"] for one in kept}


async def test_since_when_decisions_are_counted_is_said(
    operator: Web,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a busy router the newest decisions are counted, all figures over the same ones; page and answer say which."""
    now = datetime.now(UTC)
    database = database_of(operator)
    await fill(database, now, attempts=500)
    whole = await read_routing(database, now)
    assert whole.decisions_since == whole.since
    monkeypatch.setattr(routing, "DECISIONS_COUNTED_MAX", 60)
    answer = await (await operator.get("/api/v1/routing?method=card")).json()
    since = datetime.fromisoformat(answer["decisions_since"])
    newest = await database["decisions"].find().sort("decided_at", -1).limit(60).to_list()
    assert datetime.fromisoformat(answer["since"]) < since <= newest[-1]["decided_at"]
    kept = [one for one in newest if one["request"]["method"] == "card"]
    assert answer["decisions"] == len(kept) > 5
    for part in ("choices", "deciders", "spend"):
        assert sum(row["decisions"] for row in answer[part]) == len(kept), part
    assert {one["_id"] for one in answer["latest"]} <= {one["_id"] for one in kept}
    page = await (await operator.get("/routing?method=card")).text()
    assert page.count(since.isoformat(timespec="milliseconds").replace("+00:00", "")) >= 3
    nobody = await (await operator.get("/routing?issuer=no_such_bank")).text()
    assert "No such decision is among the newest" in nobody
    assert "No decision is stored yet" not in nobody
