"""The ways of orders as a picture and as a table: first try, what the second try changed, standing. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from ml.behaviour.paths import OrderPath
from web.pages.sankey import Flow, Node, Sankey, sankey

FIRST: Final = (
    Node("first paid", "paid", "paid"),
    Node("first failed", "failed", "lost"),
    Node("first no_result", "no result", "open"),
)
SECOND: Final = (
    Node("no other try: paid", "none needed"),
    Node("nothing", "same again"),
    Node("gateway", "other gateway"),
    Node("method", "other method"),
    Node("method and gateway", "other method and gateway"),
    Node("no other try: given_up", "none, gave up"),
    Node("no other try: open", "none so far"),
)
NOW: Final = (Node("paid", "paid", "paid"), Node("given_up", "given up", "lost"), Node("open", "still open", "open"))
COLUMNS: Final = (("First try", FIRST), ("Second try", SECOND), ("Now", NOW))


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of second try, or all: where its orders came from and how they stand, both in the order of the nodes."""

    words: str
    orders: int
    came_from: tuple[int, ...]
    ended: tuple[int, ...]


class OrderFlow(msgspec.Struct, frozen=True, kw_only=True):
    """The picture and its twin: every flow is a cell, every row and column adds up. ``picture`` None: no order."""

    picture: Sankey | None
    rows: list[Row]
    total: Row


def order_flow(paths: Sequence[OrderPath]) -> OrderFlow:
    """Draw the ways of orders, and write them down."""
    flows: Counter[tuple[str, str]] = Counter()
    for path in paths:
        second = f"no other try: {path.outcome}" if path.changed == "no other try" else path.changed
        flows[f"first {path.first}", second] += path.orders
        flows[second, path.outcome] += path.orders
    rows = [
        Row(
            words=node.words,
            orders=sum(flows[first.key, node.key] for first in FIRST),
            came_from=tuple(flows[first.key, node.key] for first in FIRST),
            ended=tuple(flows[node.key, now.key] for now in NOW),
        )
        for node in SECOND
    ]
    rows = [row for row in rows if row.orders]
    return OrderFlow(
        picture=sankey(COLUMNS, [Flow(*ends, n) for ends, n in flows.items()]),
        rows=rows,
        total=Row(
            words="all",
            orders=sum(row.orders for row in rows),
            came_from=tuple(sum(row.came_from[place] for row in rows) for place in range(len(FIRST))),
            ended=tuple(sum(row.ended[place] for row in rows) for place in range(len(NOW))),
        ),
    )
