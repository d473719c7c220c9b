"""What counts as a move: more than chance, of as many parts as were looked at."""

from __future__ import annotations

import numpy as np

from storage.read_models.failure_map import Counts, Part, _movers

GATEWAYS, ISSUERS = ("alpha", "bravo", "charlie", "delta"), tuple(f"issuer_{number}" for number in range(8))


def hour(seed: int, rates: dict[Part, float] | None = None) -> dict[Part, Counts]:
    """One hour of 150 attempts of each pair at 90 %, but where other rates are given."""
    rng = np.random.default_rng(seed)
    parts = [(gateway, issuer) for gateway in GATEWAYS for issuer in ISSUERS]
    return {part: (int(rng.binomial(150, (rates or {}).get(part, 0.9))), 150) for part in parts}


def test_chance_alone_moves_nothing() -> None:
    """Of forty quiet hours at most a few show a mover: the error is shared by all parts together."""
    wrong = sum(bool(_movers(hour(2 * seed), hour(2 * seed + 1))[0]) for seed in range(40))
    assert wrong <= 6


def test_an_issuer_that_fails_is_named_first_and_its_pairs_after() -> None:
    """The wider part is the surer one, and only what concerns the issuer moved."""
    down = {(gateway, "issuer_3"): 0.5 for gateway in GATEWAYS}
    movers, parts = _movers(hour(1, down), hour(2))
    assert parts == len(GATEWAYS) * len(ISSUERS) + len(GATEWAYS) + len(ISSUERS)
    assert (movers[0].gateway, movers[0].issuer) == (None, "issuer_3")
    assert movers[0].change.high < 0
    assert len(movers) >= 3
    assert all(mover.issuer == "issuer_3" or mover.issuer is None for mover in movers)


def test_thin_parts_are_not_looked_at() -> None:
    """Nineteen attempts say nothing about a move."""
    assert _movers({("alpha", "issuer_0"): (19, 19)}, {("alpha", "issuer_0"): (0, 200)}) == ([], 0)
