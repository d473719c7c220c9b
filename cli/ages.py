"""How long ago, as a person writes it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import click


class Age(click.ParamType):  # type: ignore[type-arg]
    """A whole number with s, m, h or d."""

    name = "age"
    units: ClassVar = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        number, unit = str(value)[:-1], str(value)[-1:]
        if unit not in self.units or not number.isdecimal():
            self.fail(f"{value!r} is no age; write a whole number and s, m, h or d, for example 15m", param, ctx)
        try:
            return timedelta(**{self.units[unit]: int(number)})
        except OverflowError:
            self.fail(f"{value!r} is longer than can be counted", param, ctx)


AGE = Age()
