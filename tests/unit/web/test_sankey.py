"""Flows of orders: whatever goes into a node comes out of it, in numbers, in the picture and in the table."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.behaviour.paths import CHANGES, FIRSTS, OUTCOMES, OrderPath
from web.pages.order_flow import COLUMNS, order_flow
from web.pages.sankey import BAND_MIN, LINE, WIDTH, Box, Flow, Node, Sankey, sankey

LETTER_MAX: float = 7.0
"""No letter of the stylesheet's 13 px is wider on average, in units of the picture."""


@st.composite
def ways(draw: st.DrawFn) -> list[OrderPath]:
    """Ways with any numbers, as ``order_paths`` could have counted them."""
    found = []
    for first in FIRSTS:
        for changed in CHANGES:
            for outcome in OUTCOMES:
                orders = draw(st.sampled_from([0, 0, 1, 2, 7, 40, 900, 50_000]))
                if orders:
                    found.append(OrderPath(first=first, changed=changed, outcome=outcome, orders=orders))
    return found


@given(ways())
def test_nothing_is_lost_on_the_way(paths: list[OrderPath]) -> None:
    """At each node as many arrive as leave, all columns hold all orders, and bands fill their nodes exactly."""
    flow = order_flow(paths)
    orders = sum(path.orders for path in paths)
    assert flow.total.orders == orders
    if flow.picture is None:
        assert orders == 0
        return
    arriving: Counter[str] = Counter()
    leaving: Counter[str] = Counter()
    heights: Counter[tuple[str, str]] = Counter()
    for band in flow.picture.bands:
        leaving[band.source] += band.n
        arriving[band.target] += band.n
        heights[band.source, "out"] += band.height
        heights[band.target, "in"] += band.height
    boxes = {box.key: box for box in flow.picture.boxes}
    for place, (_, nodes) in enumerate(COLUMNS):
        shown = [boxes[node.key] for node in nodes if node.key in boxes]
        assert sum(box.n for box in shown) == orders
        for box in shown:
            assert place == 0 or arriving[box.key] == box.n
            assert place == 2 or leaving[box.key] == box.n
            for side in [side for side, wanted in (("in", place > 0), ("out", place < 2)) if wanted]:
                assert box.height == pytest.approx(max(heights[box.key, side], BAND_MIN), abs=0.1)


@given(ways())
def test_the_table_holds_every_flow(paths: list[OrderPath]) -> None:
    """Each flow is one cell, rows add up on both sides, and the last row is the sum."""
    flow = order_flow(paths)
    cells = Counter(n for row in flow.rows for n in (*row.came_from, *row.ended) if n)
    assert cells == Counter(band.n for band in (flow.picture.bands if flow.picture else []))
    for row in [*flow.rows, flow.total]:
        assert sum(row.came_from) == sum(row.ended) == row.orders
    assert flow.total.orders == sum(row.orders for row in flow.rows)


@given(ways())
def test_labels_never_overlap_and_stay_inside(paths: list[OrderPath]) -> None:
    """No two labels share room, none runs out of the picture, and nodes keep apart."""
    picture = order_flow(paths).picture
    if picture is None:
        return
    for one, other in combinations(picture.boxes, 2):
        assert not overlap(room(one), room(other)), (one, other)
        if one.x == other.x:
            assert one.y + one.height < other.y
    for box in picture.boxes:
        left, top, right, bottom = room(box)
        assert left >= 0
        assert right <= WIDTH
        assert 18 < top < bottom <= picture.height, "below the headings"
        assert box.y + box.height <= picture.height


def test_a_small_picture_drawn_by_hand() -> None:
    """Two in, two out: heights in proportion, colours from the end that has one, words with n and shares."""
    picture = drawn(
        [("in", [Node("a", "A", "paid"), Node("b", "B")]), ("out", [Node("c", "C"), Node("d", "D", "lost")])],
        [Flow("a", "c", 30), Flow("b", "d", 10), Flow("a", "d", 0)],
    )
    assert [(box.key, box.n, box.height) for box in picture.boxes] == [
        ("a", 30, 180), ("b", 10, 60), ("c", 30, 180), ("d", 10, 60),
    ]  # fmt: skip
    assert [(band.kind, band.height) for band in picture.bands] == [("paid", 180), ("lost", 60)]
    assert picture.bands[0].title == "A → C: n 30, 75.0 % of all, 100.0 % of “A”"
    assert [box.anchor for box in picture.boxes] == ["end", "end", "start", "start"]


def test_flows_that_do_not_add_up_are_refused() -> None:
    """A flow that skips a column or goes back, and a node that keeps something, are named."""
    columns = [("", [Node("a", "A")]), ("", [Node("b", "B")]), ("", [Node("c", "C")])]
    for wrong in (Flow("a", "c", 1), Flow("b", "a", 1), Flow("a", "nobody", 1), Flow("nobody", "a", 1)):
        with pytest.raises(ValueError, match="next column"):
            sankey(columns, [wrong])
    with pytest.raises(ValueError, match="5 arrive at b, 4 leave it"):
        sankey(columns, [Flow("a", "b", 5), Flow("b", "c", 4)])
    assert sankey(columns, []) is None


def drawn(columns: list[tuple[str, list[Node]]], flows: list[Flow]) -> Sankey:
    """A picture that is there."""
    picture = sankey(columns, flows)
    assert picture is not None
    return picture


def room(box: Box) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a label."""
    width = LETTER_MAX * max(map(len, box.label))
    left = box.label_x - {"start": 0.0, "middle": width / 2, "end": width}[box.anchor]
    return left, box.label_y - 12, left + width, box.label_y - 12 + LINE * len(box.label)


def overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Whether two rectangles share room."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
