"""Anomalies: what is and was unwell, and what people do about it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from messaging.contracts import Anomaly, AnomalyHandled, Id
from messaging.errors import MessagingError
from storage.anomaly_notes import AnomalyNote, Comment, change_note, read_notes
from storage.audit import audit_entry
from storage.read_models.anomalies import find_anomaly, read_similar
from storage.read_models.anomaly_saved import Saved, read_saved
from storage.users import find_user
from web.api.operation import Body, Call, Operation, Params, Problem
from web.keys import HEAD
from web.pages.reading import anomalies_of

Text = Annotated[str, Meta(min_length=1, max_length=1_000)]
Reason = Annotated[str, Meta(max_length=300)]


class AnomalyParams(Params, frozen=True, kw_only=True):
    """Which anomaly."""

    anomaly_id: Id


class AnomalyShown(msgspec.Struct, frozen=True, kw_only=True):
    """An anomaly, and where people are with it; None: nobody has touched it."""

    anomaly: Anomaly
    note: AnomalyNote | None


class AnomaliesShown(msgspec.Struct, frozen=True, kw_only=True):
    """Open anomalies, the worst first, and the latest closed ones."""

    open: list[AnomalyShown]
    closed: list[AnomalyShown]


class AnomaliesSimilar(msgspec.Struct, frozen=True, kw_only=True):
    """Earlier anomalies like one."""

    items: list[AnomalyShown]


class Acknowledgement(Body, frozen=True, kw_only=True):
    """Somebody has seen it."""

    reason: Reason = ""


class Snooze(Body, frozen=True, kw_only=True):
    """It need not be told again for so long."""

    minutes: Annotated[int, Meta(ge=1, le=10_080)]
    reason: Reason = ""


class Assignment(Body, frozen=True, kw_only=True):
    """Somebody takes care; without a name nobody does."""

    to: Annotated[str, Meta(max_length=60)] | None = None


class NewComment(Body, frozen=True, kw_only=True):
    """Something to write about it."""

    text: Text


class Judgement(Body, frozen=True, kw_only=True):
    """Whether it was a false alert, in the opinion of whoever looked into it."""

    is_false: bool
    reason: Reason = ""


async def anomalies(call: Call) -> AnomaliesShown:
    """Open anomalies and the latest closed ones, with what people did about them."""
    found = await anomalies_of(call.request)
    notes = await read_notes(call.database, [anomaly.anomaly_id for anomaly in (*found.open, *found.closed)])
    return AnomaliesShown(
        open=[AnomalyShown(anomaly=one, note=notes.get(one.anomaly_id)) for one in found.open],
        closed=[AnomalyShown(anomaly=one, note=notes.get(one.anomaly_id)) for one in found.closed],
    )


async def anomaly(call: Call, params: AnomalyParams) -> AnomalyShown:
    """One anomaly."""
    found = await _found(call, params)
    notes = await read_notes(call.database, [found.anomaly_id])
    return AnomalyShown(anomaly=found, note=notes.get(found.anomaly_id))


async def similar(call: Call, params: AnomalyParams) -> AnomaliesSimilar:
    """Earlier anomalies like this one, those of the very same segment first, with what people did about them."""
    found = await read_similar(call.database, await _found(call, params))
    notes = await read_notes(call.database, [one.anomaly_id for one in found])
    return AnomaliesSimilar(items=[AnomalyShown(anomaly=one, note=notes.get(one.anomaly_id)) for one in found])


async def saved(call: Call, params: AnomalyParams) -> Saved:
    """What routing around it brought: payments that left its gateway and succeeded elsewhere, with an interval."""
    return await read_saved(call.database, await _found(call, params), datetime.now(UTC))


async def acknowledge(call: Call, params: AnomalyParams, body: Acknowledgement) -> AnomalyNote:
    """Say that somebody has seen an anomaly and takes care."""
    fields = {"acknowledged_by": call.identity.name, "acknowledged_at": datetime.now(UTC)}
    said = _handled(call, params, "acknowledge", body.reason)
    return await _changed(call, params, "acknowledged", fields, body.reason, said=said)


async def snooze(call: Call, params: AnomalyParams, body: Snooze) -> AnomalyNote:
    """Send no notifications of an anomaly for a while."""
    until = datetime.now(UTC) + timedelta(minutes=body.minutes)
    said = _handled(call, params, "snooze", body.reason, until=until)
    return await _changed(call, params, "snoozed", {"snoozed_until": until}, body.reason, said=said)


async def assign(call: Call, params: AnomalyParams, body: Assignment) -> AnomalyNote:
    """Give an anomaly to somebody, or to nobody."""
    if body.to and await find_user(call.database, body.to) is None:
        raise Problem(422, "Unknown person", "Nobody of this name may log in.")
    said = _handled(call, params, "assign", "", assignee=body.to[:60]) if body.to else None
    return await _changed(call, params, "assigned", {"assigned_to": body.to or None}, "", to=body.to, said=said)


async def comment(call: Call, params: AnomalyParams, body: NewComment) -> AnomalyNote:
    """Write something about an anomaly."""
    written = Comment(at=datetime.now(UTC), who=call.identity.name, text=body.text)
    return await _changed(call, params, "commented", {}, body.text, written=written)


async def judge(call: Call, params: AnomalyParams, body: Judgement) -> AnomalyNote:
    """Mark an anomaly as a false alert, which closes it and makes the watcher slower to open the like again.

    Taking the mark back is kept for whoever reads; an anomaly that closed stays closed.
    """
    said = _handled(call, params, "mark_false", body.reason) if body.is_false else None
    fields, word = {"is_false": body.is_false}, str(body.is_false).lower()
    return await _changed(call, params, "judged", fields, body.reason, to=word, said=said)


def _handled(  # who, what, and until when or to whom
    call: Call,
    params: AnomalyParams,
    action: Literal["acknowledge", "snooze", "assign", "mark_false"],
    note: str,
    *,
    until: datetime | None = None,
    assignee: str | None = None,
) -> AnomalyHandled:
    """What the anomaly watcher is to hear."""
    return AnomalyHandled(
        event_id=f"evt_{secrets.token_hex(8)}",
        anomaly_id=params.anomaly_id,
        action=action,
        who=call.identity.name[:60],
        handled_at=datetime.now(UTC),
        assignee=assignee,
        until=until,
        note=note,
    )


async def _found(call: Call, params: AnomalyParams) -> Anomaly:
    found = await find_anomaly(call.database, params.anomaly_id)
    if found is None:
        raise Problem(404, "Unknown anomaly", "No anomaly with this id is stored.")
    return found


async def _changed(  # what a change consists of
    call: Call,
    params: AnomalyParams,
    what: str,
    fields: dict[str, Any],
    reason: str,
    *,
    to: str | None = None,
    written: Comment | None = None,
    said: AnomalyHandled | None = None,
) -> AnomalyNote:
    found = await _found(call, params)
    entry = audit_entry(
        datetime.now(UTC),
        who=call.identity.name,
        what=f"anomaly.{what}",
        subject=f"anomaly:{found.anomaly_id}",
        reason=reason,
        details={"to": to} if to else {},
    )
    note = await change_note(call.database, found.anomaly_id, fields, entry, comment=written)
    if said is not None:
        try:
            await call.app[HEAD].say(said)
        except MessagingError:
            raise Problem(
                503, "Noted, not yet told", "The broker does not answer, so the watcher was not told; repeat it later."
            ) from None
    return note


def _write(action: str, handler: Any, body: type[Body]) -> Operation:
    path = f"/api/v1/anomalies/{{anomaly_id}}/{action}"
    return Operation(
        "POST", path, handler, AnomalyParams, body, AnomalyNote, permission="anomalies:write", problems=(404,)
    )


OPERATIONS = (
    Operation("GET", "/api/v1/anomalies", anomalies, answer=AnomaliesShown),
    Operation("GET", "/api/v1/anomalies/{anomaly_id}", anomaly, AnomalyParams, answer=AnomalyShown, problems=(404,)),
    Operation(
        "GET",
        "/api/v1/anomalies/{anomaly_id}/similar",
        similar,
        AnomalyParams,
        answer=AnomaliesSimilar,
        problems=(404,),
    ),
    Operation(
        "GET",
        "/api/v1/anomalies/{anomaly_id}/saved",
        saved,
        AnomalyParams,
        answer=Saved,
        problems=(404,),
    ),
    _write("acknowledge", acknowledge, Acknowledgement),
    _write("snooze", snooze, Snooze),
    _write("assign", assign, Assignment),
    _write("comments", comment, NewComment),
    _write("judge", judge, Judgement),
)
