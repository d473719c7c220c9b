"""Single payments: the latest attempts, and the whole story of one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from messaging.contracts import AttemptStatus
from storage.read_models.attempts import AttemptFilter, StoredAttempt, Story, read_latest, read_story
from web.api.choices import CountryCode
from web.api.operation import Call, Operation, Params, Problem
from web.api.pages import Page, PageParams, decoded, paged

AnyId = Annotated[str, Meta(min_length=1, max_length=80, description="Id of an attempt; case-sensitive.")]
Word = Annotated[str, Meta(min_length=1, max_length=60)]


Minor = Annotated[int, Meta(ge=0, le=10**15)]
Moment = Annotated[datetime, Meta(tz=True)]


class PaymentsParams(PageParams, frozen=True, kw_only=True):
    """Which attempts; ``until`` itself does not count, the bounds of the amount do."""

    status: AttemptStatus | None = None
    gateway: Word | None = None
    method: Word | None = None
    issuer: Word | None = None
    network: Word | None = None
    country: CountryCode | None = None
    currency: Word | None = None
    failure_code: Annotated[str, Meta(min_length=1, max_length=80)] | None = None
    order_id: AnyId | None = None
    customer_id: AnyId | None = None
    amount_minor_min: Minor | None = None
    amount_minor_max: Minor | None = None
    since: Moment | None = None
    until: Moment | None = None


class PaymentParams(Params, frozen=True, kw_only=True):
    """Which attempt."""

    attempt_id: AnyId


async def payments(call: Call, params: PaymentsParams) -> Page[StoredAttempt]:
    """The latest attempts, newest first."""
    found = await read_latest(
        call.database,
        AttemptFilter(**{name: getattr(params, name) for name in AttemptFilter.__struct_fields__}),
        before=decoded(params.cursor, tuple[datetime, str]),
        limit=params.limit + 1,
    )
    return paged(found, params.limit, lambda attempt: (attempt.attempted_at, attempt.attempt_id))


async def payment(call: Call, params: PaymentParams) -> Story:
    """One attempt's whole story: its reports, the router's decision, the failure, the anomalies around it."""
    story = await read_story(call.database, params.attempt_id)
    if story is None:
        raise Problem(404, "Unknown attempt", "No attempt with this id is stored. Ids are case-sensitive.")
    return story


OPERATIONS = (
    Operation("GET", "/api/v1/payments", payments, params=PaymentsParams, answer=Page[StoredAttempt]),
    Operation("GET", "/api/v1/payments/{attempt_id}", payment, params=PaymentParams, answer=Story, problems=(404,)),
)
