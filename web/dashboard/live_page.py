"""One viewer's page: builds a view into a Bokeh document and keeps it up to date while it is looked at."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
from bokeh.core.templates import get_env
from bokeh.document import Document
from bokeh.models.css import InlineStyleSheet
from bokeh.models.widgets.markups import Div

from storage.read_models.live import LiveFigures
from web.dashboard.appearance import FONT, LOOKS, Look, Marks
from web.dashboard.legends import stylesheet
from web.dashboard.sessions import PREFIX
from web.dashboard.views import BUILDERS, Palette, Panel


class SharedMarks:
    """The places of all names in the palette, the same for every viewer of the process.

    Args:
        gateways: the configured gateways, in order.
        stages: the stages of the line, in order.
    """

    def __init__(self, gateways: Sequence[str], stages: Sequence[str]) -> None:
        self._gateways, self._stages = Marks(gateways), Marks(stages)
        self._categories, self._experiments = Marks(), Marks()

    def palette(self, look: Look) -> Palette:
        """The palette in one theme."""
        return Palette(
            look=look,
            gateways=self._gateways,
            categories=self._categories,
            stages=self._stages,
            experiments=self._experiments,
        )


class Audience:
    """All pages that somebody looks at; each is drawn anew when there are new figures, and at no other time."""

    def __init__(self) -> None:
        self._pages: weakref.WeakSet[LivePage] = weakref.WeakSet()

    def add(self, page: LivePage) -> None:
        """Tell a page from now on, for as long as it is held elsewhere."""
        self._pages.add(page)

    def tell(self) -> None:
        """Let every page draw what changed, as soon as its document is free."""
        for page in tuple(self._pages):
            page.draw_soon()


class LivePage:
    """The panels of one view, drawn from the shared figures."""

    def __init__(self, document: Document, panels: Sequence[Panel], live: LiveFigures, look: Look) -> None:
        self._document, self._panels, self._live = document, panels, live
        self._is_waiting = False
        css = InlineStyleSheet(css=stylesheet(look))
        self.status = Div(name="status", text="", margin=0, sizing_mode="stretch_width", stylesheets=[css])
        with document.models.freeze():
            document.add_root(self.status)
            for panel in panels:
                panel.component.root.name = panel.name
                document.add_root(panel.component.root)

    def draw_soon(self) -> None:
        """Draw what changed when the document is free; a page that still waits for that is not told twice."""
        if self._is_waiting or not self._panels:
            return
        self._is_waiting = True
        seen = weakref.ref(self)  # the callback must not keep a page alive
        self._document.add_next_tick_callback(lambda: _drawn(seen))

    def update(self, now: float) -> None:
        """Draw what changed.

        Args:
            now: seconds since epoch.
        """
        self._is_waiting = False
        self._document.hold("combine")
        try:
            # Without this, Bokeh walks through the whole document again for every line that is added: seconds.
            with self._document.models.freeze():
                words = status_words(self._live, now)
                if words != self.status.text:
                    self.status.text = words
                for panel in self._panels:
                    panel.component.update(self._live.snapshot, now)
        finally:
            self._document.unhold()

    def close(self, _context: Any) -> None:
        """Let go of everything when the viewer has left."""
        self._panels = ()


def status_words(live: LiveFigures, now: float) -> str:
    """How fresh the figures are."""
    polled_at = live.snapshot.polled_at
    if polled_at is None:
        return '<span class="state warn">◆ waiting for the first figures</span>'
    stale = live.stale_since(now)
    if stale is not None:
        return f'<span class="state bad">▲ stale since {clock(stale)}</span> <small>the store does not answer</small>'
    return f'<span class="state good">● live</span> <small>{clock_element(polled_at)}</small>'


def clock(at: float) -> str:
    """A moment as people read it.

    >>> clock(0.0)
    '00:00:00 UTC'
    """
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"


def clock_element(at: float) -> str:
    """A moment as people read it, and to the millisecond for programs."""
    exact = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return f'<time datetime="{exact}">{clock(at)}</time>'


def application(view: str, live: LiveFigures, marks: SharedMarks, audience: Audience) -> Callable[[Document], None]:
    """The function that fills a new document.

    Args:
        view: a key of ``BUILDERS``.
    """
    title, build = BUILDERS[view]

    def fill(document: Document) -> None:
        look = LOOKS[theme_of(document)]
        panels = build(marks.palette(look))
        page = LivePage(document, panels, live, look)
        document.title = title
        document.template = TEMPLATE
        document.template_variables.update(look=look, font=FONT, panels=panels, prefix=PREFIX)
        # The page's own script waits for the server and loads anew; a session does not outlive its server.
        document.config.reconnect_session = False
        document.config.notify_connection_status = False
        page.update(time.time())
        document.on_session_destroyed(page.close)
        audience.add(page)

    return fill


def theme_of(document: Document) -> str:
    """The theme that the request asked for; light when it asked for none that there is."""
    context: Any = document.session_context
    asked = context.request.arguments.get("theme", [b""]) if context and context.request else [b""]
    theme = asked[0].decode(errors="replace")
    return theme if theme in LOOKS else "light"


def _drawn(seen: weakref.ref[LivePage]) -> None:
    page = seen()
    if page is not None:
        page.update(time.time())


def _template() -> jinja2.Template:
    """The page around the panels; the embed macro comes from Bokeh's own templates."""
    source = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return get_env().from_string("{% from macros import embed %}" + source)


TEMPLATE: Final = _template()
