"""Incident replay: what was known at a past moment."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from storage.read_models.replay import Moment, read_moment
from web.api.operation import Call, Operation, Params, Problem


class ReplayParams(Params, frozen=True, kw_only=True):
    """Which moment."""

    at: Annotated[datetime, Meta(tz=True)]


async def replay(call: Call, params: ReplayParams) -> Moment:
    """What was known at a past moment: attempts by the reports that had come in, anomalies as far as noticed."""
    if params.at > datetime.now(UTC):
        raise Problem(400, "Not yet", "The moment lies in the future.")
    if params.at.year < 2000:
        raise Problem(400, "Too long ago", "Nothing is kept from then.")
    return await read_moment(call.database, params.at)


OPERATIONS = (Operation("GET", "/api/v1/replay", replay, params=ReplayParams, answer=Moment),)
