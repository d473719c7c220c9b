"""Regret, what exploring cost and uplift, from decisions and attempts in a real store: reader, page and REST."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from messaging.contracts import RankedGateway, RecordedAttempt, RouteAdvised, RouteRequested
from ml.experiments.design import CONTROL, HOLDOUT
from storage.attempts import AttemptChange, AttemptState, ReportEntry, record_changes
from storage.database import Database
from storage.decisions import write_decisions
from storage.read_models.routing_hindsight import read_hindsight
from tests.conftest import eventually
from tests.integration.test_web import Web, database_of, operator, stranger  # noqa: F401  fixtures

RATES = {"alpha": 0.95, "bravo": 0.75}
SHARES = {"alpha": 0.8, "bravo": 0.2}
DECISIONS = 4_000
SLICE = 10
"""One order in so many is in the control slice, which always goes to bravo."""


async def fill(database: Database, now: datetime) -> dict[str, int]:
    """Decisions that put alpha first in four of five, and a control slice. Returns: what was made, by what it is."""
    stream, made = random.Random(5), {"pending": 0, "reversed": 0, "retried": 0, "explored": 0}
    decided, changes = [], []
    for number in range(DECISIONS):
        at = now - timedelta(seconds=DECISIONS - number)
        control = number % SLICE == 0
        first = "bravo" if control or stream.random() < SHARES["bravo"] else "alpha"
        order = sorted(RATES, key=lambda name: name != first)
        ranking = [
            RankedGateway(
                gateway=name, expected_success=0.9, success_low=0.8, success_high=1.0, reason="",
                propensity=float(name == "bravo") if control else SHARES[name],
            )
            for name in order
        ]  # fmt: skip
        asked = RouteRequested(
            request_id=f"req_{number}", order_id=f"ord_{number}", requested_at=at, method="card", amount_minor=5_000,
            currency="EUR" if number % 5 == 3 else "INR", issuer="harbour_bank",
        )  # fmt: skip
        told = RouteAdvised(
            decision_id=f"dec_{number}", request_id=asked.request_id, order_id=asked.order_id, advised_at=at,
            ranking=ranking, policy="best_fixed" if control else "adaptive", reason="", allocation_version="alloc_1",
            exploring=first == "bravo" and not control, **({"experiment": HOLDOUT, "arm": CONTROL} if control else {}),
        )  # fmt: skip
        decided.append((asked, told))
        made["explored"] += told.exploring
        status: Any = "succeeded" if stream.random() < RATES[first] else "failed"
        if number % 100 == 1:
            status = "pending"
            made["pending"] += 1
        elif number % 100 == 2:
            status = "reversed"
            made["reversed"] += 1
        changes.append(_attempt(asked, told, first, status, at, now))
        if status == "failed" and number % 3 == 0:
            made["retried"] += 1
            changes.append(_attempt(asked, told, "alpha", "succeeded", at, now, number=2))
    await write_decisions(database, decided)
    for start in range(0, len(changes), 500):
        await record_changes(database, changes[start : start + 500], [], now=now, slot=0)
    return made


def _attempt(
    asked: RouteRequested, told: RouteAdvised, gateway: str, status: Any, at: datetime, now: datetime, number: int = 1
) -> AttemptChange:
    attempt = RecordedAttempt(
        attempt_id=f"att_{asked.order_id}_{number}", order_id=asked.order_id, gateway=gateway, method="card",
        issuer=asked.issuer, status=status, amount_minor=asked.amount_minor, currency=asked.currency, attempted_at=at,
        occurred_at=at, attempt_number=number, decision_id=told.decision_id if number == 1 else None,
    )  # fmt: skip
    entry = ReportEntry(event_id=f"evt_{attempt.attempt_id}", status=status, occurred_at=at, received_at=now)
    return AttemptChange(before=None, after=AttemptState(attempt=attempt, history=(entry,), revision=1))


async def test_what_is_stored_is_told(database: Database) -> None:
    """Pending payments count neither way, reversed ones as lost, orders paid at the second attempt as paid."""
    now = datetime.now(UTC).replace(microsecond=0)
    made = await fill(database, now)
    told = await read_hindsight(database, now - timedelta(days=1), now, now)
    found = told.found
    assert (told.complete, told.seen_since) == (True, now - timedelta(seconds=DECISIONS))
    assert found.unknown == made["pending"]
    assert found.left_out == {"in the control slice": DECISIONS // SLICE}
    assert found.judged == DECISIONS * (SLICE - 1) // SLICE - made["pending"]
    regret = found.regret.total.payments
    assert regret is not None
    truth = made["explored"] * (RATES["alpha"] - RATES["bravo"])
    assert regret.low <= truth <= regret.high
    assert found.spend.total.payments is not None
    assert found.spend.total.payments.low <= truth <= found.spend.total.payments.high
    assert [each.currency for each in found.regret.by_currency] == ["EUR", "INR"]
    assert found.uplift.unknown == made["pending"]
    assert found.uplift.control.orders == DECISIONS // SLICE
    assert found.uplift.success is not None
    assert found.uplift.success.low > 0
    assert made["retried"] > 0
    attempts = database["attempts"]
    paid = {row["order_id"] async for row in attempts.find({"status": "succeeded"}, {"order_id": True})}
    assert found.uplift.routed.paid + found.uplift.control.paid == len(paid)

    few = await read_hindsight(database, now - timedelta(days=1), now, now, limit=1_000)
    assert (few.complete, few.seen_since) == (False, now - timedelta(seconds=1_000))
    none = await read_hindsight(database, now + timedelta(days=1), now + timedelta(days=2), now)
    assert (none.seen_since, none.found.judged) == (None, 0)


async def test_page_and_rest_say_the_same(operator: Web) -> None:  # noqa: F811
    """The page waits for nothing and shows the figures soon after; REST has the same, by range, and refuses others."""
    await fill(database_of(operator), datetime.now(UTC).replace(microsecond=0))
    assert "Being worked out from the decisions" in await (await operator.get("/routing")).text()
    answer = await operator.get("/api/v1/routing/regret", params={"range": "24h"})
    assert answer.status == 200, await answer.text()
    told = await answer.json()
    regret = told["found"]["regret"]["total"]["payments"]
    assert (
        await operator.get("/api/v1/routing/regret", headers={"If-None-Match": answer.headers["ETag"]})
    ).status == 304

    async def shown() -> str | None:
        page = await (await operator.get("/routing")).text()
        return page if f"{regret['estimate']:+.1f} payments" in page else None

    page = str(await eventually(shown, within_s=90, every_s=0.5))
    assert f"{100 * told['found']['uplift']['success']['estimate']:+.2f} points" in page
    assert "EUR" in page
    short = await (await operator.get("/api/v1/routing/regret", params={"range": "15m"})).json()
    assert short["found"]["judged"] < told["found"]["judged"]
    for wrong in ({"range": "1y"}, {"days": "1"}):
        refused = await operator.get("/api/v1/routing/regret", params=wrong)
        assert (refused.status, refused.content_type) == (400, "application/problem+json")


async def test_nothing_stored_is_no_figure(operator: Web) -> None:  # noqa: F811
    """On an empty store both say that there is not enough data, with the reason and without a number."""
    told = await (await operator.get("/api/v1/routing/regret")).json()
    assert told["found"]["regret"]["total"]["payments"] is None
    assert told["found"]["uplift"]["why_not"] == "no decisions yet"
    page = await (await operator.get("/routing")).text()
    assert page.count("not enough data yet") >= 3
    assert "payments</p>" not in page
    assert told["found"]["judged"] == 0
