"""Trained models: their versions and metrics; put one in force, or go back."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from storage.audit import audit_entry, record_audit
from storage.errors import StoreConflict, StoreRefused
from storage.models import ModelVersion, list_models, promote, roll_back
from web.api.operation import Body, Call, Operation, Params, Problem

Kind = Annotated[str, Meta(min_length=1, max_length=60)]


class ModelsParams(Params, frozen=True, kw_only=True):
    """Which model; without one: all."""

    kind: Kind | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 100


class KindParams(Params, frozen=True, kw_only=True):
    """Which model."""

    kind: Kind


class VersionParams(Params, frozen=True, kw_only=True):
    """Which version of which model."""

    kind: Kind
    version: Annotated[int, Meta(ge=1, le=2**31)]


class Why(Body, frozen=True, kw_only=True):
    """Why."""

    reason: Annotated[str, Meta(min_length=1, max_length=300)]


async def models(call: Call, params: ModelsParams) -> list[ModelVersion]:
    """The stored versions of the models, newest first."""
    return await list_models(call.database, params.kind, limit=params.limit)


async def put_in_force(call: Call, params: VersionParams, body: Why) -> ModelVersion:
    """Put a version in force; the one before is kept."""
    now = datetime.now(UTC)
    doing = promote(call.database, params.kind, params.version, reason=body.reason, now=now)
    return await _done(call, doing, "model.promoted", body.reason, now)


async def go_back(call: Call, params: KindParams, body: Why) -> ModelVersion:
    """Put the version in force again that served before the present one."""
    now = datetime.now(UTC)
    doing = roll_back(call.database, params.kind, reason=body.reason, now=now)
    return await _done(call, doing, "model.rolled_back", body.reason, now)


async def _done(call: Call, doing: Awaitable[ModelVersion], what: str, reason: str, now: datetime) -> ModelVersion:
    try:
        version = await doing
    except (StoreConflict, StoreRefused):
        raise Problem(409, "Not possible", "There is no such version, or none to go back to.") from None
    entry = audit_entry(
        now,
        who=call.identity.name,
        what=what,
        subject=f"model:{version.kind}",
        reason=reason,
        details={"version": version.version},
    )
    await record_audit(call.database, entry)
    return version


# fmt: off
OPERATIONS = (
    Operation("GET",  "/api/v1/models", models, ModelsParams, answer=list[ModelVersion]),
    Operation("POST", "/api/v1/models/{kind}/versions/{version}/promote", put_in_force, VersionParams, Why,
              ModelVersion, permission="models:write"),
    Operation("POST", "/api/v1/models/{kind}/roll-back", go_back, KindParams, Why, ModelVersion,
              permission="models:write"),
)
# fmt: on
