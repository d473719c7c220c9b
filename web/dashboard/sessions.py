"""How the pages bring a live view in: an iframe, and a signed session that only a logged-in person's request gets.

A view is embedded as ``<iframe src="/live/overview?theme=dark">`` (``embed_path("overview", "dark")``). The web process
forwards ``/live/*`` to ``http://<dashboard.host>:<dashboard.port>/live/*``, HTTP and WebSocket, for logged-in people
only, and adds ``SharedSessions.headers`` to every GET of a view. The Bokeh server makes no session without such a
signed id, and no id stands in a URL. All who ask for the same view in the same way share its session; see
``shared_session.py``.

An iframe, because it comes back by itself (its page waits for ``/live/livez`` and reloads when the connection was
lost), because its styles and scripts cannot meet the page's, and because a new theme is only a new ``src``. What the
proxy must do: pass ``Host`` and ``Origin`` on (origins are checked), pass the ``Sec-WebSocket-Protocol`` header both
ways (the session token travels in it), leave ``X-Frame-Options`` at SAMEORIGIN, and add no Content-Security-Policy that
forbids inline scripts under ``/live/``. While the Bokeh server is away it should answer 502 with a short page that
loads itself again.

The view tells its height to the page around it, so that nothing scrolls twice::

    window.addEventListener("message", (event) => {
      if (event.origin === location.origin && event.data?.type === "live-height")
        for (const frame of document.querySelectorAll("iframe.live"))
          if (frame.contentWindow === event.source) frame.style.height = `${event.data.height}px`;
    });
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final
from urllib.parse import quote, urlencode

from bokeh.util.token import generate_session_id

PREFIX: Final = "/live"
"""Everything of the Bokeh server is below this path, behind the proxy as well."""

VIEWS: Final = ("overview", "failures", "routing", "anomalies", "experiments", "system")
SESSIONS_MAX: Final = 500
"""Views with their time range, filters and theme whose session is remembered; a forgotten one is made anew."""

THEMES: Final = ("light", "dark")
SESSION_HEADER: Final = "Bokeh-Session-Id"


def signed_session_id(secret: str) -> str:
    """Make a session id that the Bokeh server accepts.

    Args:
        secret: ``dashboard.secret`` of the settings, the same for both processes.
    """
    return str(generate_session_id(secret_key=secret.encode(), signed=True))


class SharedSessions:
    """The session of each view as it is asked for: everybody who asks for the same looks at the same session.

    Args:
        secret: ``dashboard.secret`` of the settings, the same for both processes.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._ids: OrderedDict[str, str] = OrderedDict()

    def headers(self, asked: str) -> dict[str, str]:
        """The header that the proxy adds to a logged-in person's request for a view.

        Args:
            asked: path and query.
        """
        session_id = self._ids.get(asked) or signed_session_id(self._secret)
        self._ids[asked] = session_id
        self._ids.move_to_end(asked)
        if len(self._ids) > SESSIONS_MAX:
            self._ids.popitem(last=False)
        return {SESSION_HEADER: session_id}


def embed_path(view: str, theme: str = "light", session_id: str | None = None) -> str:
    """The path to load a view from, relative to the web address.

    Args:
        view: one of ``VIEWS``.
        theme: one of ``THEMES``.
        session_id: from ``signed_session_id``; None when the proxy adds it as a header.
    Raises: ValueError: there is no such view or theme.

    >>> embed_path("overview", "dark")
    '/live/overview?theme=dark'
    """
    if view not in VIEWS:
        raise ValueError(f"there is no live view {view!r}; there are {', '.join(VIEWS)}")
    if theme not in THEMES:
        raise ValueError(f"there is no theme {theme!r}; there are {', '.join(THEMES)}")
    query = {"theme": theme} | ({"bokeh-session-id": session_id} if session_id else {})
    return f"{PREFIX}/{quote(view)}?{urlencode(query)}"
