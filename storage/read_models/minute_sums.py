"""Reads the sums per minute as they lie in the store: with fifty fields each, adding them up there takes far longer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from storage.database import Database, Document
from storage.read_models.measures import LATENCY_BUCKETS

Sums = npt.NDArray[np.int64]

BATCH: Final = 2_000
"""Documents that come at a time."""


async def read_minute_sums(
    database: Database,
    collection: str,
    match: Document,
    counts: Sequence[str],
    *,
    latencies: bool = False,
    query_ms_max: int,
) -> AsyncIterator[tuple[Document, Sums]]:
    """Read sums, one slot after the other: those of the same names are yet to be added.

    Args:
        collection: ``attempt_rollups`` or ``failure_rollups``.
        match: which; by ``minute`` at least.
        counts: the fields that are wanted.
        latencies: the counts of the latency buckets follow them.
        query_ms_max: the store gives up after so long, milliseconds.
    Returns: the document with its names, and its sums, shape (counts,) or (counts + LATENCY_BUCKETS,).
    """
    width = len(counts) + (LATENCY_BUCKETS if latencies else 0)
    unwanted = {"_id": False, "slot": False, "kept_since": False}
    cursor = database[collection].find(match, unwanted, batch_size=BATCH, max_time_ms=query_ms_max)
    while documents := await cursor.to_list(BATCH):
        for document in documents:
            sums = np.zeros(width, dtype=np.int64)
            for place, name in enumerate(counts):
                if count := document.get(name):
                    sums[place] = count
            if latencies:
                for bucket, count in document.get("latency", {}).items():
                    sums[len(counts) + int(bucket)] = count
            yield document, sums
