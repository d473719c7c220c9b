"""What a request for a live view asks for: theme, how far back, and which attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from storage.read_models.chosen import ALL, Chosen
from web.choosing import LIVE_RANGE, LIVE_RANGES, chosen_of, compared
from web.dashboard.appearance import LIGHT, LOOKS, Look


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How a view is wanted."""

    look: Look = LIGHT
    minutes: int = LIVE_RANGES[LIVE_RANGE]
    chosen: Chosen = ALL
    compare: bool = False


def asked_of(arguments: Mapping[str, Sequence[bytes]]) -> Asked:
    """Read the arguments of a request; a theme or a range that there is not is left at its default.

    Raises: ValueError: the choice does not fit.

    >>> asked_of({"theme": [b"dark"], "range": [b"15m"], "method": [b"card"]}).chosen.names
    [('method', 'card')]
    """

    def said(name: str) -> list[str]:
        return [value.decode(errors="replace") for value in arguments.get(name, ())]

    chosen = chosen_of(said)
    theme, span = [*said("theme"), ""][0], [*said("range"), ""][0]
    return Asked(
        look=LOOKS.get(theme, LIGHT),
        minutes=LIVE_RANGES.get(span, LIVE_RANGES[LIVE_RANGE]),
        chosen=chosen,
        compare=compared([*said("compare"), None][0], chosen),
    )
