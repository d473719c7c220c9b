"""The description of the REST interface is complete and says what the rows do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from storage.read_models.chosen import DIMENSIONS
from web.api.openapi import openapi_document
from web.api.operation import PREFIX, Operation
from web.api.pages import decoded, encoded, paged
from web.api.topics import OPERATIONS


def document() -> dict[str, Any]:
    """The document as a client reads it."""
    read: dict[str, Any] = json.loads(json.dumps(openapi_document(OPERATIONS)))
    return read


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: f"{row.method} {row.path}")
def test_every_operation_is_described(row: Operation) -> None:
    """Each row stands in the document with words, its path parameters, a good answer and the problem documents."""
    described = document()["paths"][row.path][row.method.lower()]
    assert row.path.startswith(f"{PREFIX}/")
    assert described["summary"].endswith(".")
    in_path = {parameter["name"] for parameter in described["parameters"] if parameter["in"] == "path"}
    assert in_path == {part[1:-1] for part in row.path.split("/") if part.startswith("{")}
    assert all(parameter["required"] for parameter in described["parameters"] if parameter["in"] == "path")
    assert {"401", "403", "503"} <= described["responses"].keys()
    assert any(status.startswith("2") for status in described["responses"])
    assert ("requestBody" in described) == (row.body is not None)


def test_every_reference_leads_somewhere() -> None:
    """No schema is named that the document does not hold."""
    text = json.dumps(document())
    held = document()["components"]["schemas"]
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= held.keys()


def test_routing_offers_no_choice_that_decisions_do_not_tell() -> None:
    """Country, amount and arm would be heeded by half of the answer: they are no parameters."""
    described = document()["paths"]["/api/v1/routing"]["get"]["parameters"]
    assert {parameter["name"] for parameter in described} == set(DIMENSIONS)


def test_names_are_unique() -> None:
    """Generated clients get a function of its own for each operation."""
    names = [row.name for row in OPERATIONS]
    assert len(names) == len(set(names))


def test_a_page_tells_whether_there_is_another() -> None:
    """One item too many becomes the cursor's reason, never a shown item."""
    assert paged([1, 2, 3], 3, str).next_cursor is None
    page = paged([1, 2, 3, 4], 3, str)
    assert (page.items, decoded(page.next_cursor, str)) == ([1, 2, 3], "3")


def test_cursors_are_opaque_and_checked() -> None:
    """What is no cursor of ours is refused with words."""
    from web.api.operation import Problem

    assert decoded(None, str) is None
    for bad in ("%%%", "AAAA", encoded(7), "é"):
        with pytest.raises(Problem):
            decoded(bad, str)
