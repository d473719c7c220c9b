"""What the parameters of a policy may be, in an experiment arm and in a policy that is judged alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

PARAMETER_RANGES: Final[dict[str, tuple[type, float, float]]] = {
    "exploration_floor": (float, 0.0, 1.0),
    "exploration_cost_max": (float, 0.0, 1.0),
    "canary_share": (float, 0.0, 1.0),
    "memory_half_life_s": (float, 1.0, 1e9),
    "recent_half_life_s": (float, 1.0, 1e9),
    "boldness": (float, 1e-6, 1e3),
    "margin_share": (float, 1e-6, 1.0),
    "draws": (int, 16, 4096),
    "cells_max": (int, 100, 1_000_000),
}
"""What the numbers among the parameters of policies may be; others may be any number from 0."""


class Mistake(NamedTuple):
    """What does not fit: the parameter, and the problem in words."""

    parameter: str
    problem: str


def mistake_in(
    policy: str,
    parameters: Mapping[str, object],
    known: Collection[str],
    gateways: Collection[str],
    *,
    order: Sequence[str] = (),
) -> Mistake | None:
    """Look for the first parameter that no policy has, or whose value cannot be meant; None: there is none.

    Args:
        policy: that they are for.
        parameters: values by name.
        known: parameters that policies have; empty: that is not looked at.
        gateways: that exist; empty: that is not looked at.
        order: what a fixed order follows where none is among the parameters.

    >>> mistake_in("adaptive", {"exploration_floor": 5}, (), ()).problem
    'exploration_floor takes a number from 0 to 1'
    """
    for name, value in parameters.items():
        problem = _problem_of(name, value, known, gateways)
        if problem is not None:
            return Mistake(name, problem)
    if policy == "fixed_order" and not parameters.get("order", order):
        return Mistake("order", "a fixed order needs gateways; give parameters: {order: [...]}")
    return None


def _problem_of(name: str, value: object, known: Collection[str], gateways: Collection[str]) -> str | None:
    if known and name not in known:
        return f"no policy has a parameter {name!r}; known are {', '.join(sorted(known))}"
    if isinstance(value, list) != (name == "order"):
        return f"{name} takes {'a list of gateways' if name == 'order' else 'a number'}"
    if isinstance(value, list):
        unknown = next((each for each in value if gateways and each not in gateways), None)
        return None if unknown is None else f"there is no gateway {unknown!r}; known are {', '.join(sorted(gateways))}"
    kind, low, high = PARAMETER_RANGES.get(name, (float, 0.0, 1e12))
    is_right = isinstance(value, int) or (isinstance(value, float) and kind is float)
    if is_right and isinstance(value, int | float) and low <= value <= high:
        return None
    return f"{name} takes {'a whole number' if kind is int else 'a number'} from {low:g} to {high:g}"
