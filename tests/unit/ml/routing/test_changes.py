"""Method and issuer of a gateway cross: each is told what the other's change explains."""

from __future__ import annotations

import numpy as np
import pytest

from ml.routing.changes import is_back, part, watch
from ml.routing.context import Outcome
from ml.routing.estimates import Estimates
from ml.routing.node import Node
from ml.routing.table import ISSUER, LEAF, METHOD, CellTable


def chain() -> list[Node]:
    """Gateway, method, issuer, and both, each with a hundred payments of late, ninety of them good."""
    nodes = [Node(0.0) for _ in range(LEAF + 1)]
    for node in nodes:
        node.add_recent(100.0, 90.0, 90.0)
    return nodes


def fail(nodes: list[Node], count: int) -> tuple[int, str] | None:
    """So many failures where nine of ten were expected to succeed. Returns: the first alarm."""
    for at in range(count):
        found = watch(nodes, [0.9] * len(nodes), (0.9, 0.9), (0.0, 1.0), float(at), 1_000.0)
        if found is not None:
            return found
    return None


def test_a_change_of_an_issuer_is_taken_out_of_the_gateway_and_not_out_of_one_method() -> None:
    """The issuer's payments come by all methods; a method has only part of them."""
    nodes = chain()
    for _ in range(5):
        nodes[ISSUER].fall.feed(1.0, (1.0, 0.0, 0.9), 0.0)
    part(nodes, ISSUER, "fell", 0.9, 5.0)
    assert nodes[0].recent_payments == 95.0
    assert nodes[METHOD].recent_payments == 100.0


def test_while_a_method_is_apart_its_payments_say_nothing_of_an_issuer() -> None:
    """What has happened to the method explains them."""
    nodes = chain()
    nodes[METHOD].apart = True
    fail(nodes, 4)
    assert nodes[ISSUER].fall.evidence == 0.0
    assert nodes[LEAF].fall.evidence > 0.0
    well = chain()
    fail(well, 4)
    assert well[ISSUER].fall.evidence > 0.0


def test_the_same_payments_raise_no_second_alarm_across() -> None:
    """A method's alarm starts the issuers' detectors anew, and an issuer's those of methods; of this gateway only."""
    for place in (METHOD, ISSUER):
        table = CellTable(100)
        keys = [("card", None), ("upi", None), (None, "lotus_bank"), (None, "river_bank"), ("card", "lotus_bank")]
        for gateway in "ab":
            for key in [(None, None), *keys]:
                table.made(key, gateway, 0.0).fall.feed(1.0, (1.0, 0.0, 0.9), 0.0)
        table.calm_across("a", place)
        calm = {key for key, row in table.items() if row.cells["a"].fall.evidence == 0.0}
        assert calm == set(keys[2:4] if place == METHOD else keys[:2])
        assert all(row.cells["b"].fall.evidence > 0.0 for _, row in table.items())


def test_a_method_that_fails_leaves_no_evidence_against_its_issuers() -> None:
    """Card fails for eight issuers at once: the alarm is the method's, and no issuer is half accused."""
    held = Estimates(half_life_s=345_600.0, cells_max=1_000)
    issuers = [f"issuer_{number}" for number in range(8)]
    luck = np.random.default_rng(1)

    def learn(step: int, method: str, *, won: bool) -> None:
        held.learn(Outcome(gateway="a", method=method, issuer=issuers[step % 8], at=step,
                           succeeded=float(won), failed=float(not won)), step)  # fmt: skip

    for step in range(2_000):
        learn(step, ("card", "upi")[step // 8 % 2], won=bool(luck.random() < 0.95))
    method = held._table.made(("card", None), "a", 0.0)
    for step in range(2_000, 2_040):
        learn(step, "card", won=False)
        if method.apart:
            break
    assert method.apart
    assert all(held._table.made((None, issuer), "a", 0.0).fall.evidence == 0.0 for issuer in issuers)


@pytest.mark.parametrize(
    ("payments", "succeeded", "expected", "back"),
    [
        (50, 47, 47, False),  # too few to tell
        (7_600, 7_180, 7_212, True),  # a false alarm of some hours ago
        (200, 150, 186, False),  # it does fail
        (200, 183, 186, True),
        (5_000, 4_200, 4_500, False),
    ],
)
def test_a_hold_ends_when_the_node_does_what_it_did_before(
    payments: float, succeeded: float, expected: float, back: bool
) -> None:
    """By no more than chance or two points beside what was expected without the change."""
    node = Node(0.0)
    node.add_recent(payments, succeeded, expected)
    assert is_back(node) is back


def test_a_method_that_is_apart_hears_nothing_of_an_issuer_that_is_apart_in_it() -> None:
    """Its other issuers are not thought worse for it."""
    held = Estimates(half_life_s=345_600.0, cells_max=100)
    for step in range(600):
        issuer = f"bank_{step % 3}"
        held.learn(Outcome(gateway="a", method="card", issuer=issuer, at=step, succeeded=0.9, failed=0.1), step)
    nodes = {key: row.cells["a"] for key, row in held._table.items() if "a" in row.cells}
    for key in (("card", None), ("card", "bank_0")):
        nodes[key].apart, nodes[key].apart_since = True, 600.0
    before = nodes["card", None].recent_payments
    for step in range(600, 640):
        held.learn(Outcome(gateway="a", method="card", issuer="bank_0", at=step, failed=1), step)
    assert nodes["card", None].recent_payments <= before
    assert held.beliefs("card", "bank_0", ("a",), 640)[0].mean < 0.3
    assert held.beliefs("card", "bank_1", ("a",), 640)[0].mean > 0.85
