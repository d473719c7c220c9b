"""The override of the routing: a fixed order above every policy, until it ends or is released."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from messaging.contracts import RoutingOverridden, RoutingOverride, RoutingReleased
from storage.audit import audit_entry
from storage.routing_overrides import last_release, override_in_force, record_override, record_release
from web.api.operation import Body, Call, Operation, Problem
from web.api.telling import tell_routers
from web.keys import GATEWAYS

Reason = Annotated[str, Meta(min_length=1, max_length=300)]
Name = Annotated[str, Meta(min_length=1, max_length=60)]
SUBJECT = "routing:override"


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """What holds now; null: the policies decide."""

    override: RoutingOverride | None


class NewOverride(Body, frozen=True, kw_only=True):
    """Gateways in the order to try them, for ``minutes``, else until it is released."""

    order: Annotated[list[Name], Meta(min_length=1, max_length=50)]
    reason: Reason
    minutes: Annotated[int, Meta(ge=1, le=43_200)] | None = None


class Release(Body, frozen=True, kw_only=True):
    """Why."""

    reason: Reason


async def current(call: Call) -> Override:
    """The override that holds, if any."""
    return Override(override=await override_in_force(call.database, datetime.now(UTC)))


async def put(call: Call, body: NewOverride) -> RoutingOverride:
    """Override the routing: every payment is tried in this order, nothing is explored, experiments get no payments.

    Pauses, and what a gateway takes, still hold. The override is stored first and then told to the routers. 503 means
    that it is stored, but that the broker could not be told; routers read it when they are connected again.
    """
    unknown = [name for name in body.order if name not in call.app[GATEWAYS]]
    if unknown or len(set(body.order)) < len(body.order):
        raise Problem(422, "Bad order", "The order names each of some configured gateways once.")
    now = datetime.now(UTC)
    made = RoutingOverride(
        override_id=f"ovr_{secrets.token_hex(8)}",
        order=body.order,
        starts_at=now,
        ends_at=now + timedelta(minutes=body.minutes) if body.minutes else None,
        who=call.identity.name[:60],
        reason=body.reason,
    )
    details = {"order": ", ".join(body.order), "ends_at": made.ends_at.isoformat() if made.ends_at else None}
    entry = audit_entry(
        now, who=call.identity.name, what="routing.overridden", subject=SUBJECT, reason=body.reason, details=details
    )
    await record_override(call.database, made, entry)
    await tell_routers(call, RoutingOverridden(override=made))
    return made


async def release(call: Call, body: Release) -> Override:
    """Let the policies decide again. When they do already, the routers are told once more, and the answer is 404."""
    now = datetime.now(UTC)
    held = await override_in_force(call.database, now)
    if held is None:
        if (last := await last_release(call.database)) is not None:
            await tell_routers(call, last)
        raise Problem(404, "Not overridden", "The policies decide already; routers were told again.")
    released = RoutingReleased(
        override_id=held.override_id, released_at=now, who=call.identity.name[:60], reason=body.reason
    )
    entry = audit_entry(
        now,
        who=call.identity.name,
        what="routing.released",
        subject=SUBJECT,
        reason=body.reason,
        details={"override_id": held.override_id},
    )
    await record_release(call.database, released, entry)
    await tell_routers(call, released)
    return Override(override=None)


OPERATIONS = (
    Operation("GET", "/api/v1/routing/override", current, answer=Override),
    Operation(
        "POST", "/api/v1/routing/override", put, body=NewOverride, answer=RoutingOverride,
        permission="routing:write", status=201, problems=(422, 503),
    ),
    Operation(
        "POST", "/api/v1/routing/override/release", release, body=Release, answer=Override,
        permission="routing:write", problems=(404, 503),
    ),
)  # fmt: skip
