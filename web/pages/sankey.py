"""Flows from column to column as SVG: geometry and words only; the template and the stylesheet draw it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

WIDTH: Final = 760.0
"""Of the whole picture; one unit is one pixel where there is room for it."""

MARGIN: Final = 132.0
"""Left and right of the outer nodes, for their labels."""

HEADING: Final = 30.0
NODE_WIDTH: Final = 12.0
FLOW_HEIGHT: Final = 240.0
"""All flows together, without the gaps between nodes."""

LINE: Final = 17.0
"""From line to line of a label; the stylesheet's font is smaller."""

GAP: Final = 10.0
BAND_MIN: Final = 1.0
"""A flow is drawn at least so high, so that a single order in fifty thousand can still be seen."""

Anchor = Literal["start", "middle", "end"]


class Node(msgspec.Struct, frozen=True):
    """A place that flows come through. ``kind`` is a class of the stylesheet; flows from or to it have its colour."""

    key: str
    words: str
    kind: str = ""


class Flow(msgspec.Struct, frozen=True):
    """How many went from a node to one of the next column."""

    source: str
    target: str
    n: int


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A node as it is drawn, with its label: lines that begin, end or are centred at ``label_x``, from ``label_y`` on.

    ``label_y`` is the base line of the first line; ``LINE`` lies between lines.
    """

    key: str
    kind: str
    n: int
    x: float
    y: float
    height: float
    title: str
    label: tuple[str, ...]
    label_x: float
    label_y: float
    anchor: Anchor


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A flow as it is drawn: ``path`` in SVG's words, and where it leaves and arrives, upper edges."""

    source: str
    target: str
    kind: str
    n: int
    y_source: float
    y_target: float
    height: float
    path: str
    title: str


class Heading(msgspec.Struct, frozen=True):
    """What a column is about."""

    words: str
    x: float
    anchor: Anchor


class Sankey(msgspec.Struct, frozen=True, kw_only=True):
    """A whole picture in a box of ``width`` by ``height``."""

    width: float
    height: float
    headings: list[Heading]
    boxes: list[Box]
    bands: list[Band]


def sankey(columns: Sequence[tuple[str, Sequence[Node]]], flows: Sequence[Flow]) -> Sankey | None:
    """Lay flows out.

    Heights are in proportion to numbers. Labels of the outer columns stand outside in two lines, those of the others
    above their node in one, and every node gets the room that its label needs, so labels never overlap.

    Args:
        columns: heading and nodes from top to bottom, of two or more columns from left to right; keys are unique.
        flows: each from a node to one of the next column; empty ones count as absent, and so do nodes without flows.
    Returns: None when nothing flows.
    Raises: ValueError: a flow goes elsewhere, or not as many leave a node as arrive; names it.
    """
    flows = [flow for flow in flows if flow.n]
    arriving, leaving = _counted(columns, flows)
    n_of = {key: max(arriving[key], leaving[key]) for key in arriving | leaving}
    total = sum(n_of.get(node.key, 0) for node in columns[0][1])
    if not total:
        return None
    scale, last = FLOW_HEIGHT / total, len(columns) - 1
    shown = [[node for node in nodes if n_of.get(node.key)] for _, nodes in columns]
    packed = [
        _packed([n_of[node.key] * scale for node in nodes], outer=place in (0, last))
        for place, nodes in enumerate(shown)
    ]
    height = max(used for _, used in packed)
    boxes = {
        node.key: _box(node, n_of[node.key], HEADING + (height - used) / 2 + top, scale, total, place, last)
        for place, (nodes, (tops, used)) in enumerate(zip(shown, packed, strict=True))
        for node, top in zip(nodes, tops, strict=True)
    }
    return Sankey(
        width=WIDTH,
        height=round(HEADING + height + GAP),
        headings=[_heading(words, place, last) for place, (words, _) in enumerate(columns)],
        boxes=[*boxes.values()],
        bands=_bands([node for nodes in shown for node in nodes], flows, boxes, scale, total),
    )


def share(n: int, of: int) -> str:
    """Write a share.

    >>> share(1, 8)
    '12.5 %'
    """
    return f"{100 * n / of:.1f} %"


