"""Stored decisions, each with what became of its payment, as off-policy evaluation needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from ml.routing.context import OVERRIDE, RoutingContext
from ml.routing.evaluation.logged import LoggedDecision
from ml.routing.hindsight.report import NOT_ROUTED
from storage.database import Database
from storage.errors import translated

BATCH: Final = 1_000
DECISIONS_MAX: Final = 300_000
"""Decisions read at most, the newest; about 0.5 kB of memory each."""

SETTLED: Final = {"succeeded": True, "failed": False, "reversed": False}
"""Statuses that say how a payment ended; a reversed one did not last."""

NOT_THERE: Final = "another gateway was used"
NOBODY: Final = "no attempt followed"


class DecisionLog(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions of a time, oldest first.

    Attributes:
        decisions: those on the first attempt of an order, each once; also those of an operator's override, which teach
            and are not judged.
        complete: False: there were more than could be read, and these are the newest.
        left_out: how many decisions cannot be judged, by the reason.
    """

    decisions: list[LoggedDecision]
    complete: bool
    left_out: dict[str, int]


class LeftOut:
    """Counts decisions of which nothing is told, by the reason.

    Args:
        counted_from: earlier ones are not counted; None: all are.
    """

    def __init__(self, counted_from: datetime | None = None) -> None:
        self._counted_from = counted_from
        self._counts: Counter[str] = Counter()

    def count(self, document: Mapping[str, Any], why: str) -> None:
        """Count a stored decision."""
        if self._counted_from is None or document["decided_at"] >= self._counted_from:
            self._counts[why] += 1

    def told(self) -> dict[str, int]:
        """How many there were, by the reason."""
        return dict(sorted(self._counts.items()))


class Joined(NamedTuple):
    """A stored decision on a first attempt that ranked anything, and the attempts of its order, as they stand now."""

    document: Mapping[str, Any]
    attempts: Sequence[Mapping[str, Any]]

    def led_to(self) -> list[Mapping[str, Any]]:
        """The attempts that name the decision, in the order in which they were made."""
        mine = [each for each in self.attempts if each.get("decision_id") == self.document["_id"]]
        return sorted(mine, key=lambda each: (each["attempt_number"], each["attempted_at"], each["_id"]))

    def made_there(self) -> Mapping[str, Any] | None:
        """The first of these that was made at the gateway put first; None: there is none."""
        gateway = self.document["advice"]["ranking"][0]["gateway"]
        return next((attempt for attempt in self.led_to() if attempt["gateway"] == gateway), None)


async def read_decision_log(
    database: Database,
    since: datetime,
    until: datetime,
    *,
    counted_from: datetime | None = None,
    limit: int = DECISIONS_MAX,
) -> DecisionLog:
    """Read decisions and join each one with the attempt that it led to.

    That is the attempt of its order that names the decision and was made at the gateway put first; of several, the
    first. Its status counts as it stands now: late successes and reversals are in it. A decision is left out when it
    was not on a first attempt, ranked nothing, or was not followed (the checkout gave up, or used another gateway).
    One whose attempt is pending or abandoned stays, with an outcome that is not known.

    Args:
        database: the store.
        since: of the decisions.
        until: the same; does not count itself.
        counted_from: what is left out is counted from this moment on, because earlier decisions only teach; None: all.
        limit: decisions read at most, the newest.
    """
    wanted = ("advice.ranking.gateway", "advice.ranking.propensity", "advice.policy", "decided_at", "request")
    read: list[LoggedDecision] = []
    left_out = LeftOut(counted_from)

    def take(joined: Joined) -> None:
        logged = _logged(joined, left_out)
        if logged is not None:
            read.append(logged)

    complete = await read_joined(database, since, until, wanted, take, left_out, limit=limit)
    read.reverse()
    return DecisionLog(decisions=read, complete=complete, left_out=left_out.told())


async def read_joined(
    database: Database,
    since: datetime,
    until: datetime,
    wanted: Sequence[str],
    take: Callable[[Joined], None],
    left_out: LeftOut,
    *,
    limit: int,
) -> bool:
    """Read decisions on first attempts with the attempts of their orders, newest first.

    Args:
        database: the store.
        since: of the decisions.
        until: the same; does not count itself.
        wanted: fields of a decision; the ranking's gateways and propensities, and the request, are needed.
        take: is given each of them.
        left_out: counts the others, by the reason.
        limit: decisions read at most.
    Returns: False: there were more.
    """
    complete, seen = True, 0
    with translated():
        cursor = (
            database["decisions"]
            .find({"decided_at": {"$gte": since, "$lt": until}}, dict.fromkeys(wanted, True))
            .sort("decided_at", -1)
            .limit(limit + 1)
            .batch_size(BATCH)
        )
        batch: list[dict[str, Any]] = []
        async for document in cursor:
            seen += 1
            if seen > limit:
                complete = False
                break
            batch.append(document)
            if len(batch) == BATCH:
                await _join(database, batch, take, left_out)
                batch = []
        await _join(database, batch, take, left_out)
    return complete


async def _join(
    database: Database, batch: list[dict[str, Any]], take: Callable[[Joined], None], left_out: LeftOut
) -> None:
    judged = [document for document in batch if _is_first(document, left_out)]
    orders = list({document["request"]["order_id"] for document in judged})
    fields = dict.fromkeys(
        ("order_id", "decision_id", "gateway", "status", "attempt_number", "occurred_at", "attempted_at"), True
    )
    attempts: dict[str, list[dict[str, Any]]] = {}
    if orders:
        async for attempt in database["attempts"].find({"order_id": {"$in": orders}}, fields):
            attempts.setdefault(attempt["order_id"], []).append(attempt)
    for document in judged:
        take(Joined(document, attempts.get(document["request"]["order_id"], ())))


def _is_first(document: Mapping[str, Any], left_out: LeftOut) -> bool:
    """Whether a decision is on a first attempt and ranked anything that it may be judged by."""
    ranking = document["advice"].get("ranking") or []
    if document["request"].get("attempt_number", 1) > 1 or document["request"].get("previous_failures"):
        left_out.count(document, "on a later attempt")
        return False
    if not ranking or ranking[0]["propensity"] <= 0:
        left_out.count(document, "no gateway ranked")
        return False
    return True


def _logged(joined: Joined, left_out: LeftOut) -> LoggedDecision | None:
    document, there = joined.document, joined.made_there()
    ranking, request = document["advice"]["ranking"], document["request"]
    if there is None:
        left_out.count(document, NOT_THERE if joined.led_to() else NOBODY)
        return None
    by_operator = document["advice"]["policy"] == OVERRIDE
    if by_operator:
        left_out.count(document, NOT_ROUTED["operator"])
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
            three_ds=request.get("three_ds"),
        ),
        eligible=tuple(ranked["gateway"] for ranked in ranking),
        propensities=tuple(ranked["propensity"] for ranked in ranking),
        gateway=ranking[0]["gateway"],
        succeeded=succeeded,
        known_at=None if succeeded is None else max(at, there["occurred_at"].timestamp()),
        unit=request.get("customer_id") or request["order_id"],
        by_operator=by_operator,
    )
