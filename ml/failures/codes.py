"""What ships with the package: the failure codes of each known gateway, and the phrases the text model learns from."""

from __future__ import annotations

import csv
from importlib import resources

import msgspec

from ml.failures.taxonomy import category_of
from ml.failures.wording import message_wording


class KnownCode(msgspec.Struct, frozen=True, kw_only=True):
    """One failure code of one gateway, the message that comes with it, and the category it means."""

    system: str
    code: str
    message: str
    category: str


def code_key(system: str, code: str | None, message: str | None) -> str:
    """Name what a gateway said, for looking it up in a table: by its code, or by the wording where there is no code.

    >>> code_key("alpha", " 51 ", "whatever"), code_key("alpha", None, "Card EXPIRED!")
    ('alpha|51', 'alpha||card expired')
    """
    written = (code or "").strip().casefold()
    return f"{system}|{written}" if written else f"{system}||{message_wording(message or '')}"


def load_codes() -> tuple[KnownCode, ...]:
    """Read the code tables of the five demo gateways, in file order.

    Raises: ValueError: a row is incomplete, repeats a code or names no category; the text says where.
    """
    codes = tuple(
        KnownCode(system=system, code=code, message=message, category=category)
        for system, code, message, category in _rows("codes.csv", ("system", "code", "message", "category"))
    )
    seen: set[tuple[str, str]] = set()
    for line, known in enumerate(codes, start=2):
        if (known.system, known.code) in seen:
            raise ValueError(f"ml/failures/codes.csv:{line}: code {known.code!r} of {known.system!r} stands twice")
        seen.add((known.system, known.code))
    return codes


def load_phrases() -> tuple[KnownCode, ...]:
    """Read the training phrases: what processors in general say for each category, in file order.

    A phrase belongs to no gateway, so ``system`` is empty; ``code`` holds a customary code (ISO 8583, UPI) or is empty.

    Raises: ValueError: a row is incomplete or names no category; the text says where.
    """
    return tuple(
        KnownCode(system="", code=code, message=phrase, category=category)
        for category, code, phrase in _rows("phrases.csv", ("category", "code", "phrase"))
    )


def _rows(file_name: str, columns: tuple[str, ...]) -> list[list[str]]:
    """Read a shipped CSV file and check its shape and its categories."""
    text = resources.files("ml.failures").joinpath(file_name).read_text(encoding="utf-8")
    header, *rows = list(csv.reader(text.splitlines()))
    if tuple(header) != columns:
        raise ValueError(f"ml/failures/{file_name}:1: columns are {','.join(header)}, must be {','.join(columns)}")
    category_at = columns.index("category")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise ValueError(f"ml/failures/{file_name}:{line}: {len(row)} fields, must be {len(columns)}")
        try:
            category_of(row[category_at])
        except ValueError as error:
            raise ValueError(f"ml/failures/{file_name}:{line}: {error}") from None
    return rows
