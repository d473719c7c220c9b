"""One experiment: its whole story, and an operator's word to end it or to let it go on."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from messaging.card_data import refuse_card_data
from messaging.codec import encode
from messaging.contracts import ExperimentResumed, ExperimentStopped
from messaging.errors import CardDataRefused, MessagingError
from storage.read_models.experiment_report import ExperimentStory, read_story
from web.api.operation import Body, Call, Operation, Params, Problem
from web.keys import HEAD


class ExperimentParams(Params, frozen=True, kw_only=True):
    """Which experiment."""

    name: Annotated[str, Meta(min_length=1, max_length=60)]


class Word(Body, frozen=True, kw_only=True):
    """Why."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]


async def story(call: Call, params: ExperimentParams) -> ExperimentStory:
    """Question, design, course, parts, cost and next step of one experiment."""
    found = await read_story(call.database, params.name, datetime.now(UTC))
    if found is None:
        raise Problem(404, "Unknown experiment", "No experiment of this name was ever reported.")
    return found


async def stop(call: Call, params: ExperimentParams, body: Word) -> ExperimentStopped:
    """End an experiment: its payments get the default policy. Routers obey within a second."""
    await story(call, params)
    order = ExperimentStopped(
        change_id=f"chg_{secrets.token_hex(8)}", experiment=params.name, at=datetime.now(UTC),
        who=call.identity.name[:60], reason=body.reason,
    )  # fmt: skip
    await _tell(call, order)
    return order


async def resume(call: Call, params: ExperimentParams, body: Word) -> ExperimentResumed:
    """Let a stopped experiment go on with its counts."""
    await story(call, params)
    order = ExperimentResumed(
        change_id=f"chg_{secrets.token_hex(8)}", experiment=params.name, at=datetime.now(UTC),
        who=call.identity.name[:60], reason=body.reason,
    )  # fmt: skip
    await _tell(call, order)
    return order


async def _tell(call: Call, order: ExperimentStopped | ExperimentResumed) -> None:
    try:
        refuse_card_data(encode(order))
        await call.app[HEAD].say(order)
    except CardDataRefused:
        raise Problem(422, "Card data", "The reason holds what looks like a card number; nothing was kept.") from None
    except MessagingError:
        raise Problem(503, "Not told", "The broker does not answer; nothing was changed. Try again.") from None


# fmt: off
OPERATIONS = (
    Operation("GET",  "/api/v1/experiments/{name}",        story, ExperimentParams, answer=ExperimentStory,
              problems=(404,)),
    Operation("POST", "/api/v1/experiments/{name}/stop",   stop, ExperimentParams, Word, ExperimentStopped,
              permission="experiments:write", status=202, problems=(404,)),
    Operation("POST", "/api/v1/experiments/{name}/resume", resume, ExperimentParams, Word, ExperimentResumed,
              permission="experiments:write", status=202, problems=(404,)),
)
# fmt: on
