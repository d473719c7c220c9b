"""The kinds of shoppers, found anew from the orders of the last weeks."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

import msgspec

from config.settings import Settings
from ml.behaviour.segments import Segmentation, segmented, traits_of
from ml.lack import TooFewData
from storage.database import Database
from storage.models import StoredModel, TrainedModel
from storage.read_models.shoppers import KIND
from storage.shoppers import read_orders

WINDOW: Final = timedelta(days=28)
"""Long enough for four of each weekday."""

__all__ = ["KIND", "train_shopper_segments"]


async def train_shopper_segments(
    database: Database, settings: Settings, in_force: StoredModel | None, now: datetime
) -> TrainedModel | TooFewData:
    """Cluster the shoppers of four weeks; newer segments serve if other seeds agree on them as well as before."""
    stories = await read_orders(database, now - WINDOW, now)
    found = await asyncio.to_thread(lambda: segmented(traits_of(stories)))
    if isinstance(found, TooFewData):
        return found
    agreed = f"agreement of other seeds {found.stability:.2f}"
    before = None if in_force is None else msgspec.json.decode(in_force.body, type=Segmentation)
    better = before is None or found.stability >= min(before.stability, 0.95)
    return TrainedModel(
        kind=KIND,
        body=msgspec.json.encode(found),
        format="json",
        window_from=now - WINDOW,
        window_to=now,
        metrics={
            "customers": float(found.customers),
            "segments": float(len(found.segments)),
            "silhouette": found.silhouette,
            "stability": found.stability,
        },
        better=better,
        note=f"{len(found.segments)} segments of {found.customers} shoppers; {agreed}",
    )
