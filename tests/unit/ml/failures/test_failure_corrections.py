from __future__ import annotations

import pytest

from ml.failures.corrections import PROBLEMS_SHOWN_MAX, Correction, CorrectionsRefused, read_corrections

GOOD = """\
category,system,code,message,reason
expired_card,newpay,X-02,"past its date, sorry",manual p. 7

,newpay,X-09,,
"""


def test_a_file_of_corrections_is_read_in_any_order_of_columns():
    """Blank lines are passed over; an empty category takes a row out again."""
    assert read_corrections("\ufeff" + GOOD, "codes.csv") == [
        Correction(
            system="newpay", code="X-02", message="past its date, sorry", category="expired_card", reason="manual p. 7"
        ),
        Correction(system="newpay", code="X-09", message="", category=None),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("newpay,X-1,,out_of_luck", "codes.csv:3: 'out_of_luck' is no failure category; choose one of"),
        (",X-1,,expired_card", "codes.csv:3: the system (the gateway's name) is missing"),
        ("newpay,,,expired_card", "codes.csv:3: a code or a message must say what is meant"),
        ("newpay,X-1,expired_card", "codes.csv:3: 3 fields, must be 4"),
        ("newpay, ok ,,expired_card", "codes.csv:3: the same code stands in line 2 already"),
        (f"newpay,{'9' * 81},,expired_card", "codes.csv:3: code has 81 characters, at most 80 are taken"),
    ],
)
def test_a_bad_line_is_named_with_what_to_mend(line: str, problem: str):
    """Every bad line is told with file and line, and nothing of the file is taken."""
    text = f"system,code,message,category\nnewpay,OK,,expired_card\n{line}\n"

    with pytest.raises(CorrectionsRefused) as refused:
        read_corrections(text, "codes.csv")

    assert [told[: len(problem)] for told in refused.value.problems] == [problem]


@pytest.mark.parametrize("text", ["", "system,code\n", "system,message,category,colour\n", "system,category\na,b\n"])
def test_columns_that_do_not_fit_are_refused(text: str):
    """The first line says which columns there are; what is missing or unknown is refused with what is wanted."""
    with pytest.raises(CorrectionsRefused, match=r"codes\.csv:1: "):
        read_corrections(text, "codes.csv")


def test_all_problems_are_kept_and_the_first_are_shown():
    """Thirty bad lines are thirty problems; the text shows the first and counts the rest."""
    lines = "".join(f"newpay,C{n},,nothing\n" for n in range(30))

    with pytest.raises(CorrectionsRefused) as refused:
        read_corrections("system,code,message,category\n" + lines, "codes.csv")

    assert len(refused.value.problems) == 30
    assert str(refused.value).endswith(f"and {30 - PROBLEMS_SHOWN_MAX} more")
