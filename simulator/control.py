"""A small door on this machine through which a demo lets things happen in running traffic.

``POST /incidents`` with an incident as JSON (as in a scenario, ``starts_s`` counts from now), ``GET /incidents`` for
the truth so far, ``GET /summary`` for the account. Loopback only, JSON only, so that no foreign web page can reach it.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec
from aiohttp import web

from simulator.tally import TrafficSummary
from simulator.world.incidents import AnyIncident, Incident
from simulator.world.plan import Label

HOST: Final = "127.0.0.1"
BODY_BYTES_MAX: Final = 10_000
TRIGGERS_MAX: Final = 1_000
"""Incidents that one run accepts through the door."""


class Controlled(Protocol):
    """Running traffic, as far as the door needs it."""

    def trigger(self, incident: Incident) -> str:
        """Let something happen from now on. Returns: its name. Raises: ValueError: it does not fit this world."""

    def labels(self) -> list[Label]:
        """The truth about what has begun so far."""

    def account(self, *, final: bool) -> TrafficSummary:
        """The account so far."""


class Control:
    """The door to one run of traffic.

    Args:
        traffic: the running traffic.
    """

    def __init__(self, traffic: Controlled) -> None:
        self._traffic = traffic
        self._accepted = 0
        self._runner: web.AppRunner | None = None

    async def open(self, port: int) -> int:
        """Listen on a loopback port (0: any free one). Returns: the port.

        Raises: OSError: the port is taken.
        """
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.add_routes(
            [
                web.post("/incidents", self._trigger),
                web.get("/incidents", self._incidents),
                web.get("/summary", self._summary),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, port)
        await site.start()
        assert self._runner.addresses
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _trigger(self, request: web.Request) -> web.Response:
        _only_local(request)
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send the incident as application/json")
        if self._accepted >= TRIGGERS_MAX:
            raise web.HTTPTooManyRequests(text=f"this run has accepted {TRIGGERS_MAX} incidents; start another")
        try:
            incident = msgspec.json.decode(await request.read(), type=AnyIncident)
            name = self._traffic.trigger(incident)
        except (msgspec.MsgspecError, ValueError) as error:
            raise web.HTTPUnprocessableEntity(text=f"this is no incident of this world: {error}") from None
        self._accepted += 1
        return _json({"incident": name}, status=201)

    async def _incidents(self, request: web.Request) -> web.Response:
        _only_local(request)
        return _json(self._traffic.labels())

    async def _summary(self, request: web.Request) -> web.Response:
        _only_local(request)
        return _json(self._traffic.account(final=False))


def _only_local(request: web.Request) -> None:
    """Refuse a request that came through a foreign name for this address."""
    if request.url.host not in (HOST, "localhost"):
        raise web.HTTPForbidden(text="only this machine may ask")


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=status)
