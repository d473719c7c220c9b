"""Every operation of the REST interface: one file a topic, named here once."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from web.api import (
    anomalies,
    audit,
    dead_letters,
    experiments,
    failure_codes,
    failure_insight,
    gateways,
    models,
    payments,
    people,
    policies,
    replay,
    routing_override,
    shoppers,
    standing,
    trends,
)
from web.api.openapi import openapi_document
from web.api.operation import Operation
from web.api.serving import served

OPERATIONS: Final[tuple[Operation, ...]] = (
    *standing.OPERATIONS,
    *trends.OPERATIONS,
    *payments.OPERATIONS,
    *failure_codes.OPERATIONS,
    *failure_insight.OPERATIONS,
    *shoppers.OPERATIONS,
    *gateways.OPERATIONS,
    *experiments.OPERATIONS,
    *anomalies.OPERATIONS,
    *models.OPERATIONS,
    *policies.OPERATIONS,
    *routing_override.OPERATIONS,
    *dead_letters.OPERATIONS,
    *replay.OPERATIONS,
    *audit.OPERATIONS,
    *people.OPERATIONS,
)


def api_routes() -> list[web.RouteDef]:
    """The addresses of the REST interface, and of its description."""
    document = openapi_document(OPERATIONS)

    async def openapi(request: web.Request) -> web.Response:
        return web.json_response(document)

    routes = [web.route(row.method, row.path, served(row)) for row in OPERATIONS]
    return [*routes, web.get("/openapi.json", openapi)]
