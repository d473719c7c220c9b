"""Serves a row of the REST interface: who may, what was sent, once only, and what is answered."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, get_origin, get_type_hints

import msgspec
from aiohttp import web

from storage.errors import StoreRefused
from storage.idempotency import Begun, begin, forget, keep
from web.api.operation import Call, Operation, Params, Problem
from web.api.problems import problem
from web.auth import CSRF_HEADER, SESSION_COOKIE, csrf_fits
from web.keys import DATABASE, IDENTITY, TRENDS

KEY_HEADER: Final = "Idempotency-Key"
KEY_CHARS_MAX: Final = 100
DETAIL_CHARS_MAX: Final = 300
JSON: Final = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def served(operation: Operation) -> Handler:
    """Make the function that answers requests for a row."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            _check_rights(request, operation)
            if operation.writes:
                return await _once(request, operation)
            return _read_answer(request, operation, await _read(request, operation))
        except Problem as error:
            return problem(request, error.status, error.title, error.detail)
        except StoreRefused:
            return problem(request, 422, "Not storable", "A value lies beyond what the store can keep.")

    return answer


async def _read(request: web.Request, operation: Operation) -> Any:
    if not operation.shared:
        return await _called(request, operation, b"")
    return await request.app[TRENDS].get(f"api {request.path_qs}", lambda: _called(request, operation, b""))


def _check_rights(request: web.Request, operation: Operation) -> None:
    identity = request[IDENTITY]
    if operation.permission not in identity.permissions:
        raise Problem(403, "Not allowed", f"This needs the permission `{operation.permission}`.")
    if operation.writes and identity.via == "session":
        cookie = request.cookies.get(SESSION_COOKIE)
        if not csrf_fits(cookie, request.headers.get(CSRF_HEADER)):
            raise Problem(403, "No form token", f"With a session cookie, send the page's token in {CSRF_HEADER}.")


async def _called(request: web.Request, operation: Operation, raw: bytes) -> Any:
    arguments: list[Any] = [Call(request)]
    if operation.params is not None:
        arguments.append(_params(request, operation.params))
    elif request.query:
        raise Problem(400, "Unknown parameter", "This operation has no query parameters.")
    if operation.body is not None:
        arguments.append(_body(raw, operation.body))
    return await operation.handler(*arguments)


def _params(request: web.Request, kind: type[Params]) -> Params:
    lists = {name for name, hint in get_type_hints(kind).items() if get_origin(hint) is list}
    given: dict[str, Any] = {}
    for name in request.query:
        values = request.query.getall(name)
        if name not in lists and len(values) > 1:
            raise Problem(400, "Repeated parameter", "A parameter that is no list may be given once.")
        given[name] = values if name in lists else values[0]
    try:
        return msgspec.convert({**given, **request.match_info}, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(400, "Bad parameter", _without_values(error)) from None


def _body(raw: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise Problem(422, "Bad body", _without_values(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "No JSON", "The body must be one JSON object in UTF-8.") from None


def _without_values(error: msgspec.ValidationError) -> str:
    """What does not fit, and where; never what was sent, except the name of a field."""
    text = str(error)
    if text.startswith("Invalid enum value"):
        _, at, place = text.rpartition(" - at ")
        text = f"Invalid value{at}{place}"
    return text[:DETAIL_CHARS_MAX]


async def _once(request: web.Request, operation: Operation) -> web.StreamResponse:
    """Carry a write out; under an ``Idempotency-Key`` a second time gives the first answer again."""
    raw = await request.read()
    if operation.body is not None and request.content_type != JSON:
        raise Problem(415, "Not JSON", f"Send the body as {JSON}.")
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return _write_answer(operation, await _called(request, operation, raw))
    if not 1 <= len(key) <= KEY_CHARS_MAX:
        raise Problem(400, "Bad key", f"{KEY_HEADER} has 1 to {KEY_CHARS_MAX} characters.")
    database, name = request.app[DATABASE], f"{request[IDENTITY].name}|{key}"
    asked = hashlib.sha256(f"{request.method} {request.path_qs}\n".encode() + raw).hexdigest()
    begun = await begin(database, name, asked, datetime.now(UTC))
    if isinstance(begun, Begun):
        try:
            answer = _write_answer(operation, await _called(request, operation, raw))
        except BaseException:
            await forget(database, name)
            raise
        assert isinstance(answer.body, bytes | None)
        await keep(database, name, answer.status, answer.body or b"")
        return answer
    if begun.asked != asked:
        raise Problem(422, "Key used before", f"This {KEY_HEADER} came with another request; make a new one.")
    if begun.status is None:
        raise Problem(409, "Under way", "The same request is being carried out right now; ask again in a moment.")
    answer = web.Response(status=begun.status, body=begun.body or None, content_type=operation.media_type)
    answer.headers["Idempotent-Replayed"] = "true"
    return answer


def _write_answer(operation: Operation, value: Any) -> web.Response:
    if operation.answer is None:
        return web.Response(status=204)
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=operation.status, content_type=JSON, headers={"Cache-Control": "no-store"})


def _read_answer(request: web.Request, operation: Operation, value: Any) -> web.Response:
    """The answer to a read with its ETag; 304 when the caller has it already."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    known = {part.strip().removeprefix("W/") for part in request.headers.get("If-None-Match", "").split(",")}
    if tag in known or "*" in known:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=operation.media_type, charset=None, headers=headers)
