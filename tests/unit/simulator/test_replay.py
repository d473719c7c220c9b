"""Replaying a recorded log: the mapping, the rows, and what is said of those that do not fit."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.errors import ConfigError
from config.settings import DIRECTORY
from messaging.contracts import AttemptReported
from simulator.replay import ReplayFileError, examine, read_attempts
from simulator.replay_mapping import RowRefused, load_mapping

GATEWAYS = {"uk_card", "goldcard"}
SHIPPED = DIRECTORY / "replay" / "psp.yaml"
HEADER = "tmsp,country,amount,success,psp,three_ds,card,purchase,attempt\n"
GOOD = "2019-07-01 00:01:11,Germany,89,0,UK_Card,1,Visa,7,2\n"
CARD_NUMBER = "4111111111111111"


def replayed(tmp_path: Path, text: str, mapping: Path = SHIPPED) -> list[AttemptReported | RowRefused]:
    """What a log becomes."""
    file = tmp_path / "log.csv"
    file.write_text(text, encoding="utf-8")
    return list(read_attempts(examine(file), load_mapping(mapping), GATEWAYS))


def mapping_with(tmp_path: Path, old: str, new: str) -> Path:
    """The shipped mapping with one change."""
    text = SHIPPED.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "mapping.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_row_becomes_a_report(tmp_path: Path) -> None:
    """A row becomes a report: local time to UTC, major units to minor, names to ours, ids from content and row."""
    (report,) = replayed(tmp_path, HEADER + GOOD)
    digest = examine(tmp_path / "log.csv").digest
    moment = datetime(2019, 6, 30, 22, 1, 11, tzinfo=UTC)
    assert report == AttemptReported(
        event_id=f"evt_{digest}_2",
        attempt_id=f"att_{digest}_2",
        order_id=f"ord_{digest}_7",
        gateway="uk_card",
        method="card",
        status="failed",
        amount_minor=8900,
        currency="EUR",
        attempted_at=moment,
        occurred_at=moment,
        network="visa",
        country="DE",
        attempt_number=2,
        three_ds=True,
    )


def test_same_content_is_the_same_attempts(tmp_path: Path) -> None:
    """A second replay, under another name or gzipped, makes the same ids; one more row changes them."""
    plain, packed = tmp_path / "a.csv", tmp_path / "b.csv.gz"
    plain.write_text(HEADER + GOOD, encoding="utf-8")
    packed.write_bytes(gzip.compress((HEADER + GOOD).encode()))
    mapping = load_mapping(SHIPPED)
    first, second = (list(read_attempts(examine(path), mapping, GATEWAYS)) for path in (plain, packed))
    assert first == second
    plain.write_text(HEADER + GOOD + GOOD, encoding="utf-8")
    assert first[0] not in list(read_attempts(examine(plain), mapping, GATEWAYS))


@pytest.mark.parametrize(
    ("old", "new", "column", "reason"),
    [
        ("Germany", "France", "country", "not in the map"),
        ("2019-07-01 00:01:11", "yesterday", "tmsp", "is no time of the form"),
        ("2019-07-01 00:01:11", "2019-03-31 02:30:00", "tmsp", "set forward"),
        (",89,", ",89.999,", "amount", "more decimals than EUR has"),
        (",89,", ",-5,", "amount", ">= 0"),
        (",89,", ",nan,", "amount", "more decimals"),
        (",89,", ",8 9,", "amount", "is no amount"),
        (",89,", ",,", "amount", "is empty"),
        ("Visa,7,2", "Visa,7,two", "attempt", "no whole number"),
        ("Visa,7,2", "Visa,7,0", "attempt", ">= 1"),
        (",1,Visa", ",2,Visa", "three_ds", "no truth value"),
        ("Visa,7,", "Visa,a b,", "purchase", "regex"),
        ("UK_Card", "Simplecard", "psp", "no such gateway"),
        (",7,2", ",7", "", "has 8 cells; the header has 9"),
    ],
)
def test_row_that_does_not_fit_is_named(tmp_path: Path, old: str, new: str, column: str, reason: str) -> None:
    """A row that does not fit is refused with row number, column and reason; the rows around it are sent."""
    before, refused, after = replayed(tmp_path, HEADER + GOOD + GOOD.replace(old, new) + GOOD)
    assert isinstance(before, AttemptReported)
    assert isinstance(after, AttemptReported)
    assert isinstance(refused, RowRefused)
    assert (refused.row, refused.column) == (3, column)
    assert reason in refused.reason


@pytest.mark.parametrize(
    ("column", "line"),
    [
        ("purchase", GOOD.replace(",7,", f",{CARD_NUMBER},")),
        ("amount", GOOD.replace(",89,", f",{CARD_NUMBER},")),
        ("country", GOOD.replace("Germany", CARD_NUMBER)),
        ("psp", GOOD.replace("UK_Card", CARD_NUMBER)),
    ],
)
def test_card_number_is_refused_and_never_repeated(tmp_path: Path, column: str, line: str) -> None:
    """A card number in any mapped column refuses the row, also where it would join an id, and is not shown."""
    assert replayed(tmp_path, HEADER + line) == [RowRefused(row=2, column=column, reason="looks like a card number")]


def test_clock_set_back_reads_the_first(tmp_path: Path) -> None:
    """A local time that comes twice is read as the first of the two."""
    (report,) = replayed(tmp_path, HEADER + GOOD.replace("2019-07-01 00:01:11", "2019-10-27 02:30:00"))
    assert isinstance(report, AttemptReported)
    assert report.attempted_at == datetime(2019, 10, 27, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  status:", "  state:", "a report has no field 'state'"),
        ("  currency: {constant: EUR}\n", "", "currency is missing"),
        ("{column: attempt, kind: integer}", "{kind: integer}", "either a column or a constant"),
        ("{column: attempt, kind: integer}", "{column: attempt, kind: number}", "invalid enum value"),
        ("{column: attempt, kind: integer}", "{colum: attempt}", "unknown field `colum`"),
        (
            "{column: attempt, kind: integer}",
            "{column: try, kind: integer}",
            "log.csv has no column 'try'; it has: tmsp,",
        ),
        ("{constant: card}", "{constant: card, optional: true}", "belong to a column"),
        ("{column: tmsp, kind: time}", "{column: tmsp, kind: time, optional: true}", "cannot be optional"),
        ("Europe/Berlin", "Europe/Berlim", "no such time zone"),
        ("  order_id:", "  attempt_id: {column: purchase}\n  order_id:", "made from the file and the row number"),
        ("fields:\n", "fields: [\n", "not valid YAML"),
    ],
)
def test_broken_mapping_is_said_with_file_and_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A mapping that does not fit is refused with file, line and reason, before anything is sent."""
    path = mapping_with(tmp_path, old, new)
    with pytest.raises(ConfigError) as refused:
        replayed(tmp_path, HEADER + GOOD, path)
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"{path}:{refused.value.line}: ")
    assert refused.value.line is not None


