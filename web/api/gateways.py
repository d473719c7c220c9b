"""Gateways: how they stand, and an operator's pauses and planned maintenance."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta

from messaging.contracts import GatewayPause, GatewayPaused, GatewayResumed
from storage.audit import audit_entry
from storage.gateway_pauses import find_pause, record_pause, record_resumption
from storage.read_models.gateway_standing import GatewayStanding
from web.api.operation import Body, Call, Operation, Params, Problem
from web.api.telling import tell_routers
from web.keys import GATEWAYS
from web.pages.reading import standings_of

Instant = Annotated[datetime, Meta(tz=True)]
Reason = Annotated[str, Meta(min_length=1, max_length=300)]
Name = Annotated[str, Meta(min_length=1, max_length=60)]

AHEAD_MAX = timedelta(days=366)
LASTS_MAX = timedelta(days=30)


class GatewayParams(Params, frozen=True, kw_only=True):
    """Which gateway."""

    gateway: Name


class PauseParams(Params, frozen=True, kw_only=True):
    """Which pause of which gateway."""

    gateway: Name
    pause_id: Annotated[str, Meta(min_length=1, max_length=80)]


class NewPause(Body, frozen=True, kw_only=True):
    """A pause: from now or ``starts_at`` on, for ``minutes`` or until ``ends_at``, else until it is resumed."""

    reason: Reason
    kind: Literal["pause", "maintenance"] = "pause"
    minutes: Annotated[int, Meta(ge=1, le=43_200)] | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None


class Resumption(Body, frozen=True, kw_only=True):
    """Why."""

    reason: Reason


async def gateways(call: Call) -> list[GatewayStanding]:
    """Each gateway: what it takes, its last minutes, its health, its pauses."""
    return await standings_of(call.request)


async def pause(call: Call, params: GatewayParams, body: NewPause) -> GatewayPause:
    """Pause a gateway, or plan maintenance: routers send no payment there meanwhile.

    The pause is stored first and then told to the routers. 503 means that it is stored, but that the broker could not
    be told; routers read it when they are connected again.
    """
    _known(call, params.gateway)
    now = datetime.now(UTC)
    starts_at = body.starts_at or now
    ends_at = starts_at + timedelta(minutes=body.minutes) if body.minutes else body.ends_at
    if ends_at is not None and ends_at <= max(now, starts_at):
        raise Problem(422, "Bad times", "The end must lie after the start and in the future.")
    if starts_at > now + AHEAD_MAX or (ends_at is not None and ends_at - starts_at > LASTS_MAX):
        raise Problem(422, "Bad times", "It must start within a year and last 30 days at most.")
    made = GatewayPause(
        pause_id=f"pau_{secrets.token_hex(8)}",
        gateway=params.gateway,
        kind=body.kind,
        starts_at=starts_at,
        ends_at=ends_at,
        who=call.identity.name[:60],
        reason=body.reason,
    )
    entry = audit_entry(
        now,
        who=call.identity.name,
        what="gateway.paused" if body.kind == "pause" else "gateway.maintenance_planned",
        subject=f"gateway:{params.gateway}",
        reason=body.reason,
        details={
            "pause_id": made.pause_id,
            "starts_at": starts_at.isoformat(),
            "ends_at": None if ends_at is None else ends_at.isoformat(),
        },
    )
    await record_pause(call.database, made, entry)
    await tell_routers(call, GatewayPaused(pause=made))
    return made


async def resume(call: Call, params: PauseParams, body: Resumption) -> GatewayPause:
    """Take a pause or a planned maintenance back."""
    found = await find_pause(call.database, params.pause_id)
    if found is None or found.gateway != params.gateway:
        raise Problem(404, "Unknown pause", "This gateway has no such pause.")
    now = datetime.now(UTC)
    resumed = GatewayResumed(
        pause_id=found.pause_id,
        gateway=found.gateway,
        resumed_at=now,
        who=call.identity.name[:60],
        reason=body.reason,
    )
    entry = audit_entry(
        now,
        who=call.identity.name,
        what="gateway.resumed",
        subject=f"gateway:{found.gateway}",
        reason=body.reason,
        details={"pause_id": found.pause_id},
    )
    await record_resumption(call.database, resumed, entry)
    await tell_routers(call, resumed)
    return found


def _known(call: Call, gateway: str) -> None:
    if gateway not in call.app[GATEWAYS]:
        raise Problem(404, "Unknown gateway", "No gateway of this name is configured.")


# fmt: off
OPERATIONS = (
    Operation("GET",  "/api/v1/gateways",                   gateways, answer=list[GatewayStanding]),
    Operation("POST", "/api/v1/gateways/{gateway}/pauses",  pause, GatewayParams, NewPause, GatewayPause,
              permission="gateways:write", status=201, problems=(404,)),
    Operation("POST", "/api/v1/gateways/{gateway}/pauses/{pause_id}/resume", resume, PauseParams, Resumption,
              GatewayPause, permission="gateways:write", problems=(404,)),
)
# fmt: on
