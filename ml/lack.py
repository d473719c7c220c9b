"""The answer "not enough data yet", as a type; never a number that looks like an answer."""

from __future__ import annotations

import msgspec


class TooFewData(msgspec.Struct, frozen=True):
    """No answer yet: so many were seen, about so many are needed."""

    seen: int
    needed: int
