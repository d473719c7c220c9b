"""Tables on terminals of any width, and in pipes: no word is lost."""

from __future__ import annotations

import re

import pytest
from rich.table import Table

from cli.tables import print_table

RATE = "94.12% (93.10% to 95.20%)"
NAMES = ("method card", "issuer harbour_bank_of_the_north", "country DE")
HEAD = ("payments", "decisions", "candidate", "gain, points", "doubly robust", "observed")


def table() -> Table:
    """One like that of `ipa policy evaluate`."""
    made = Table(*HEAD, title="by payments")
    for name in NAMES:
        made.add_row(name, "12,600", RATE, "+1.20 (-0.10 to +2.20)", RATE, RATE)
    made.add_row("network amex", "600", "no answer", "", "", "")
    return made


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_word_is_cut_or_broken(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However narrow: every word of every cell is there in one piece, and no line is longer than the terminal."""
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(table())
    told = capsys.readouterr().out
    assert max(len(line) for line in told.splitlines()) <= width
    assert "…" not in told
    words = re.findall(r"[^\s│┃]+", told)
    for word in " ".join((*NAMES, *HEAD, "no answer", "by payments", "network amex")).split():
        assert word in words
    assert words.count("(93.10%") == 3 * len(NAMES)


def test_a_piped_table_has_one_line_a_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """So that grep finds a name with its figures; nobody said how wide a pipe is."""
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(table())
    line = next(line for line in capsys.readouterr().out.splitlines() if NAMES[1] in line)
    assert line.count(RATE) == 3


def test_a_narrow_table_is_printed_row_by_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each figure stands in a line with what it is, and a cell that is empty is left out."""
    monkeypatch.setenv("COLUMNS", "60")
    print_table(table())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines].count("candidate") == len(NAMES) + 1
    assert ["observed", *RATE.split()] in lines
    assert [line[0] for line in lines].count("observed") == len(NAMES)
