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


def decisions_since(since: datetime, chosen: Chosen) -> Document:
    """The query that keeps the decisions from a moment on that are about what is chosen.

    >>> decisions_since(datetime(2026, 1, 1), Chosen(method=("card",), country=("IN",)))
    {'decided_at': {'$gte': datetime.datetime(2026, 1, 1, 0, 0)}, 'request.method': {'$in': ['card']}}
    """
    wanted = {FIELDS[name]: names for name, names in chosen.match().items() if name in FIELDS}
    return {"decided_at": {"$gte": since}} | wanted
