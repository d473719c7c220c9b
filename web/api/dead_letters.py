"""Dead letters: what a worker could not handle, to be looked at, given back or deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from messaging.dead_letters import DeadLetter, drop_dead_letters, list_dead_letters, replay_dead_letters
from messaging.errors import MessagingError
from messaging.topology import LINE, dead_queue
from storage.audit import audit_entry, record_audit
from storage.rejections import reason_of
from web.api.operation import Body, Call, Operation, Params, Problem
from web.keys import SETTINGS

T = TypeVar("T")

QUEUES = tuple(stage.name for stage in LINE if dead_queue(stage) is not None)
SHOWN_MAX = 200
LISTENS_S_MAX = 1.0
AMQP_PORT = 5672

QueueName = Annotated[str, Meta(min_length=1, max_length=60)]
LetterId = Annotated[str, Meta(min_length=1, max_length=200)]
Reason = Annotated[str, Meta(min_length=1, max_length=300)]


class LetterShown(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter. ``reason``: why it was refused; ``body`` is hidden when it holds card data."""

    queue: str
    message_id: str
    type: str
    died_at: datetime | None
    deaths: int
    cause: str
    reason: str
    readable: bool
    body: str


class QueueParams(Params, frozen=True, kw_only=True):
    """Which queue; without one: all."""

    queue: QueueName | None = None
    limit: Annotated[int, Meta(ge=1, le=SHOWN_MAX)] = 100


class LettersParams(Params, frozen=True, kw_only=True):
    """Which queue."""

    queue: QueueName


class LettersBody(Body, frozen=True, kw_only=True):
    """Which letters: the one with this id, or all of the queue. ``broken``: also those that would die again."""

    reason: Reason
    message_id: LetterId | None = None
    broken: bool = False


class LettersDone(msgspec.Struct, frozen=True, kw_only=True):
    """How many letters it was done to."""

    queue: str
    count: int


async def letters(call: Call, params: QueueParams) -> list[LetterShown]:
    """The dead letters of a queue, or of every queue, oldest first. They stay where they are."""
    await _check_broker(call)
    found: list[LetterShown] = []
    for queue in (_known(params.queue),) if params.queue else QUEUES:
        for letter in await _asked(list_dead_letters(_url(call), queue, limit=params.limit)):
            found.append(await _shown(call, letter))
    return found[:SHOWN_MAX]


async def replay(call: Call, params: LettersParams, body: LettersBody) -> LettersDone:
    """Give dead letters back to their queue; those that cannot be read stay, unless `broken` is set."""
    done = await _asked(
        replay_dead_letters(
            _url(call),
            _known(params.queue),
            only=lambda letter: _chosen(letter, body) and (body.broken or letter.problem is None),
        )
    )
    return await _noted(call, "replayed", params.queue, body, len(done))


async def drop(call: Call, params: LettersParams, body: LettersBody) -> LettersDone:
    """Delete dead letters for good."""
    done = await _asked(drop_dead_letters(_url(call), _known(params.queue), only=lambda letter: _chosen(letter, body)))
    return await _noted(call, "dropped", params.queue, body, len(done))


def _chosen(letter: DeadLetter, body: LettersBody) -> bool:
    return body.message_id in (None, letter.message_id)


def _known(queue: str) -> str:
    if queue not in QUEUES:
        raise Problem(404, "Unknown queue", "No queue of this name has dead letters.")
    return queue


def _url(call: Call) -> str:
    return call.app[SETTINGS].broker.url


async def _check_broker(call: Call) -> None:
    """Tell at once when nobody listens; a connection would be tried for seconds, and somebody waits for the page."""
    parts = urlsplit(_url(call))
    try:
        async with asyncio.timeout(LISTENS_S_MAX):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or AMQP_PORT)
        writer.close()
    except (OSError, TimeoutError):
        raise Problem(503, "No broker", "The broker does not answer; try again in a moment.") from None


async def _asked(asking: Awaitable[T]) -> T:
    try:
        return await asking
    except MessagingError:
        raise Problem(503, "No broker", "The broker does not answer; try again in a moment.") from None


async def _shown(call: Call, letter: DeadLetter) -> LetterShown:
    reason = letter.problem or await reason_of(call.database, letter.queue, letter.body)
    return LetterShown(
        queue=letter.queue,
        message_id=letter.message_id,
        type=letter.type,
        died_at=letter.died_at,
        deaths=letter.deaths,
        cause=letter.cause,
        reason=reason or f"{letter.cause}, {letter.deaths} times; why is not kept",
        readable=letter.problem is None,
        body=letter.shown_body(),
    )


async def _noted(
    call: Call, what: Literal["replayed", "dropped"], queue: str, body: LettersBody, count: int
) -> LettersDone:
    entry = audit_entry(
        datetime.now(UTC),
        who=call.identity.name,
        what=f"dead_letters.{what}",
        subject=f"queue:{queue}",
        reason=body.reason,
        details={"count": count, "message_id": body.message_id},
    )
    await record_audit(call.database, entry)
    return LettersDone(queue=queue, count=count)


# fmt: off
OPERATIONS = (
    Operation("GET",  "/api/v1/dead-letters", letters, QueueParams, answer=list[LetterShown], problems=(404,)),
    Operation("POST", "/api/v1/dead-letters/{queue}/replay", replay, LettersParams, LettersBody, LettersDone,
              permission="dead-letters:write", problems=(404,)),
    Operation("POST", "/api/v1/dead-letters/{queue}/drop",   drop, LettersParams, LettersBody, LettersDone,
              permission="dead-letters:write", problems=(404,)),
)
# fmt: on
