"""How things went over a time range: the figures of the page Trends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from storage.read_models.history import By, History
from web.api.choices import ArmName, Band, CountryCode, Name
from web.api.operation import Call, Operation, Params, Problem
from web.choosing import NAMES_MAX
from web.pages.trends import asked_of, read_trends

MOMENT_CHARS_MAX: Final = 40
Moment = Annotated[
    str, Meta(min_length=1, max_length=MOMENT_CHARS_MAX, description="`now`, `now-90m`, or RFC 3339; UTC if no offset.")
]
Several: Final = Meta(max_length=NAMES_MAX)


class TrendsParams(Params, frozen=True, kw_only=True):
    """Which attempts, and when: a ``range``, or ``from`` and ``to``; without both the last hour. Names may repeat."""

    range: Literal["15m", "1h", "6h", "24h", "7d"] | None = None
    since: Moment | None = msgspec.field(default=None, name="from")
    until: Moment | None = msgspec.field(default=None, name="to")
    by: By = "gateway"
    compare: Literal["0", "1"] = "1"
    gateway: Annotated[list[Name], Several] = msgspec.field(default_factory=list)
    method: Annotated[list[Name], Several] = msgspec.field(default_factory=list)
    issuer: Annotated[list[Name], Several] = msgspec.field(default_factory=list)
    currency: Annotated[list[Name], Several] = msgspec.field(default_factory=list)
    country: Annotated[list[CountryCode], Several] = msgspec.field(default_factory=list)
    amount: Annotated[list[Band], Several] = msgspec.field(default_factory=list)
    arm: Annotated[list[ArmName], Several] = msgspec.field(default_factory=list)


async def trends(call: Call, params: TrendsParams) -> History:
    """Rate, volume, money and latency in steps over a time range, by one dimension, and over the range before it.

    Country, amount and arm are looked up attempt by attempt: beyond a bound the answer is 400, and says what to choose.
    """
    try:
        asked = asked_of(call.request.query, datetime.now(UTC))
    except ValueError as error:
        raise Problem(400, "Bad range or choice", str(error)) from None
    history, _ = await read_trends(call.request, asked)
    return history


OPERATIONS = (Operation("GET", "/api/v1/trends", trends, params=TrendsParams, answer=History),)
