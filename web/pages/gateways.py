"""The gateways: how each one stands, and the switch that takes it out of the routing."""

from __future__ import annotations

from aiohttp import web

from web.pages.reading import standings_of
from web.rendering import page


async def gateways(request: web.Request) -> web.Response:
    """Every configured gateway."""
    return page(request, "gateways.html", {"standings": await standings_of(request)})
