"""Colours stay with their names and can be read; scales hold their values."""

from __future__ import annotations

import numpy as np
import pytest

from web.dashboard.appearance import DARK, LIGHT, Look, Marks
from web.dashboard.ranges import ceiling, share_range


def test_marks_stay_with_their_names() -> None:
    """A name keeps its place in the colours whatever comes later, in both themes; the first eight do not share."""
    marks = Marks(("alpha", "bravo"))
    before = marks.of("bravo", LIGHT)
    late = [marks.of(f"late_{index}", LIGHT).colour for index in range(6)]
    assert marks.of("bravo", LIGHT) == before
    assert LIGHT.series.index(before.colour) == DARK.series.index(marks.of("bravo", DARK).colour)
    assert len({marks.of("alpha", LIGHT).colour, before.colour, *late}) == 8
    ninth = marks.of("ninth", LIGHT)
    assert (ninth.colour, ninth.dash) == (marks.of("alpha", LIGHT).colour, "dashed")
    assert marks.in_order(["unknown", "bravo", "alpha"]) == ["alpha", "bravo", "unknown"]


@pytest.mark.parametrize("largest", [0.4, 3.0, 97.0, 12_345.0])
def test_ranges_hold_their_values(largest: float) -> None:
    """The top of a scale lies above the largest value, but not far."""
    assert largest < ceiling(np.array([largest, np.nan])) <= 2.2 * largest
    assert share_range(np.array([largest % 100])) == pytest.approx(share_range(np.array([largest % 100, 100.0])))


def contrast(first: str, second: str) -> float:
    """The WCAG 2 contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=lambda look: look.name)
def test_words_can_be_read(look: Look) -> None:
    """Every text colour has the contrast of WCAG AA on the card and on the page."""
    for colour in (look.text, look.muted, look.good, look.bad, look.warn):
        for ground in (look.card, look.page):
            assert contrast(colour, ground) >= 4.5, (colour, ground)
