"""What shoppers do when a payment fails, and what kinds of shoppers there are and how they fare."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ml.behaviour.funnel import (
    Abandonment,
    Funnel,
    RepeatFailures,
    RetryTime,
    Rhythm,
    Switch,
    abandonments,
    funnel,
    repeat_failures,
    retry_times,
    rhythm,
    switches,
)
from ml.behaviour.orders import OrderStory
from ml.behaviour.paths import OrderPath, order_paths
from ml.behaviour.segments import Segmentation, assigned, traits_of
from storage.database import Database
from storage.models import model_in_force
from storage.read_models.measures import Rate, rate_of
from storage.shoppers import ORDERS_READ_MAX, read_orders

KIND: Final = "shopper_segments"
PATIENCE: Final = timedelta(minutes=30)
"""A shopper who has not tried again for so long has given up; late data puts that right."""

PERIODS_MAX: Final = 400


class ShopperBehaviour(msgspec.Struct, frozen=True, kw_only=True):
    """Orders started in a window. ``complete`` is false where there are more than were read.

    ``paths`` hold every order once, so they add up to ``funnel.started``, and their parts to the parts of the funnel.
    """

    since: datetime
    until: datetime
    orders_read: int
    complete: bool
    patience_minutes: int
    funnel: Funnel
    paths: list[OrderPath]
    abandonment: list[Abandonment]
    retry_times: list[RetryTime]
    switches: list[Switch]
    rhythm: list[Rhythm]
    repeat_failures: list[RepeatFailures]


class SegmentPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """A segment's authorization rate over one day, per attempt."""

    day: str
    rate: Rate


class SegmentStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of shoppers, its share of those seen in the window, and how its authorization rate moved."""

    name: str
    description: str
    customers: int
    share: float
    rate: Rate
    days: list[SegmentPeriod]


class ShopperSegments(msgspec.Struct, frozen=True, kw_only=True):
    """The kinds of shoppers in force. ``version`` None: there are none yet, ``reason`` says why."""

    since: datetime
    until: datetime
    version: int | None
    reason: str
    customers: int
    silhouette: float | None
    stability: float | None
    segments: list[SegmentStanding]


async def read_shopper_behaviour(
    database: Database, since: datetime, until: datetime, now: datetime
) -> ShopperBehaviour:
    """How far orders came, who left after which failure, how soon and how shoppers tried again, and when they buy."""
    found = await read_orders(database, since, until, limit=ORDERS_READ_MAX + 1)
    stories = found[:ORDERS_READ_MAX]
    return ShopperBehaviour(
        since=since,
        until=until,
        orders_read=len(stories),
        complete=len(found) <= ORDERS_READ_MAX,
        patience_minutes=int(PATIENCE.total_seconds() // 60),
        funnel=funnel(stories, now, patience=PATIENCE),
        paths=order_paths(stories, now, patience=PATIENCE),
        abandonment=abandonments(stories, now, patience=PATIENCE),
        retry_times=retry_times(stories),
        switches=switches(stories),
        rhythm=rhythm(stories),
        repeat_failures=repeat_failures(stories, now, patience=PATIENCE),
    )


async def read_shopper_segments(database: Database, since: datetime, until: datetime) -> ShopperSegments:
    """The kinds of shoppers in force, over the orders of a window."""
    stored = await model_in_force(database, KIND)
    if stored is None:
        return ShopperSegments(
            since=since,
            until=until,
            version=None,
            reason="no segments are in force yet: too few shoppers, or the trainer has not run",
            customers=0,
            silhouette=None,
            stability=None,
            segments=[],
        )
    segmentation = msgspec.json.decode(stored.body, type=Segmentation)
    stories = await read_orders(database, since, until)
    belongs = assigned(segmentation, traits_of(stories))
    return ShopperSegments(
        since=since,
        until=until,
        version=stored.about.version,
        reason=stored.about.note,
        customers=len(belongs),
        silhouette=segmentation.silhouette,
        stability=segmentation.stability,
        segments=_standings(segmentation, belongs, stories),
    )


def _standings(segmentation: Segmentation, belongs: dict[str, str], stories: list[OrderStory]) -> list[SegmentStanding]:
    days: defaultdict[str, defaultdict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for story in stories:
        name = belongs.get(story.customer or "")
        if name is not None:
            for step in story.steps:
                if step.status in ("succeeded", "failed", "reversed"):
                    days[name][f"{step.at:%Y-%m-%d}"].append(step.status == "succeeded")
    standings = []
    for segment in segmentation.segments:
        mine = days[segment.name]
        every = [succeeded for day in mine.values() for succeeded in day]
        customers = sum(name == segment.name for name in belongs.values())
        standings.append(
            SegmentStanding(
                name=segment.name,
                description=segment.description,
                customers=customers,
                share=customers / len(belongs) if belongs else 0.0,
                rate=rate_of(sum(every), len(every)),
                days=[
                    SegmentPeriod(day=day, rate=rate_of(sum(ended), len(ended)))
                    for day, ended in sorted(mine.items())[-PERIODS_MAX:]
                ],
            )
        )
    return standings
