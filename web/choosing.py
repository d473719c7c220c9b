"""What a viewer chose to look at, as it stands in an address: ``?gateway=alpha&method=card&method=upi``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from storage.read_models.amount_bands import AMOUNT_BANDS
from storage.read_models.chosen import ALL, CHOICES, Chosen

NAMES_MAX: Final = 20
NAME_CHARS_MAX: Final = 60
TOO_MANY: Final = f"Up to {NAMES_MAX} names of each kind can be chosen."
ANY_NAME: Final = f"(?s:.{{1,{NAME_CHARS_MAX}}})"

COUNTRY: Final = "^[A-Z]{2}$"
ARM: Final = f"^[^/]{{1,{NAME_CHARS_MAX}}}/.{{1,{NAME_CHARS_MAX}}}$"

SHAPES: Final = {
    "country": (COUNTRY, "A country is two capital letters, such as IN."),
    "amount": ("|".join(AMOUNT_BANDS), f"An amount is one of {', '.join(AMOUNT_BANDS)}, in major units."),
    "arm": (ARM, "An arm is written experiment/arm."),
}
"""How a name is written where not every one will do, and what to say of another."""

LIVE_RANGES: Final = {"15m": 15, "1h": 60}
"""How far live charts of whole minutes look back, minutes; the page Trends shows more."""

LIVE_RANGE: Final = "1h"
BEFORE: Final = {15: "the 15 minutes before", 60: "the hour before"}
"""What live charts compare with, by how many minutes they look back."""


def chosen_of(values: Callable[[str], Sequence[str]], dimensions: Sequence[str] = CHOICES) -> Chosen:
    """Read a choice; empty values choose nothing, a name counts once, and their order does not matter.

    Args:
        values: what an address says under a name.
        dimensions: what can be chosen; others are not heeded.
    Raises: ValueError: says what does not fit.

    >>> chosen_of(lambda name: ["card", "", "card"] if name == "method" else []).names
    [('method', 'card')]
    """
    chosen = {}
    for name in dimensions:
        known = {checked(name, value) for value in values(name) if value}
        if len(known) > NAMES_MAX:
            raise ValueError(TOO_MANY)
        order = AMOUNT_BANDS if name == "amount" else sorted(known)
        chosen[name] = tuple(value for value in order if value in known)
    return Chosen(**chosen)


def checked(dimension: str, name: str) -> str:
    """A name that can be one of this dimension.

    Raises: ValueError: says how names are written.

    >>> checked("country", "IN")
    'IN'
    """
    shape, problem = SHAPES.get(dimension, (ANY_NAME, TOO_MANY))
    if not re.fullmatch(shape, name):
        raise ValueError(problem)
    return name


def compared(said: str | None, chosen: Chosen) -> bool:
    """Whether live charts are compared with the time before; what only single attempts tell is compared in Trends."""
    return said == "1" and not chosen.is_narrow


def said_in(query: Mapping[str, str]) -> Callable[[str], Sequence[str]]:
    """What a query string says under a name, as ``chosen_of`` asks for it."""
    getall: Any = getattr(query, "getall", lambda name, _: [query[name]] if name in query else [])
    return lambda name: getall(name, [])


class LiveChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What a page with live views shows: how far back, and which attempts.

    ``range``: a key of ``LIVE_RANGES``. ``compare``: with as long a time before. ``problem``: what did not fit; empty:
    everything did.
    """

    range: str
    chosen: Chosen
    compare: bool = False
    problem: str = ""

    @property
    def minutes(self) -> int:
        """How far live charts of whole minutes look back."""
        return LIVE_RANGES[self.range]

    @property
    def before(self) -> str:
        """What is compared with, in words."""
        return BEFORE[self.minutes]

    def address(self, *, without: tuple[str, str] | None = None, **changes: str) -> str:
        """The query string, with another range, compared or not, or without one name.

        >>> LiveChoice(range="15m", chosen=Chosen(method=("card", "upi"))).address(without=("method", "upi"))
        'range=15m&method=card'
        """
        names = [name for name in self.chosen.names if name != without]
        compare = changes.get("compare", str(int(self.compare)))
        compared = [("compare", compare)] if compare == "1" else []
        return urlencode([("range", changes.get("range", self.range)), *compared, *names])

    def trends_address(self, since: datetime, until: datetime) -> str:
        """The query string of Trends for exactly these minutes, with as long a time before: a range's name would move.

        Args:
            since, until: whole minutes.

        >>> noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
        >>> LiveChoice(range="15m", chosen=Chosen(method=("card",))).trends_address(noon, noon.replace(minute=15))
        'from=2026-01-31T12%3A00Z&to=2026-01-31T12%3A15Z&compare=1&method=card'
        """
        start, end = (f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}" for moment in (since, until))
        return urlencode([("from", start), ("to", end), ("compare", "1"), *self.chosen.names])


def live_choice(query: Mapping[str, str], dimensions: Sequence[str] = CHOICES) -> LiveChoice:
    """Read the address of a page with live views; what does not fit leaves everything chosen, and is told.

    Args:
        query: of the address.
        dimensions: what can be chosen on the page.
    """
    span = query.get("range", LIVE_RANGE)
    try:
        if span not in LIVE_RANGES:
            raise ValueError(f"Live views look back {' or '.join(LIVE_RANGES)}; Trends shows more.")
        chosen = chosen_of(said_in(query), dimensions)
        return LiveChoice(range=span, chosen=chosen, compare=compared(query.get("compare"), chosen))
    except ValueError as error:
        return LiveChoice(range=LIVE_RANGE, chosen=ALL, problem=str(error))
