"""One viewer's page: builds a view into a Bokeh document and keeps it up to date while it is looked at."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import jinja2
import msgspec
from bokeh.core.templates import get_env
from bokeh.document import Document
from bokeh.models.css import InlineStyleSheet
from bokeh.models.widgets.markups import Div

from storage.read_models.live import LiveFigures, LiveSnapshot
from storage.read_models.live_chosen import NARROW_EVERY_S
from storage.read_models.live_series import WINDOW_MINUTES, MinuteCounts
from web.dashboard.appearance import FONT, LIGHT, Look, Marks
from web.dashboard.asked import asked_of
from web.dashboard.legends import stylesheet
from web.dashboard.panels import Palette, Panel
from web.dashboard.sessions import PREFIX
from web.dashboard.views import BUILDERS


class SharedMarks:
    """The places of all names in the palette, the same for every viewer of the process.

    Args:
        gateways: the configured gateways, in order.
        stages: the stages of the line, in order.
    """

    def __init__(self, gateways: Sequence[str], stages: Sequence[str]) -> None:
        self._gateways, self._stages = Marks(gateways), Marks(stages)
        self._categories, self._experiments = Marks(), Marks()

    def palette(self, look: Look, minutes: int = WINDOW_MINUTES, *, compare: bool = False) -> Palette:
        """The palette in one theme, looking back so far, compared with the period before or not."""
        return Palette(
            look=look,
            minutes=minutes,
            compare=compare,
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


class Figures(Protocol):
    """What a page draws from: everything, or what was chosen.

    ``is_narrow``: single attempts are looked up for it. ``reach``: minutes that are known, 0: too many attempts.
    """

    snapshot: LiveSnapshot
    is_narrow: bool
    reach: int

    def stale_since(self, now: float) -> float | None:
        """Since when the store did not answer; None: it does."""
        ...


class Window:
    """The newest minutes of a snapshot; parts that did not change stay the same objects.

    Args:
        minutes: so many are kept.
    """

    def __init__(self, minutes: int) -> None:
        self._minutes = minutes
        self._last: dict[str, tuple[MinuteCounts, MinuteCounts]] = {}

    def of(self, snapshot: LiveSnapshot) -> LiveSnapshot:
        """The snapshot with fewer minutes."""
        if self._minutes >= WINDOW_MINUTES:
            return snapshot
        for name in ("attempts", "failures"):
            whole: MinuteCounts = getattr(snapshot, name)
            if name not in self._last or self._last[name][0] is not whole:
                self._last[name] = whole, whole.last(self._minutes)
        kept = {name: last for name, (_, last) in self._last.items()}
        kept["attempts_before"] = snapshot.attempts.before(self._minutes)
        return msgspec.structs.replace(snapshot, **kept)


class LivePage:
    """The panels of one view, drawn from the shared figures.

    Args:
        document: where they stand.
        panels: the panels.
        live: the figures; they are held for as long as the page is.
        look: the theme.
        minutes: charts of whole minutes look back so far.
    """

    def __init__(
        self, document: Document, panels: Sequence[Panel], live: Figures, look: Look, minutes: int = WINDOW_MINUTES
    ) -> None:
        self._document, self._panels, self._live = document, panels, live
        self._minutes, self._window = minutes, Window(minutes)
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
                words = status_words(self._live, now, self._minutes)
                if words != self.status.text:
                    self.status.text = words
                snapshot = self._window.of(self._live.snapshot)
                for panel in self._panels:
                    panel.component.update(snapshot, now)
        finally:
            self._document.unhold()

    def close(self, _context: Any) -> None:
        """Let go of everything when the viewer has left."""
        self._panels = ()


def status_words(live: Figures, now: float, minutes: int = WINDOW_MINUTES) -> str:
    """How fresh the figures are, and how far back they reach.

    Args:
        now: seconds since epoch.
        minutes: what the page shows.
    """
    polled_at = live.snapshot.polled_at
    if not live.reach:
        return (
            '<span class="state bad">▲ nothing is shown</span> <small>there are too many attempts a minute to look up '
            "country, amount or arm of each; leave these filters out</small>"
        )
    if polled_at is None:
        return '<span class="state warn">◆ waiting for the first figures</span>'
    stale = live.stale_since(now)
    if stale is not None:
        return f'<span class="state bad">▲ stale since {clock(stale)}</span> <small>the store does not answer</small>'
    words = f'<span class="state good">● live</span> <small>{clock_element(polled_at)}</small>'
    if not live.is_narrow:
        return words
    words += f" <small>looked up one by one every {NARROW_EVERY_S:.0f} s</small>"
    if live.reach >= minutes:
        return words
    return (
        f'{words} <span class="state warn">◆ the newest {live.reach} minutes only</span> '
        "<small>before, there are too many attempts to look them up</small>"
    )


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
        context: Any = document.session_context
        try:
            asked = asked_of(context.request.arguments if context and context.request else {})
            figures = live.of(asked.chosen)
        except ValueError as problem:
            _frame(document, "Not shown", LIGHT, (), str(problem))
            return
        look, panels = asked.look, build(marks.palette(asked.look, asked.minutes, compare=asked.compare))
        page = LivePage(document, panels, figures, look, asked.minutes)
        _frame(document, title, look, panels)
        page.update(time.time())
        document.on_session_destroyed(page.close)
        audience.add(page)

    return fill


def _frame(document: Document, title: str, look: Look, panels: Sequence[Panel], problem: str = "") -> None:
    """Put the page around what stands in a document; with a problem, it says that and asks again by itself."""
    document.title = title
    document.template = TEMPLATE
    document.template_variables.update(look=look, font=FONT, panels=panels, prefix=PREFIX, problem=problem)
    # The page's own script waits for the server and loads anew; a session does not outlive its server.
    document.config.reconnect_session = False
    document.config.notify_connection_status = False


def _drawn(seen: weakref.ref[LivePage]) -> None:
    page = seen()
    if page is not None:
        page.update(time.time())


def _template() -> jinja2.Template:
    """The page around the panels; the embed macro comes from Bokeh's own templates."""
    source = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return get_env().from_string("{% from macros import embed %}" + source)


TEMPLATE: Final = _template()
