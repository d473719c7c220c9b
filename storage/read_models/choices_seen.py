"""Which countries and experiment arms there were lately: what a form can offer beside the names in the sums."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from storage.database import Database
from storage.errors import translated
from storage.read_models.amount_bands import AMOUNT_BANDS

ATTEMPTS_LOOKED_AT: Final = 2_000
"""Newest attempts looked at for countries each time."""

LATELY: Final = timedelta(days=1)
"""A country that did not come up for so long is not offered."""

EXPERIMENTS_MAX: Final = 50
"""Experiments whose arms are offered."""

QUERY_MS_MAX: Final = 5_000


class ChoicesSeen:
    """Looks now and then, and remembers for a day.

    Args:
        database: an open handle.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._countries: dict[str, datetime] = {}
        self._arms: list[str] = []

    @property
    def names(self) -> dict[str, list[str]]:
        """The names by dimension, in their order; amounts are the same bands always."""
        return {"country": sorted(self._countries), "amount": [*AMOUNT_BANDS], "arm": self._arms}

    async def look(self, now: datetime) -> None:
        """Look at the newest attempts, and at what experiments reported.

        Raises: StoreError: MongoDB did not answer or refused; what was seen stays.
        """
        with translated():
            countries = await self._newest_countries()
            reports = self._database["experiment_reports"].find(
                {}, {"arms.arm": True}, sort=[("_id", 1)], limit=EXPERIMENTS_MAX, max_time_ms=QUERY_MS_MAX
            )
            self._arms = sorted({f"{report['_id']}/{arm['arm']}" async for report in reports for arm in report["arms"]})
        seen = self._countries | dict.fromkeys(countries, now)
        self._countries = {country: at for country, at in seen.items() if now - at < LATELY}

    async def _newest_countries(self) -> list[str]:
        pipeline: list[dict[str, Any]] = [
            {"$sort": {"attempted_at": -1, "_id": -1}},
            {"$limit": ATTEMPTS_LOOKED_AT},
            {"$group": {"_id": "$country"}},
        ]
        cursor = await self._database["attempts"].aggregate(pipeline, maxTimeMS=QUERY_MS_MAX)
        return [row["_id"] async for row in cursor if row["_id"]]
