"""Every address of the web, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aiohttp import web

from web.api.topics import OPERATIONS, api_routes
from web.live_proxy import live
from web.metrics import metrics
from web.pages import (
    acting,
    desk,
    gateways,
    incidents,
    insight,
    login,
    payments,
    people,
    policies,
    replay,
    standing,
    trends,
)
from web.probes import livez, readyz

STATIC: Final = Path(__file__).parent / "static"

PAGES: Final = (
    "/",
    "/trends",
    "/replay",
    "/payments",
    "/failures",
    "/codes",
    "/shoppers",
    "/routing",
    "/policies",
    "/gateways",
    "/anomalies",
    "/experiments",
    "/models",
    "/dead-letters",
    "/health",
    "/audit",
    "/people",
    "/account",
    "/settings",
)
"""Pages for people that take no parameter; each answers 200 to whoever is logged in."""

INCIDENTS: Final = "/incidents"
"""The page for breaking something; only `ipa demo` has it."""

NOT_AS_THEY_ARE: Final = frozenset({"/api/v1/replay", "/api/v1/dead-letters", "/api/v1/policy-evaluation"})
"""REST resources that need a parameter or a broker."""

API: Final = tuple(
    row.path for row in OPERATIONS if row.method == "GET" and "{" not in row.path and row.path not in NOT_AS_THEY_ARE
)
"""REST resources that can be read without parameters and without a broker."""

LIVE_RESOURCE: Final = "/live/{tail}"

FREE_RESOURCES: Final = frozenset({"/login", "/static", "/favicon.ico", "/livez", "/readyz", "/openapi.json"})
"""What strangers may see; everything else needs a login, also what is added later."""


async def favicon(request: web.Request) -> web.FileResponse:
    """The icon, for browsers that ask without being told."""
    return web.FileResponse(STATIC / "icon.svg")


def add_routes(app: web.Application, *, with_incidents: bool = False) -> None:
    """Give an application all its addresses; ``with_incidents``: also the page for breaking something."""
    # fmt: off
    app.add_routes([
        web.get("/",                               standing.overview),
        web.get("/trends",                         trends.trends),
        web.get("/trends.csv",                     trends.trends_csv),
        web.get("/replay",                         replay.replay),
        web.get("/payments",                       payments.payments),
        web.get("/payments/{attempt_id}",          payments.payment),
        web.get("/failures",                       standing.failures),
        web.get("/codes",                          insight.codes),
        web.get("/shoppers",                       insight.shoppers),
        web.get("/routing",                        standing.routing),
        web.get("/policies",                       policies.policies),
        web.get("/gateways",                       gateways.gateways),
        web.get("/anomalies",                      standing.anomalies),
        web.get("/anomalies/{anomaly_id}",         desk.one_anomaly),
        web.get("/experiments",                    standing.experiments),
        web.get("/models",                         desk.models),
        web.get("/dead-letters",                   desk.dead_letters),
        web.get("/health",                         standing.health),
        web.get("/audit",                          people.audit),
        web.get("/people",                         people.people),
        web.get("/account",                        people.account),
        web.get("/settings",                       standing.settings),
        web.post("/act/{name}",                    acting.act),

        web.get("/live/{tail:.*}",                 live),

        web.get("/login",                          login.login_form),
        web.post("/login",                         login.login),
        web.post("/logout",                        login.logout),
        web.get("/livez",                          livez),
        web.get("/readyz",                         readyz),
        web.get("/metrics",                        metrics),
        web.get("/favicon.ico",                    favicon),
        web.static("/static",                      STATIC),
        *api_routes(),
    ])
    if with_incidents:
        app.add_routes([
            web.get(INCIDENTS,                     incidents.incidents),
            web.post(INCIDENTS,                    incidents.trigger),
        ])
    # fmt: on
