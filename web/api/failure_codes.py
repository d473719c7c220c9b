"""What failure codes mean, what to correct, and what to do with an order that failed."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from messaging.card_data import refuse_card_data
from messaging.codec import encode
from messaging.contracts import FailureCodeCorrected
from messaging.errors import CardDataRefused, MessagingError
from ml.failures.retry import RetryAnswer, advise_retry
from ml.failures.taxonomy import UNKNOWN, category_of
from storage.failure_codes import CodeChange, CodeRow, list_code_changes, list_code_rows
from storage.read_models.failure_codes import OpenCodes, read_open_codes
from storage.read_models.retry_facts import OrderKind, past_try, question_of, read_retry_facts
from web.api.operation import Body, Call, Operation, Params, Problem
from web.keys import GATEWAYS, HEAD

Word = Annotated[str, Meta(min_length=1, max_length=60)]
Limit = Annotated[int, Meta(ge=1, le=500)]


class CodesParams(Params, frozen=True, kw_only=True):
    """Which codes."""

    gateway: Word | None = None
    limit: Limit = 100


class OrderParams(Params, frozen=True, kw_only=True):
    """Which order."""

    order_id: Annotated[str, Meta(min_length=1, max_length=80)]


class NewCorrection(Body, frozen=True, kw_only=True):
    """What a code means; ``category`` null takes it out of the table again."""

    gateway: Word
    category: Word | None
    reason: Annotated[str, Meta(min_length=1, max_length=300)]
    failure_code: Annotated[str, Meta(max_length=80)] | None = None
    failure_message: Annotated[str, Meta(max_length=500)] | None = None


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """The correction as it was said at the head of the line; it is in force within seconds."""

    event_id: str
    gateway: str
    category: str | None


class RetryAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with an order, and what that rests on."""

    order_id: str
    advised_at: datetime
    category: str
    confidence: float
    evidence: str
    failures: int
    answer: RetryAnswer


async def open_codes(call: Call, params: CodesParams) -> OpenCodes:
    """Codes of the last 30 days that no table knows, with the model's best guesses: to confirm or to correct."""
    return await read_open_codes(call.database, datetime.now(UTC), gateway=params.gateway, limit=params.limit)


async def code_table(call: Call, params: CodesParams) -> list[CodeRow]:
    """What operators have entered."""
    return await list_code_rows(call.database, gateway=params.gateway, limit=params.limit)


async def code_history(call: Call, params: CodesParams) -> list[CodeChange]:
    """Who changed which row, newest first."""
    found = await list_code_changes(call.database, limit=params.limit)
    return [change for change in found if params.gateway in (None, change.row.gateway)]


async def correct(call: Call, body: NewCorrection) -> Correction:
    """Say what a code means. Earlier failures with it are classified anew, and the text model learns from it."""
    if not (body.failure_code or "").strip() and not (body.failure_message or "").strip():
        raise Problem(422, "Nothing named", "A code or a message must say what is meant.")
    if body.category is not None:
        try:
            category_of(body.category)
        except ValueError:
            raise Problem(422, "Unknown category", "No failure category has this name; see the README.") from None
        if body.category == UNKNOWN:
            raise Problem(422, "No category", "Send null to take a code out of the table.")
    said = FailureCodeCorrected(
        event_id=f"cor_{secrets.token_hex(8)}",
        corrected_at=datetime.now(UTC),
        corrected_by=call.identity.name[:60],
        gateway=body.gateway,
        category=body.category,
        failure_code=body.failure_code,
        failure_message=body.failure_message,
        reason=body.reason,
    )
    try:
        refuse_card_data(encode(said))
        await call.app[HEAD].say(said)
    except CardDataRefused:
        raise Problem(422, "Card data", "It holds what looks like a card number; nothing of it was kept.") from None
    except MessagingError:
        raise Problem(503, "Not said", "The broker does not answer; nothing was changed. Try again.") from None
    return Correction(event_id=said.event_id, gateway=said.gateway, category=said.category)


async def retry_advice(call: Call, params: OrderParams) -> RetryAdvice:
    """What to do with an order whose last attempt failed: try again now and where, later, ask the shopper, or never."""
    now = datetime.now(UTC)
    facts = await read_retry_facts(call.database, params.order_id, OrderKind(), call.app[GATEWAYS], now)
    if not facts.failures:
        raise Problem(404, "No failure", "No failed attempt of this order is stored. Ids are case-sensitive.")
    last = facts.failures[-1]
    answer = advise_retry(question_of(facts, [past_try(failure) for failure in facts.failures], now))
    return RetryAdvice(
        order_id=params.order_id,
        advised_at=now,
        category=last.category,
        confidence=last.confidence,
        evidence=last.evidence,
        failures=len(facts.failures),
        answer=answer,
    )


# fmt: off
OPERATIONS = (
    Operation("GET",  "/api/v1/failure-codes",          code_table, params=CodesParams, answer=list[CodeRow]),
    Operation("GET",  "/api/v1/failure-codes/open",     open_codes, params=CodesParams, answer=OpenCodes, shared=True),
    Operation("GET",  "/api/v1/failure-codes/history",  code_history, params=CodesParams, answer=list[CodeChange]),
    Operation("POST", "/api/v1/failure-codes",          correct, body=NewCorrection, answer=Correction,
              permission="failures:write", status=202, problems=(422, 503)),
    Operation("GET",  "/api/v1/orders/{order_id}/retry-advice", retry_advice, params=OrderParams, answer=RetryAdvice,
              problems=(404,)),
)
# fmt: on
