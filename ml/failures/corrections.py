"""Reads a file of failure codes that operators confirmed or corrected, and says of every bad line what to mend."""

from __future__ import annotations

import csv
import io
from typing import Final

import msgspec

from ml.failures.codes import code_key
from ml.failures.taxonomy import category_of

COLUMNS: Final = ("system", "code", "message", "category", "reason")
NEEDED: Final = ("system", "category")
ROWS_MAX: Final = 10_000
PROBLEMS_SHOWN_MAX: Final = 20
LENGTHS_MAX: Final = {"system": 60, "code": 80, "message": 500, "category": 60, "reason": 300}


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """What one code of one gateway means. ``category`` None takes the row back out of the table."""

    system: str
    code: str
    message: str
    category: str | None
    reason: str = ""


class CorrectionsRefused(ValueError):
    """A file that is not taken, as a whole; ``problems`` says where and why, one text a line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        more = len(problems) - PROBLEMS_SHOWN_MAX
        shown = problems[:PROBLEMS_SHOWN_MAX] + ([f"… and {more} more"] if more > 0 else [])
        super().__init__("\n".join(shown))


def read_corrections(text: str, source: str) -> list[Correction]:
    """Read corrections from CSV: columns system, code, message, category and, if wanted, reason, in any order.

    An empty category takes a row out of the table again.

    Args:
        text: the file's contents.
        source: its name, for error texts.
    Raises: CorrectionsRefused: a line does not fit; every one is named, and nothing of the file is taken.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    header = [name.strip().casefold() for name in next(reader, [])]
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in NEEDED if name not in header]
    if unknown or missing or len(set(header)) != len(header) or not {"code", "message"} & set(header):
        wanted = "system, category, and code or message (reason if wanted)"
        raise CorrectionsRefused([f"{source}:1: the columns are {', '.join(header) or 'missing'}; must be {wanted}"])
    corrections: list[Correction] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    try:
        for fields in reader:
            line = reader.line_num
            if not any(field.strip() for field in fields):
                continue
            if len(corrections) >= ROWS_MAX:
                problems.append(f"{source}:{line}: more than {ROWS_MAX} rows; split the file")
                break
            found = _row(header, fields, seen, line)
            if isinstance(found, str):
                problems.append(f"{source}:{line}: {found}")
            else:
                corrections.append(found)
    except csv.Error as error:
        problems.append(f"{source}:{reader.line_num}: this is no CSV: {error}")
    if not corrections and not problems:
        problems.append(f"{source}:1: there are no rows below the columns")
    if problems:
        raise CorrectionsRefused(problems)
    return corrections


def _row(header: list[str], fields: list[str], seen: dict[str, int], line: int) -> Correction | str:
    """Check one line; a text says what is wrong with it."""
    if len(fields) != len(header):
        return f"{len(fields)} fields, must be {len(header)}"
    row = dict.fromkeys(COLUMNS, "") | {name: field.strip() for name, field in zip(header, fields, strict=True)}
    if not row["system"]:
        return "the system (the gateway's name) is missing"
    if not row["code"] and not row["message"]:
        return "a code or a message must say what is meant"
    for name, length_max in LENGTHS_MAX.items():
        if len(row[name]) > length_max:
            return f"{name} has {len(row[name])} characters, at most {length_max} are taken"
    if row["category"]:
        try:
            category_of(row["category"])
        except ValueError as error:
            return str(error)
    key = code_key(row["system"], row["code"], row["message"])
    if key in seen:
        return f"the same code stands in line {seen[key]} already"
    seen[key] = line
    return Correction(
        system=row["system"],
        code=row["code"],
        message=row["message"],
        category=row["category"] or None,
        reason=row["reason"],
    )
