"""Stored decisions, each with what became of its payment, as off-policy evaluation needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from ml.routing.context import RoutingContext
from ml.routing.evaluation.logged import LoggedDecision
from storage.database import Database
from storage.errors import translated

BATCH: Final = 1_000
DECISIONS_MAX: Final = 300_000
"""Decisions read at most, the newest; about 0.5 kB of memory each."""

SETTLED: Final = {"succeeded": True, "failed": False, "reversed": False}
"""Statuses that say how a payment ended; a reversed one did not last."""


class DecisionLog(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions of a time, oldest first.

    Attributes:
        decisions: those on the first attempt of an order, each once.
        complete: False: there were more than could be read, and these are the newest.
        left_out: how many decisions are not among them, by the reason.
    """

    decisions: list[LoggedDecision]
    complete: bool
    left_out: dict[str, int]


async def read_decision_log(
    database: Database, since: datetime, until: datetime, *, limit: int = DECISIONS_MAX
) -> DecisionLog:
    """Read decisions and join each one with the attempt that it led to.

    That is the attempt of its order that names the decision and was made at the gateway put first; of several, the
    first. Its status counts as it stands now: late successes and reversals are in it. A decision is left out when it
    was not on a first attempt, ranked nothing, or was not followed (the checkout gave up, or used another gateway).
    One whose attempt is pending or abandoned stays, with an outcome that is not known.
    """
    left_out: Counter[str] = Counter()
    read: list[LoggedDecision] = []
    wanted = {"advice.ranking.gateway": True, "advice.ranking.propensity": True, "decided_at": True, "request": True}
    complete = True
    with translated():
        cursor = (
            database["decisions"]
            .find({"decided_at": {"$gte": since, "$lt": until}}, wanted)
            .sort("decided_at", -1)
            .limit(limit + 1)
            .batch_size(BATCH)
        )
        batch: list[dict[str, Any]] = []
        seen = 0
        async for document in cursor:
            seen += 1
            if seen > limit:
                complete = False
                break
            batch.append(document)
            if len(batch) == BATCH:
                read += await _joined(database, batch, left_out)
                batch = []
        read += await _joined(database, batch, left_out)
    read.reverse()
    return DecisionLog(decisions=read, complete=complete, left_out=dict(sorted(left_out.items())))


async def _joined(database: Database, batch: list[dict[str, Any]], left_out: Counter[str]) -> list[LoggedDecision]:
    judged = [document for document in batch if _is_first(document, left_out)]
    orders = list({document["request"]["order_id"] for document in judged})
    fields = {"decision_id": True, "gateway": True, "status": True, "attempt_number": True, "occurred_at": True,
              "attempted_at": True}  # fmt: skip
    attempts: dict[str, list[dict[str, Any]]] = {}
    if orders:
        async for attempt in database["attempts"].find({"order_id": {"$in": orders}}, fields):
            if attempt.get("decision_id") is not None:
                attempts.setdefault(attempt["decision_id"], []).append(attempt)
    found = (_logged(document, attempts.get(document["_id"], ()), left_out) for document in judged)
    return [logged for logged in found if logged is not None]


def _is_first(document: Mapping[str, Any], left_out: Counter[str]) -> bool:
    """Whether a decision is on a first attempt and ranked anything that it may be judged by."""
    ranking = document["advice"].get("ranking") or []
    if document["request"].get("attempt_number", 1) > 1 or document["request"].get("previous_failures"):
        left_out["on a later attempt"] += 1
        return False
    if not ranking or ranking[0]["propensity"] <= 0:
        left_out["no gateway ranked"] += 1
        return False
    return True


def _logged(
    document: Mapping[str, Any], attempts: Iterable[Mapping[str, Any]], left_out: Counter[str]
) -> LoggedDecision | None:
    ranking, request = document["advice"]["ranking"], document["request"]
    gateway = ranking[0]["gateway"]
    attempts = sorted(attempts, key=lambda each: (each["attempt_number"], each["attempted_at"], each["_id"]))
    there = next((attempt for attempt in attempts if attempt["gateway"] == gateway), None)
    if there is None:
        left_out["another gateway was used" if attempts else "no attempt followed"] += 1
        return None
    succeeded = SETTLED.get(there["status"])
    at = document["decided_at"].timestamp()
    return LoggedDecision(
        at=at,
        context=RoutingContext(
            method=request["method"],
            issuer=request.get("issuer", "unknown"),
            network=request.get("network"),
            country=request.get("country"),
            currency=request["currency"],
            amount_minor=request["amount_minor"],
            bin=request.get("bin"),
        ),
        eligible=tuple(ranked["gateway"] for ranked in ranking),
        propensities=tuple(ranked["propensity"] for ranked in ranking),
        gateway=gateway,
        succeeded=succeeded,
        known_at=None if succeeded is None else max(at, there["occurred_at"].timestamp()),
    )
