"""The decisions that are about what a reader chose: of such payments, with one of such gateways put first."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from storage.database import Document
from storage.read_models.chosen import Chosen

FIELDS: Final = {
    "gateway": "advice.ranking.0.gateway",
    "method": "request.method",
    "issuer": "request.issuer",
    "currency": "request.currency",
}
"""Where a decision says what a dimension is; other dimensions are not heeded."""


def newest_decisions(since: datetime, chosen: Chosen, limit: int) -> list[Document]:
    """The first stages of a pipeline over decisions: the newest ones since a moment, and of these what is chosen.

    Args:
        limit: decisions looked at, so that a rare choice costs no more than all of them.
    """
    wanted = {FIELDS[name]: names for name, names in chosen.match().items() if name in FIELDS}
    stages: list[Document] = [
        {"$match": {"decided_at": {"$gte": since}}},
        {"$sort": {"decided_at": -1}},
        {"$limit": limit},
    ]
    return [*stages, {"$match": wanted}] if wanted else stages
