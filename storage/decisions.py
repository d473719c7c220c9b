"""The router's decisions, each with the request it answered."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from pymongo.errors import BulkWriteError

from messaging.contracts import RouteAdvised, RouteRequested
from ml.experiments.counting import Decided
from ml.routing.context import ABOVE_POLICIES
from storage.database import KEPT_TYPES, Database, Document
from storage.errors import StoreRefused, translated


async def write_decisions(database: Database, decided: Sequence[tuple[RouteRequested, RouteAdvised]]) -> int:
    """Write decisions; one that is there already stays as it is.

    Returns: how many were there already with another answer: two replicas answered the same request.
    Raises: StoreRefused: MongoDB cannot keep one of them; nothing is known of the others.
    """
    if not decided:
        return 0
    with translated():
        try:
            await database["decisions"].insert_many([_document(*pair) for pair in decided], ordered=False)
        except BulkWriteError as error:
            failures = (error.details or {}).get("writeErrors", [])
            if any(failure.get("code") != 11000 for failure in failures):
                raise
            return await _conflicting(database, [decided[failure["index"]][1] for failure in failures])
        except OverflowError:
            raise StoreRefused("a time or a number lies beyond what MongoDB keeps") from None
    return 0


async def find_decisions(database: Database, decision_ids: Sequence[str]) -> list[tuple[RouteRequested, RouteAdvised]]:
    """Read these decisions, those that are there, each with the request it answered."""
    with translated():
        cursor = database["decisions"].find({"_id": {"$in": list(decision_ids)}}, {"request": True, "advice": True})
        return [
            (msgspec.convert(document["request"], RouteRequested), msgspec.convert(document["advice"], RouteAdvised))
            async for document in cursor
        ]


async def find_decided(database: Database, decision_ids: Sequence[str]) -> dict[str, Decided]:
    """What was decided, by decision id: arm, allocation and the gateway put first."""
    wanted = {"advice.experiment": True, "advice.arm": True, "advice.allocation_version": True, "advice.policy": True,
              "advice.ranking": {"$slice": 1}}  # fmt: skip
    with translated():
        cursor = database["decisions"].find({"_id": {"$in": list(decision_ids)}}, wanted)
        return {document["_id"]: _decided(document["advice"]) async for document in cursor}


def _decided(advice: Document) -> Decided:
    ranking = advice.get("ranking") or [{}]
    return Decided(
        experiment=advice.get("experiment"),
        arm=advice.get("arm"),
        allocation_version=advice.get("allocation_version"),
        gateway=ranking[0].get("gateway"),
        overridden=advice.get("policy") in ABOVE_POLICIES,
    )


async def _conflicting(database: Database, repeated: Sequence[RouteAdvised]) -> int:
    cursor = database["decisions"].find({"_id": {"$in": [advised.decision_id for advised in repeated]}})
    stored = {document["_id"]: document["advice"]["ranking"] async for document in cursor}
    return sum(stored.get(advised.decision_id) != msgspec.to_builtins(advised)["ranking"] for advised in repeated)


def _document(request: RouteRequested, advised: RouteAdvised) -> Document:
    return {
        "_id": advised.decision_id,
        "decided_at": advised.advised_at,
        "request": msgspec.to_builtins(request, builtin_types=KEPT_TYPES),
        "advice": msgspec.to_builtins(advised, builtin_types=KEPT_TYPES),
    }
