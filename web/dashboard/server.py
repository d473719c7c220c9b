"""The Bokeh server: one application a view, signed sessions only, on an address that only the web process talks to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from bokeh.server.server import Server
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

from config.errors import ConfigError
from config.settings import DashboardSettings
from storage.read_models.live import LiveFigures
from web.dashboard.live_page import Audience, SharedMarks, application
from web.dashboard.sessions import PREFIX, VIEWS
from web.dashboard.shared_session import share_sessions

SECRET_LENGTH_MIN: Final = 32
TOKEN_LIFE_S: Final = 86_400
"""A tab that the browser restores a day later still opens its connection."""

UNUSED_LIFE_MS: Final = 20_000
CHECK_UNUSED_MS: Final = 5_000
MESSAGE_BYTES_MAX: Final = 1_000_000
"""Browsers send clicks and visibility only; nothing big comes in."""

RARELY_MS: Final = 3_600_000


class Liveness(RequestHandler):
    """Says that the server's loop turns, and how much it knows. Needs no session."""

    def initialize(self, live: LiveFigures) -> None:
        """Take the figures; tornado's way to hand something to a handler."""
        self._live = live

    def get(self) -> None:
        """Answer as JSON; ``points``: sums that are not zero; ``polled_at``: seconds since epoch or null."""
        answer = {"status": "ok", "points": self._live.points, "polled_at": self._live.snapshot.polled_at}
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.write(msgspec.json.encode(answer))


def make_server(
    live: LiveFigures, marks: SharedMarks, audience: Audience, settings: DashboardSettings, web_origins: Sequence[str]
) -> Server:
    """Make the server; it listens at once, ``start`` lets it work.

    Args:
        settings: address, port (0: any free one) and the secret that signs sessions.
        web_origins: ``host:port`` of the web process; WebSockets from other origins are refused.
    Raises: ConfigError: the secret is missing or too short.
    """
    secret = checked_secret(settings.secret)
    share_sessions(secret.encode(), TOKEN_LIFE_S)
    views = {f"/{view}": application(view, live, marks, audience) for view in VIEWS}
    own = (f"{settings.host}:{settings.port}",) if settings.port else ()
    return Server(
        views,
        io_loop=IOLoop.current(),
        address=settings.host,
        port=settings.port,
        prefix=PREFIX,
        allow_websocket_origin=[*dict.fromkeys((*web_origins, *own))],
        use_xheaders=True,
        use_index=False,
        redirect_root=False,
        sign_sessions=True,
        secret_key=secret.encode(),
        generate_session_ids=False,
        # The session token carries these to the WebSocket: nothing of the viewer's login belongs in it.
        include_headers=[],
        include_cookies=[],
        session_token_expiration=TOKEN_LIFE_S,
        unused_session_lifetime_milliseconds=UNUSED_LIFE_MS,
        check_unused_sessions_milliseconds=CHECK_UNUSED_MS,
        stats_log_frequency_milliseconds=RARELY_MS,
        websocket_max_message_size=MESSAGE_BYTES_MAX,
        extra_patterns=[(r"/livez", Liveness, {"live": live})],
    )


def checked_secret(secret: str | None) -> str:
    """The secret that signs sessions.

    Raises: ConfigError: it is missing or too short.
    """
    if secret is None or len(secret) < SECRET_LENGTH_MIN:
        raise ConfigError(
            "IPA_DASHBOARD__SECRET",
            f"must be set, {SECRET_LENGTH_MIN} characters or more, the same for the web and the dashboard process",
        )
    return secret


def web_origins(host: str, port: int) -> list[str]:
    """The origins that a browser can name for the web process; a loopback address has two names."""
    names = ("127.0.0.1", "localhost") if host in {"127.0.0.1", "localhost", "0.0.0.0"} else (host,)  # noqa: S104
    return [f"{name}:{port}" for name in names]
