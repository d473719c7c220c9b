"""Where payments fail: gateways against issuers in the last hour, and which parts moved since the hour before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from ml.experiments.intervals import Interval, Proportion, newcombe_interval
from storage.database import Database
from storage.errors import translated
from storage.read_models.measures import QUERY_MS_MAX, Rate, minutes_ago, rate_of

SPAN_MINUTES: Final = 60
GATEWAYS_MAX: Final = 20
ISSUERS_MAX: Final = 15
"""Columns and rows of the map at most, the busiest."""

MOVERS_MAX: Final = 10
SETTLED_MIN: Final = 20
"""Attempts that a part needs in both hours to be looked at for a move."""

PARTS_MAX: Final = 1_000
"""Parts looked at, the busiest: each takes a tenth of a millisecond."""

ALPHA: Final = 0.05
GROUPS_MAX: Final = 50_000

Part = tuple[str, str]
Counts = tuple[int, int]
"""Attempts that succeeded, and that settled."""


class MapCell(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway with one issuer: the authorization rate of the last hour."""

    gateway: str
    issuer: str
    now: Rate


class Mover(msgspec.Struct, frozen=True, kw_only=True):
    """A part whose authorization rate changed by more than chance explains. ``None``: all of that kind.

    Attributes:
        change: of the rate, as a share; the interval holds for all parts that were looked at together.
    """

    gateway: str | None
    issuer: str | None
    now: Rate
    before: Rate
    change: Interval


class FailureMap(msgspec.Struct, frozen=True, kw_only=True):
    """The last hour against the hour before it.

    Attributes:
        gateways, issuers: the busiest, the busiest first.
        cells: what is known of them; a pair without attempts is missing.
        movers: the largest sure change first.
        parts: how many parts were looked at for moves.
    """

    since: datetime
    until: datetime
    minutes: int
    gateways: list[str]
    issuers: list[str]
    cells: list[MapCell]
    movers: list[Mover]
    parts: int


async def read_failure_map(database: Database, now: datetime) -> FailureMap:
    """Read both hours from the sums per minute.

    Raises: StoreUnavailable: MongoDB does not answer.
    """
    since = minutes_ago(now, SPAN_MINUTES - 1)
    pipeline: list[dict[str, Any]] = [
        {"$match": {"minute": {"$gte": since - timedelta(minutes=SPAN_MINUTES)}}},
        {
            "$group": {
                "_id": {"gateway": "$gateway", "issuer": "$issuer", "is_now": {"$gte": ["$minute", since]}},
                **{name: {"$sum": f"${name}"} for name in ("succeeded", "failed", "reversed")},
            }
        },
        {"$limit": GROUPS_MAX},
    ]
    now_by: dict[Part, Counts] = {}
    before_by: dict[Part, Counts] = {}
    with translated():
        async for row in await database["attempt_rollups"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX):
            key = row["_id"]
            part = str(key.get("gateway") or "none"), str(key.get("issuer") or "unknown")
            settled = int(row["succeeded"] + row["failed"] + row["reversed"])
            (now_by if key["is_now"] else before_by)[part] = int(row["succeeded"]), settled
    gateways, issuers = (_busiest(now_by, place, most) for place, most in ((0, GATEWAYS_MAX), (1, ISSUERS_MAX)))
    movers, parts = _movers(now_by, before_by)
    return FailureMap(
        since=since,
        until=now,
        minutes=SPAN_MINUTES,
        gateways=gateways,
        issuers=issuers,
        cells=[
            MapCell(gateway=gateway, issuer=issuer, now=rate_of(*now_by[gateway, issuer]))
            for issuer in issuers
            for gateway in gateways
            if now_by.get((gateway, issuer), (0, 0))[1] > 0
        ],
        movers=movers,
        parts=parts,
    )


def _busiest(counts: Mapping[Part, Counts], place: int, most: int) -> list[str]:
    settled: defaultdict[str, int] = defaultdict(int)
    for part, (_, number) in counts.items():
        settled[part[place]] += number
    ordered = sorted(settled, key=lambda name: (-settled[name], name))
    return [name for name in ordered if settled[name] > 0][:most]


def _movers(now_by: Mapping[Part, Counts], before_by: Mapping[Part, Counts]) -> tuple[list[Mover], int]:
    """Look at every gateway, every issuer and every pair; as many looks as there are share the error."""
    now_of, before_of = _widened(now_by), _widened(before_by)
    looked = [part for part, (_, settled) in now_of.items()
              if min(settled, before_of.get(part, (0, 0))[1]) >= SETTLED_MIN]  # fmt: skip
    looked = sorted(looked, key=lambda part: -now_of[part][1])[:PARTS_MAX]
    moved = []
    for part in looked:
        change = newcombe_interval(
            Proportion(*before_of[part]), Proportion(*now_of[part]), alpha=ALPHA / max(1, len(looked))
        )
        if change.low > 0 or change.high < 0:
            gateway, issuer = part
            moved.append(
                Mover(
                    gateway=gateway,
                    issuer=issuer,
                    now=rate_of(*now_of[part]),
                    before=rate_of(*before_of[part]),
                    change=change,
                )
            )
    moved.sort(key=lambda mover: -max(mover.change.low, -mover.change.high))
    return moved[:MOVERS_MAX], len(looked)


def _widened(counts: Mapping[Part, Counts]) -> dict[tuple[str | None, str | None], Counts]:
    """Counts of each pair, of each gateway over all issuers, and of each issuer over all gateways."""
    found: defaultdict[tuple[str | None, str | None], list[int]] = defaultdict(lambda: [0, 0])
    for (gateway, issuer), (succeeded, settled) in counts.items():
        for part in ((gateway, issuer), (gateway, None), (None, issuer)):
            found[part][0] += succeeded
            found[part][1] += settled
    return {part: (sums[0], sums[1]) for part, sums in found.items()}
