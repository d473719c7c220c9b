"""What a view is made of: panels, and the palette that they are drawn with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from bokeh.models.ui.ui_element import UIElement

from storage.read_models.live import LiveSnapshot
from storage.read_models.live_series import WINDOW_MINUTES, MinuteCounts
from web.choosing import BEFORE
from web.dashboard.appearance import TOGETHER, Look, Marks
from web.dashboard.figures_data import MATURE_S, Lines, compared, mature


class Component(Protocol):
    """One panel: what stands in the page, and how it follows the figures."""

    @property
    def root(self) -> UIElement:
        """What stands in the page."""
        ...

    def update(self, snapshot: LiveSnapshot, now: float) -> None:
        """Draw again what changed; ``now`` in seconds since epoch."""
        ...


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """A component with its heading. ``bare`` ones stand without a card; ``wide`` ones take the whole row."""

    name: str
    component: Component
    title: str = ""
    note: str = ""
    wide: bool = False
    bare: bool = False


class Palette(msgspec.Struct, frozen=True, kw_only=True):
    """How a view is drawn: the theme, the places of all names in its colours, and how far back.

    The places are the same for all viewers. ``minutes``: what charts of whole minutes show; ``compare``: together with
    as many minutes before.
    """

    look: Look
    gateways: Marks
    categories: Marks
    stages: Marks
    experiments: Marks
    minutes: int = WINDOW_MINUTES
    compare: bool = False

    @property
    def span(self) -> str:
        """How far back, in words."""
        return "last hour" if self.minutes == WINDOW_MINUTES else f"last {self.minutes} minutes"

    @property
    def mature_note(self) -> str:
        """What charts of whole minutes say of themselves."""
        return f"{self.span}; a minute appears {MATURE_S:.0f} s after its end"

    @property
    def wholes(self) -> tuple[str, str]:
        """What lines of all gateways together are called: those of now, and those of the period before."""
        return TOGETHER, BEFORE[self.minutes]

    def by_minute(self, lines: Callable[[MinuteCounts], Lines]) -> Callable[[LiveSnapshot], Lines]:
        """Compute from the minutes whose attempts have had the time to be reported, and compare when that is wanted."""

        def computed(snapshot: LiveSnapshot) -> Lines:
            if not self.compare:
                return lines(snapshot.attempts)
            return compared(lines, snapshot.attempts, snapshot.attempts_before, self.wholes)

        return lambda snapshot: mature(computed(snapshot), snapshot.polled_at or 0.0)

    def gateway_colour(self, name: str) -> str:
        """The colour of a gateway."""
        return self.gateways.of(name, self.look).colour

    def category_colour(self, name: str) -> str:
        """The colour of a failure category."""
        return self.categories.category(name, self.look)
