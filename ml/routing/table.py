"""The nodes of all gateways, by method, issuer and network, within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Final

from ml.routing.node import Node

Key = tuple[str | None, ...]
"""(method, issuer) or (method, issuer, network); None stands for all."""

WHOLE: Final[Key] = (None, None)
"""All payments of a gateway."""

METHOD: Final = 1
ISSUER: Final = 2
LEAF: Final = 3
"""Places among the nodes of a gateway, from the one for all its payments (0) down: one method, one issuer whatever the
method, both. Only the issuer's does not lie inside the one before it."""


OTHERS_MIN: Final = 0.1
"""Share of an issuer's payments at a gateway that other methods must have to say more of it than one method does."""


def is_of_one(issuer: float, leaf: float) -> bool:
    """Whether an issuer's payments are (nearly) all of the one method that ``leaf`` counts."""
    return issuer - leaf <= OTHERS_MIN * issuer


class Row:
    """The nodes of all gateways for one kind of payment, and what such payments do to all gateways alike."""

    __slots__ = ("cells", "common")

    def __init__(self, at: float = 0.0) -> None:
        self.cells: dict[str, Node] = {}
        self.common = Node(at)


class CellTable:
    """Rows of cells; when there are too many cells, the row that was not used for longest is forgotten."""

    def __init__(self, cells_max: int) -> None:
        self._cells_max = cells_max
        whole = Row()
        self._rows: OrderedDict[Key, Row] = OrderedDict({WHOLE: whole})
        self.tops = whole.cells
        """The node of each gateway over all its payments."""
        self._count = 0
        self.has_forgotten = False
        """Whether rows had to be dropped for want of room."""

    def __len__(self) -> int:
        return self._count

    def row(self, key: Key) -> Row | None:
        """Look a row up without using it."""
        return self._rows.get(key)

    def use(self, key: Key) -> Row | None:
        """Look a row up, and count this as a use."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def made(self, key: Key, gateway: str, at: float, keep: Collection[Key] = ()) -> Node:
        """The node of a gateway in a row; both are made where they are missing, and rows of ``keep`` stay."""
        row = self.use(key)
        if row is None:
            row = self._rows[key] = Row(at)
        cell = row.cells.get(gateway)
        if cell is None:
            while self._count >= self._cells_max and self._drop_oldest({WHOLE, key, *keep}):
                pass
            cell = row.cells[gateway] = Node(at)
            self._count += 1
        return cell

    def items(self) -> Iterator[tuple[Key, Row]]:
        """Every row."""
        return iter(self._rows.items())

    def renew(self, gateway: str, key: Key, *, since: float, below: bool = False) -> None:
        """Let a gateway's nodes forget what was different lately, for the payments inside ``key`` (None: all).

        Args:
            gateway: whose nodes.
            key: (method, issuer); which payments.
            since: payments made before this are not heard any more, seconds since the epoch.
            below: leave the node that stands for the whole of ``key`` as it is.
        """
        for row_key, node in self._inside(gateway, key):
            if not (below and row_key == key):
                node.renew(since)

    def leaves(self, gateway: str, key: Key) -> list[Node]:
        """A gateway's nodes of one method and issuer each, inside ``key``."""
        inside = self._inside(gateway, key)
        return [node for row_key, node in inside if len(row_key) == LEAF - 1 and None not in row_key]

    def _inside(self, gateway: str, key: Key) -> Iterator[tuple[Key, Node]]:
        """A gateway's nodes for the payments inside ``key``."""
        wanted = [(place, part) for place, part in enumerate(key) if part is not None]
        for row_key, row in self._rows.items():
            node = row.cells.get(gateway)
            if node is not None and all(place < len(row_key) and row_key[place] == part for place, part in wanted):
                yield row_key, node

    def calm_across(self, gateway: str, place: int) -> None:
        """Start the detectors anew that heard the same payments as one that has called a change.

        A method's payments are parts of all issuers', and an issuer's of all methods'; no other nodes cross.
        """
        if place not in (METHOD, ISSUER):
            return
        for key, row in self._rows.items():
            is_other = (key[0] is None) if place == METHOD else (len(key) == 2 and key[1] is None)
            if is_other and key != WHOLE and gateway in row.cells:
                row.cells[gateway].calm()

    def _drop_oldest(self, keep: Collection[Key]) -> bool:
        for key in self._rows:
            if key not in keep:
                self._count -= len(self._rows.pop(key).cells)
                self.has_forgotten = True
                return True
        return False
