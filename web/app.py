"""Puts the web application together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from config.gateways import load_gateways
from config.settings import Settings, resolved
from storage.api_tokens import declare_api_tokens
from storage.database import Database, close, connect
from storage.idempotency import declare_idempotency
from storage.notifications import declare_notifications
from storage.read_models.history_cube import HistoryCube
from storage.users import User, add_user, any_user
from storage.web_sessions import declare_web_sessions
from web.beside import beside
from web.dashboard.sessions import SharedSessions
from web.evaluating import evaluator
from web.head_of_line import HeadOfLine
from web.hindsight import hindsight_reads
from web.keys import (
    CLIENT,
    DATABASE,
    EXECUTOR,
    GATEWAYS,
    HEAD,
    HISTORY,
    LIMITER,
    LIVE_SESSIONS,
    MINUTES,
    RECENT,
    SETTINGS,
    STARTED_AT,
    TRENDS,
)
from web.middlewares import explained, logged_in, secured
from web.notifying import Notifier
from web.passwords import hash_password
from web.rate_limit import FailureLimiter
from web.recent import RecentReads
from web.rendering import set_up_templates
from web.routes import add_routes

BODY_BYTES_MAX: Final = 65_536
HASHING_THREADS: Final = 2
LOGIN_FAILURES_MAX: Final = 5
LOGIN_WINDOW_S: Final = 60.0
RECENT_S: Final = 1.0
TRENDS_S: Final = 5.0
"""Past time changes slowly, and its pages ask again every ten seconds."""

MINUTES_S: Final = 60.0
"""Whole minutes are asked for by the newest of them, so that an answer is never older than they are."""

LIVE_CONNECTIONS_MAX: Final = 500
"""Live views open at the same time; each holds one WebSocket to the dashboard."""

log = structlog.get_logger("web")


def make_app(settings: Settings) -> web.Application:
    """Make the application; it connects to MongoDB when it starts."""
    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[explained, logged_in])
    app[SETTINGS] = settings
    app[LIMITER] = FailureLimiter(failures_max=LOGIN_FAILURES_MAX, window_s=LOGIN_WINDOW_S)
    app[RECENT] = RecentReads(RECENT_S)
    app[GATEWAYS] = load_gateways(resolved(settings.gateways.path))
    app[LIVE_SESSIONS] = SharedSessions(settings.dashboard.secret or "")
    app[TRENDS] = RecentReads(TRENDS_S)
    app[MINUTES] = RecentReads(MINUTES_S)
    app[STARTED_AT] = datetime.now(UTC)
    app.on_response_prepare.append(secured)
    set_up_templates(app)
    add_routes(app, with_incidents=settings.web.demo_control_url is not None)
    app.cleanup_ctx.extend([_executor, _client, _head, _database, beside, evaluator, hindsight_reads])
    return app


async def _executor(app: web.Application) -> AsyncIterator[None]:
    with ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="password") as executor:
        app[EXECUTOR] = executor
        yield


async def _client(app: web.Application) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=LIVE_CONNECTIONS_MAX)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as client:
        app[CLIENT] = client
        yield


async def _head(app: web.Application) -> AsyncIterator[None]:
    app[HEAD] = HeadOfLine(app[SETTINGS].broker)
    yield
    await app[HEAD].close()


async def _database(app: web.Application) -> AsyncIterator[None]:
    database = await connect(app[SETTINGS].store)
    app[DATABASE] = database
    try:
        await asyncio.gather(
            declare_web_sessions(database),
            declare_api_tokens(database),
            declare_idempotency(database),
            declare_notifications(database),
        )
        await _make_first_user(app, database)
        app[HISTORY] = HistoryCube(database)
        notifier = Notifier(database, app[SETTINGS].notifications, app[CLIENT])
        tasks = [asyncio.create_task(app[HISTORY].run()), asyncio.create_task(notifier.run())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await close(database)


async def _make_first_user(app: web.Application, database: Database) -> None:
    """Make the first person from the settings, when there is nobody yet."""
    settings = app[SETTINGS].web
    if await any_user(database):
        return
    if settings.admin_password is None:
        log.warning("nobody can log in: set web.admin_password (IPA_WEB__ADMIN_PASSWORD) and start again")
        return
    password_hash = await hash_password(app[EXECUTOR], settings.admin_password)
    user = User(name=settings.admin_name, password_hash=password_hash, created_at=datetime.now(UTC), role="admin")
    if await add_user(database, user):
        log.info("made the first user", user=user.name)
