"""Passes the live charts through: HTTP and WebSocket under /live/, for logged-in people only."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp import WSMsgType, web

from config.settings import DashboardSettings, Settings
from web.keys import CLIENT, LIVE_SESSIONS, SETTINGS
from web.rendering import page

FORWARDED: Final = ("Accept", "Accept-Language", "If-None-Match", "If-Modified-Since", "Range", "User-Agent")
"""Request headers the charts may see; never a cookie, never an authorization."""

RETURNED: Final = (
    "Content-Type",
    "Content-Encoding",
    "Content-Security-Policy",
    "Cache-Control",
    "ETag",
    "Last-Modified",
    "Location",
    "Vary",
)
ANSWER_S_MAX: Final = 30.0
BODY_BYTES_MAX: Final = 20_000_000
MESSAGE_FROM_BROWSER_BYTES_MAX: Final = 1_000_000
MESSAGE_TO_BROWSER_BYTES_MAX: Final = 20_000_000

LIVE_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-inline'",  # the charts' page starts itself with an inline script
        "style-src 'self' 'unsafe-inline'",  # and styles its shadow trees with style elements
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)

log = structlog.get_logger("web.live")


async def live(request: web.Request) -> web.StreamResponse:
    """Forward one request to the dashboard process; without it, say that the view is coming back."""
    if any(name.lower().startswith("bokeh-") for name in request.query):
        raise web.HTTPForbidden  # which session a view gets is not the viewer's choice
    wants_socket = request.headers.get("Upgrade", "").lower() == "websocket"
    try:
        return await (_socket(request) if wants_socket else _http(request))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        log.info("dashboard does not answer", path=request.path, error=type(error).__name__)
        return _waiting(request)


async def dashboard_answers(client: aiohttp.ClientSession, settings: DashboardSettings) -> bool:
    """Tell whether the dashboard process lives."""
    try:
        timeout = aiohttp.ClientTimeout(total=1.5)
        async with client.get(f"{_base(settings)}/live/livez", timeout=timeout, allow_redirects=False) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


def same_origin(request: web.Request) -> bool:
    """Tell whether a WebSocket was opened by one of our own pages."""
    origin = request.headers.get("Origin", "")
    return bool(origin) and urlsplit(origin).netloc.lower() == request.host.lower()


def own_origin(settings: Settings) -> str:
    """The origin the dashboard knows the web process by; which page the browser was on is checked here, not there."""
    web_address, dashboard = settings.web, settings.dashboard
    if not web_address.port:
        return _base(dashboard)
    everywhere = web_address.host in ("0.0.0.0", "localhost")  # noqa: S104
    return f"http://{'127.0.0.1' if everywhere else web_address.host}:{web_address.port}"


def _base(settings: DashboardSettings) -> str:
    return f"http://{settings.host}:{settings.port}"


def _target(request: web.Request) -> str:
    return f"{_base(request.app[SETTINGS].dashboard)}{request.raw_path}"


def _sent_headers(request: web.Request) -> dict[str, str]:
    """The few headers that go on; a page of charts also gets its signed session."""
    headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
    return headers | request.app[LIVE_SESSIONS].headers(request.path_qs)


async def _http(request: web.Request) -> web.StreamResponse:
    if request.method not in ("GET", "HEAD"):
        raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD"])
    timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX, connect=2.0)
    async with request.app[CLIENT].request(
        request.method,
        _target(request),
        headers=_sent_headers(request),
        timeout=timeout,
        allow_redirects=False,
        auto_decompress=False,
    ) as answer:
        if answer.status >= 502:
            return _waiting(request)
        if (answer.content_length or 0) > BODY_BYTES_MAX:
            raise web.HTTPBadGateway
        response = web.StreamResponse(status=answer.status)
        for name in RETURNED:
            if name in answer.headers:
                response.headers[name] = answer.headers[name]
        response.headers.setdefault("Content-Security-Policy", LIVE_POLICY)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        if answer.content_length is not None and request.method != "HEAD":
            response.content_length = answer.content_length
        await response.prepare(request)
        passed = 0
        async for chunk in answer.content.iter_chunked(65_536):
            passed += len(chunk)
            if passed > BODY_BYTES_MAX:
                break
            await response.write(chunk)
        await response.write_eof()
        return response


async def _socket(request: web.Request) -> web.StreamResponse:
    if not same_origin(request):
        raise web.HTTPForbidden
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if name.strip()]
    async with request.app[CLIENT].ws_connect(
        _target(request),
        protocols=offered,
        origin=own_origin(request.app[SETTINGS]),
        max_msg_size=MESSAGE_TO_BROWSER_BYTES_MAX,
        timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
    ) as upstream:
        downstream = web.WebSocketResponse(
            protocols=[upstream.protocol] if upstream.protocol else (),
            max_msg_size=MESSAGE_FROM_BROWSER_BYTES_MAX,
            heartbeat=20.0,
        )
        await downstream.prepare(request)
        ways = [
            asyncio.create_task(_pass_on(downstream, upstream)),
            asyncio.create_task(_pass_on(upstream, downstream)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await downstream.close()
        return downstream


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pass_on(source: Socket, sink: Socket) -> None:
    """Copy messages one way until either side closes."""
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)
        else:
            return


def _waiting(request: web.Request) -> web.Response:
    """What a view shows while the dashboard process is away; it looks for it and comes back by itself."""
    theme = request.query.get("theme")
    context = {"live_theme": theme if theme in ("light", "dark") else "light"}
    response = page(request, "live_waiting.html", context, status=503)
    response.headers["Retry-After"] = "2"
    return response