def test_error_points_at_the_right_line(tmp_path: Path) -> None:
    """The line in the error is the line of the mistake."""
    path = mapping_with(tmp_path, "Europe/Berlin", "Europe/Berlim")
    lines = path.read_text(encoding="utf-8").splitlines()
    with pytest.raises(ConfigError) as refused:
        load_mapping(path)
    assert refused.value.line is not None
    assert lines[refused.value.line - 1] == "time_zone: Europe/Berlim"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", "cannot be read as CSV in UTF-8"),
        ((HEADER + '"' + "x" * 20_000 + '"\n').encode(), "field larger than field limit"),
    ],
)
def test_unreadable_file_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    """A file that is no CSV is refused as a whole, with its name."""
    file = tmp_path / "log.csv"
    file.write_bytes(content)
    with pytest.raises(ReplayFileError) as refused:
        list(read_attempts(examine(file), load_mapping(SHIPPED), GATEWAYS))
    assert str(file) in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize("content", [b"no gzip at all", gzip.compress(b"x" * 100, mtime=0)[:-4]])
def test_broken_gzip_is_said(tmp_path: Path, content: bytes) -> None:
    """A .gz file that is none, or that is cut off, is refused with its name."""
    file = tmp_path / "log.csv.gz"
    file.write_bytes(content)
    with pytest.raises(ReplayFileError, match="cannot be read"):
        examine(file)


def test_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    """A file saved by a spreadsheet, with a byte order mark, reads like any other."""
    (report,) = replayed(tmp_path, "\ufeff" + HEADER + GOOD)
    assert isinstance(report, AttemptReported)


def test_amounts_follow_the_currency(tmp_path: Path) -> None:
    """Yen have no minor unit and Kuwaiti dinars have three decimals."""
    amounts = []
    for currency, amount in (("JPY", "89"), ("KWD", "8.905"), ("EUR", "8.9")):
        mapping = mapping_with(tmp_path, "{constant: EUR}", f"{{constant: {currency}}}")
        (report,) = replayed(tmp_path, HEADER + GOOD.replace(",89,", f",{amount},"), mapping)
        assert isinstance(report, AttemptReported)
        amounts.append(report.amount_minor)
    assert amounts == [89, 8905, 890]
