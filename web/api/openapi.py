"""Describes the REST interface as an OpenAPI 3.1 document, made from the same rows that serve it."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from inspect import cleandoc
from typing import Any, Final

import msgspec

from web.api.operation import Operation, Params
from web.api.problems import ProblemDocument
from web.api.serving import KEY_CHARS_MAX, KEY_HEADER
from web.auth import CSRF_HEADER, SESSION_COOKIE

VERSION: Final = "1.0.0"
"""Of the interface: a new operation or field raises the second number, anything that breaks a caller the first."""

REF: Final = "#/components/schemas/{name}"
PROBLEM_TYPE: Final = "application/problem+json"


def openapi_document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Build the document as plain data."""
    types = [kind for row in operations for kind in (row.params, row.body, row.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components([*types, ProblemDocument], ref_template=REF)
    schema_of = dict(zip(map(str, types), schemas, strict=False))
    params = {
        row.params: _properties(schema_of[str(row.params)], components) for row in operations if row.params is not None
    }
    paths: dict[str, dict[str, Any]] = {}
    for row in operations:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, schema_of, params)
    kept = {name: schema for name, schema in components.items() if not _is_params(name, operations)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Intelligent Payment Assistant",
            "version": VERSION,
            "description": (
                "What the pages show and do. Times are RFC 3339 in UTC, money is in minor units of its currency, "
                "shares are 0 to 1. Errors are problem documents (RFC 9457). Lists come in pages with a cursor."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": kept,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "An API token: `ipa tokens add`."},
                "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
            },
        },
        "security": [{"token": []}, {"session": []}],
    }


def _operation(row: Operation, schema_of: dict[str, Any], params: dict[type[Params], dict[str, Any]]) -> dict[str, Any]:
    words = cleandoc(row.handler.__doc__ or "").split("\n\n")
    described: dict[str, Any] = {
        "operationId": row.name,
        "tags": [row.tag],
        "summary": words[0].replace("\n", " "),
        "description": "\n\n".join([*words[1:], f"Needs the permission `{row.permission}`."]),
        "parameters": _parameters(row, params),
        "responses": _responses(row, schema_of),
    }
    if row.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[str(row.body)]}},
        }
    return described


def _parameters(row: Operation, params: dict[type[Params], dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    known = {} if row.params is None else params[row.params]
    for name, (schema, is_required) in known.items():
        in_path = f"{{{name}}}" in row.path
        parameter = {
            "name": name,
            "in": "path" if in_path else "query",
            "required": in_path or is_required,
            "schema": schema,
        }
        if description := schema.get("description"):
            parameter["description"] = description
        found.append(parameter)
    if row.writes:
        found.append(
            {
                "name": KEY_HEADER,
                "in": "header",
                "required": False,
                "description": "Makes the write happen once: the same key gives the first answer again, for a day.",
                "schema": {"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX, "pattern": "^[!-~]+$"},
            }
        )
        found.append(
            {
                "name": CSRF_HEADER,
                "in": "header",
                "required": False,
                "description": "The page's form token; needed with a session cookie, not with an API token.",
                "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            }
        )
    return found


def _responses(row: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    problem = {"content": {PROBLEM_TYPE: {"schema": {"$ref": REF.format(name=ProblemDocument.__name__)}}}}
    status = 204 if row.answer is None and row.writes else row.status
    good: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if row.answer is not None:
        good["content"] = {row.media_type: {"schema": schema_of[str(row.answer)]}}
    elif not row.writes:
        good["content"] = {row.media_type: {"schema": {"type": "string"}}}
    if not row.writes:
        good["headers"] = {"ETag": {"schema": {"type": "string"}, "description": "Send it in If-None-Match."}}
    everywhere = {400, 401, 403, 500, 503, 504}
    if row.writes:
        everywhere |= {409, 413, 415, 422}
    answers = {str(status): good}
    if not row.writes:
        answers["304"] = {"description": "Not modified: the caller has this answer already."}
    for number in sorted(everywhere | set(row.problems)):
        answers[str(number)] = {"description": HTTPStatus(number).phrase, **problem}
    return answers


def _properties(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, tuple[dict[str, Any], bool]]:
    """The fields of a struct of parameters: schema, and whether it must be given."""
    found = components[schema["$ref"].rsplit("/", 1)[-1]]
    required = set(found.get("required", ()))
    return {name: (_given(field), name in required) for name, field in found.get("properties", {}).items()}


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out is never sent as null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    if schema.get("default") is not None:
        rest["default"] = schema["default"]
    if not options:
        return rest
    return {**rest, **options[0]} if len(options) == 1 else {**rest, "anyOf": options}


def _is_params(name: str, operations: Sequence[Operation]) -> bool:
    return any(row.params is not None and row.params.__name__ == name for row in operations)
