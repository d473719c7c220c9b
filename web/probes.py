"""What orchestrators ask: does the process live, and can it work?"""

from __future__ import annotations

from aiohttp import web

from storage.read_models.readiness import ping
from web.keys import DATABASE


async def livez(request: web.Request) -> web.Response:
    """The process lives; says nothing of what it depends on."""
    return web.json_response({"status": "alive"}, headers={"Cache-Control": "no-store"})


async def readyz(request: web.Request) -> web.Response:
    """MongoDB answers, so pages can be served; otherwise the middleware makes this a 503."""
    await ping(request.app[DATABASE])
    return web.json_response({"status": "ready"}, headers={"Cache-Control": "no-store"})
