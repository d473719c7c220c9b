"""Turns the rows of a payment log into reports of attempts, as a YAML mapping says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from config.currencies import minor_digits
from config.yaml_source import YamlSource
from messaging.card_data import refuse_card_data
from messaging.contracts import AttemptReported
from messaging.errors import CardDataRefused

MADE_HERE: Final = frozenset({"event_id", "attempt_id"})
FIELDS: Final = frozenset(AttemptReported.__struct_fields__) - MADE_HERE
REQUIRED: Final = ("order_id", "gateway", "method", "status", "amount_minor", "currency", "attempted_at")
TRUTH: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class RowRefused(msgspec.Struct, frozen=True, kw_only=True):
    """A row that does not fit. The reason never repeats the value: it could be a card number."""

    row: int
    column: str
    reason: str


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one field comes from."""

    column: str | None = None
    constant: str | int | bool | None = None
    map: dict[str, str | int | bool] | None = None
    kind: Literal["text", "integer", "major_units", "time", "boolean"] = "text"
    optional: bool = False


class _MappingFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    fields: dict[str, Rule]
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    time_zone: str = "UTC"
    time_format: str = "%Y-%m-%d %H:%M:%S"


class _CellProblem(Exception):
    """A cell does not fit; only the reason is told."""


class ReplayMapping:
    """Knows where each field of a report comes from. Made by ``load_mapping``."""

    def __init__(self, file: _MappingFile, source: YamlSource, zone: ZoneInfo) -> None:
        self._rules = file.fields
        self._source = source
        self._zone = zone
        self._time_format = file.time_format
        self.delimiter = file.delimiter

    def check_header(self, header: Collection[str], name: str) -> None:
        """Refuse a mapping that names a column which the file does not have.

        Raises: ConfigError: says file and line of the mapping, and the columns that are there.
        """
        for field, rule in self._rules.items():
            if rule.column is not None and rule.column not in header:
                there = ", ".join(header)
                raise self._source.error(
                    f"$.fields.{field}.column", f"{name} has no column {rule.column!r}; it has: {there}"
                )

    def attempt(
        self, cells: Mapping[str, str], row: int, *, digest: str, gateways: Collection[str]
    ) -> AttemptReported | RowRefused:
        """Turn one row into a report, or say which column refuses and why.

        Args:
            cells: the row by column.
            row: its number in the file; the header is row 1.
            digest: the beginning of the file's SHA-256, hexadecimal; with the row number it makes stable ids.
            gateways: the names that exist.
        """
        mapped = {rule.column: cells[rule.column] for rule in self._rules.values() if rule.column is not None}
        try:
            refuse_card_data(msgspec.json.encode(mapped))  # before a number becomes a part of an id
        except CardDataRefused as refused:
            return RowRefused(row=row, column=refused.place.removeprefix("$."), reason=f"looks like a {refused.kind}")
        values: dict[str, Any] = {"event_id": f"evt_{digest}_{row}", "attempt_id": f"att_{digest}_{row}"}
        for field, rule in self._rules.items():
            try:
                value = self._value(rule, cells, str(values.get("currency", "")))
            except _CellProblem as problem:
                return RowRefused(row=row, column=rule.column or field, reason=str(problem))
            if value is not None:
                values[field] = f"ord_{digest}_{value}" if field == "order_id" else value
        values.setdefault("occurred_at", values["attempted_at"])
        try:
            report = msgspec.convert(values, AttemptReported)
        except msgspec.ValidationError as error:
            reason, _, place = str(error).partition(" - at `$.")
            return RowRefused(row=row, column=self._column(place.rstrip("`")), reason=reason)
        if report.gateway not in gateways:
            return RowRefused(row=row, column=self._column("gateway"), reason="no such gateway in the gateways file")
        return report

    def _column(self, field: str) -> str:
        rule = self._rules.get(field)
        return rule.column if rule is not None and rule.column else field

    def _value(self, rule: Rule, cells: Mapping[str, str], currency: str) -> Any:
        if rule.column is None:
            return rule.constant
        text = cells[rule.column].strip()
        if not text:
            if rule.optional:
                return None
            raise _CellProblem("is empty")
        if rule.map is not None:
            if text not in rule.map:
                raise _CellProblem(f"holds a value that is not in the map (known: {', '.join(rule.map)})")
            return rule.map[text]
        return self._read(rule, text, currency)

    def _read(self, rule: Rule, text: str, currency: str) -> Any:
        match rule.kind:
            case "integer":
                return _integer(text)
            case "major_units":
                return _minor_units(text, currency)
            case "time":
                return self._time(text)
            case "boolean":
                if text.lower() not in TRUTH:
                    raise _CellProblem(f"is no truth value (known: {', '.join(TRUTH)})")
                return TRUTH[text.lower()]
            case "text":
                return text

    def _time(self, text: str) -> datetime:
        """Read a local time; the first of the two when the clock was set back."""
        try:
            read = datetime.strptime(text, self._time_format)  # noqa: DTZ007 - the zone comes next
        except ValueError:
            raise _CellProblem(f"is no time of the form {self._time_format}") from None
        if read.tzinfo is not None:
            return read.astimezone(UTC)
        moment = read.replace(tzinfo=self._zone).astimezone(UTC)
        if moment.astimezone(self._zone).replace(tzinfo=None) != read:
            raise _CellProblem(f"is a time that {self._zone.key} never saw: the clock was set forward")
        return moment


def load_mapping(path: Path) -> ReplayMapping:
    """Read a mapping.

    Raises: ConfigError: it does not fit; says file and line.
    """
    source = YamlSource(path)
    file = source.as_type(_MappingFile)
    for field, rule in file.fields.items():
        place = f"$.fields.{field}"
        if field in MADE_HERE:
            raise source.error(place, f"{field} is made from the file and the row number; remove it")
        if field not in FIELDS:
            raise source.error(place, f"a report has no field {field!r}; it has: {', '.join(sorted(FIELDS))}")
        if (rule.column is None) == (rule.constant is None):
            raise source.error(place, f"{field} needs either a column or a constant")
        if rule.column is None and (rule.map is not None or rule.kind != "text" or rule.optional):
            raise source.error(place, f"{field} is a constant; map, kind and optional belong to a column")
        if rule.optional and field in REQUIRED:
            raise source.error(place, f"{field} is required in every report; it cannot be optional")
    for field in REQUIRED:
        if field not in file.fields:
            raise source.error("$.fields", f"{field} is missing; every report needs it")
    try:
        zone = ZoneInfo(file.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise source.error("$.time_zone", "no such time zone; use an IANA name such as Europe/Berlin") from None
    # The currency comes first, because amounts are read by it.
    ordered = dict(sorted(file.fields.items(), key=lambda entry: entry[0] != "currency"))
    return ReplayMapping(msgspec.structs.replace(file, fields=ordered), source, zone)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _CellProblem("is no whole number") from None


def _minor_units(text: str, currency: str) -> int:
    """Read an amount in major units, exactly."""
    try:
        minor = Decimal(text).scaleb(minor_digits(currency))
    except InvalidOperation:
        raise _CellProblem("is no amount; write it with a point and without separators, like 1234.50") from None
    if not minor.is_finite() or minor != minor.to_integral_value():
        raise _CellProblem(f"has more decimals than {currency} has")
    return int(minor)
