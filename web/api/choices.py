"""How a choice of attempts is written as parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from web.choosing import ARM, COUNTRY, NAME_CHARS_MAX

Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
CountryCode = Annotated[str, Meta(pattern=COUNTRY, description="Two capital letters, such as IN.")]
Band = Annotated[
    Literal["0-10", "10-50", "50-200", "200-1000", "1000-up"],
    Meta(description="In major units of each currency; the upper end does not count."),
]
ArmName = Annotated[str, Meta(pattern=ARM, description="Written `experiment/arm`.")]
