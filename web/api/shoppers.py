"""Shopper behaviour: what shoppers do when a payment fails, and what kinds of shoppers there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from msgspec import Meta

from storage.read_models.shoppers import (
    ShopperBehaviour,
    ShopperSegments,
    read_shopper_behaviour,
    read_shopper_segments,
)
from web.api.operation import Call, Operation, Params, Problem

Instant = Annotated[datetime, Meta(tz=True)]
DAYS_DEFAULT = 7
DAYS_MAX = 92


class WindowParams(Params, frozen=True, kw_only=True):
    """Orders started in which window; without times, the last seven days."""

    since: Instant | None = None
    until: Instant | None = None

    def window(self) -> tuple[datetime, datetime]:
        """From when, to before when."""
        until = self.until or datetime.now(UTC)
        since = self.since or until - timedelta(days=DAYS_DEFAULT)
        if not timedelta(0) < until - since <= timedelta(days=DAYS_MAX):
            raise Problem(422, "Bad times", f"`since` must lie before `until`, by {DAYS_MAX} days at most.")
        return since, until


async def behaviour(call: Call, params: WindowParams) -> ShopperBehaviour:
    """The funnel of orders, abandonment after the n-th failure, time to retry, switching, rhythm, repeat failures."""
    since, until = params.window()
    return await read_shopper_behaviour(call.database, since, until, datetime.now(UTC))


async def segments(call: Call, params: WindowParams) -> ShopperSegments:
    """The kinds of shoppers with a description in plain words, and how each one's authorization rate moves."""
    since, until = params.window()
    return await read_shopper_segments(call.database, since, until)


# fmt: off
OPERATIONS = (
    Operation("GET", "/api/v1/shoppers/behaviour", behaviour, WindowParams, answer=ShopperBehaviour, problems=(422,),
              shared=True),
    Operation("GET", "/api/v1/shoppers/segments",  segments,  WindowParams, answer=ShopperSegments,  problems=(422,),
              shared=True),
)
# fmt: on