def _counted(columns: Sequence[tuple[str, Sequence[Node]]], flows: Sequence[Flow]) -> tuple[Counter[str], Counter[str]]:
    """How many arrive at and leave each node, checked."""
    place = {node.key: index for index, (_, nodes) in enumerate(columns) for node in nodes}
    arriving: Counter[str] = Counter()
    leaving: Counter[str] = Counter()
    for flow in flows:
        if flow.n < 0 or place.get(flow.target, -1) != place.get(flow.source, -1) + 1 or flow.source not in place:
            raise ValueError(f"{flow} does not lead to the next column")
        leaving[flow.source] += flow.n
        arriving[flow.target] += flow.n
    for _, nodes in columns[1:-1]:
        for node in nodes:
            if arriving[node.key] != leaving[node.key]:
                raise ValueError(f"{arriving[node.key]} arrive at {node.key}, {leaving[node.key]} leave it")
    return arriving, leaving


def _packed(heights: Sequence[float], *, outer: bool) -> tuple[list[float], float]:
    """Put nodes below each other with the room that their labels need: the tops, and how high it all is."""
    tops, y = [], 0.0
    for height in heights:
        room = max(height, 2 * LINE) if outer else LINE + height
        tops.append(y + (room - height) / 2 if outer else y + LINE)
        y += room + GAP
    return tops, y - GAP if heights else 0.0


def _x(place: int, last: int) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN - NODE_WIDTH) * place / last


def _box(node: Node, n: int, y: float, scale: float, total: int, place: int, last: int) -> Box:
    x, height = _x(place, last), n * scale
    number = f"{n:,} · {share(n, total)}"
    label: tuple[str, ...] = (node.words, number)
    anchor: Anchor = "end"
    label_x, label_y = x - 8, y + height / 2 - 4
    if place == last:
        label_x, anchor = x + NODE_WIDTH + 8, "start"
    elif place:
        label, label_x, label_y, anchor = (f"{node.words}: {number}",), x + NODE_WIDTH / 2, y - 5, "middle"
    return Box(
        key=node.key,
        kind=node.kind,
        n=n,
        x=round(x, 1),
        y=round(y, 1),
        height=round(max(height, BAND_MIN), 1),
        title=f"{node.words}: n {n:,}, {share(n, total)} of all",
        label=label,
        label_x=round(label_x, 1),
        label_y=round(label_y, 1),
        anchor=anchor,
    )


def _heading(words: str, place: int, last: int) -> Heading:
    if place == 0:
        return Heading(words, MARGIN + NODE_WIDTH, "end")
    if place == last:
        return Heading(words, WIDTH - MARGIN - NODE_WIDTH, "start")
    return Heading(words, round(_x(place, last) + NODE_WIDTH / 2, 1), "middle")


def _bands(nodes: Sequence[Node], flows: Sequence[Flow], boxes: dict[str, Box], scale: float, total: int) -> list[Band]:
    """Stack the flows at both ends in the order of the nodes at the other end, so that few of them cross."""
    order = {node.key: index for index, node in enumerate(nodes)}
    named = {node.key: node for node in nodes}
    left = {key: box.y for key, box in boxes.items()}
    entered = dict(left)
    bands = []
    for flow in sorted(flows, key=lambda flow: (order[flow.source], order[flow.target])):
        source, target, height = named[flow.source], named[flow.target], flow.n * scale
        from_y, to_y = left[flow.source], entered[flow.target]
        left[flow.source] += height
        entered[flow.target] += height
        of_source = share(flow.n, boxes[flow.source].n)
        bands.append(
            Band(
                source=flow.source,
                target=flow.target,
                kind=source.kind or target.kind,
                n=flow.n,
                y_source=from_y,
                y_target=to_y,
                height=height,
                path=_path(boxes[flow.source].x + NODE_WIDTH, from_y, boxes[flow.target].x, to_y, height),
                title=f"{source.words} → {target.words}: n {flow.n:,}, {share(flow.n, total)} of all, "
                f"{of_source} of “{source.words}”",
            )
        )
    return bands


def _path(x: float, y: float, to_x: float, to_y: float, height: float) -> str:
    """A band with level ends; a thin one is drawn thicker, around its middle."""
    drawn = max(height, BAND_MIN)
    y, to_y, bend = y - (drawn - height) / 2, to_y - (drawn - height) / 2, (x + to_x) / 2
    top = f"M{x:.1f} {y:.1f}C{bend:.1f} {y:.1f} {bend:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
    y, to_y = y + drawn, to_y + drawn
    return f"{top}V{to_y:.1f}C{bend:.1f} {to_y:.1f} {bend:.1f} {y:.1f} {x:.1f} {y:.1f}Z"
