"""What shoppers do when a payment fails, and the failure codes that no table knows yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from ml.failures.taxonomy import CATEGORIES
from storage.read_models.failure_codes import OpenCodes, read_open_codes
from storage.read_models.shoppers import (
    ShopperBehaviour,
    ShopperSegments,
    read_shopper_behaviour,
    read_shopper_segments,
)
from web.keys import DATABASE, TRENDS
from web.pages.order_flow import order_flow
from web.rendering import page

WINDOWS: Final = {"6h": timedelta(hours=6), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
CODES_SHOWN: Final = 100


async def shoppers(request: web.Request) -> web.Response:
    """Funnel, the ways that orders took, switching and the kinds of shoppers."""
    asked = request.query.get("range", "24h")
    name = asked if asked in WINDOWS else "24h"

    async def read() -> tuple[ShopperBehaviour, ShopperSegments]:
        database, now = request.app[DATABASE], datetime.now(UTC)
        since = now - WINDOWS[name]
        return (
            await read_shopper_behaviour(database, since, now, now),
            await read_shopper_segments(database, since, now),
        )

    behaviour, segments = await request.app[TRENDS].get(f"shoppers {name}", read)
    context = {
        "behaviour": behaviour,
        "flow": order_flow(behaviour.paths),
        "segments": segments,
        "windows": WINDOWS,
        "window": name,
    }
    return page(request, "shoppers.html", context)


async def codes(request: web.Request) -> web.Response:
    """The codes to confirm or to correct."""

    async def read() -> OpenCodes:
        return await read_open_codes(request.app[DATABASE], datetime.now(UTC), limit=CODES_SHOWN)

    found = await request.app[TRENDS].get("open codes", read)
    known = sorted(category.name for category in CATEGORIES)
    return page(request, "codes.html", {"codes": found, "categories": known})
