"""Which gateways may take a payment at all, and why the others may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ml.routing.context import RoutingContext
from ml.routing.worth import FREE, Fees


class GatewayTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway takes, and what it costs. No countries means all countries."""

    methods: frozenset[str]
    currencies: frozenset[str]
    countries: frozenset[str] = frozenset()
    fees: Fees = FREE


class Eligibility(msgspec.Struct, frozen=True, kw_only=True):
    """The gateways that may take a payment, in the order listed, and the reason for each of the others."""

    candidates: tuple[str, ...]
    excluded: tuple[tuple[str, str], ...]


def eligible(
    context: RoutingContext, gateways: Mapping[str, GatewayTerms], *, asked: Sequence[str] = ()
) -> Eligibility:
    """Sort the gateways into those that may take a payment and those that may not.

    Args:
        context: the payment.
        gateways: what each known gateway takes, by name.
        asked: the only gateways to consider; empty for all known ones. Unknown names are excluded, not an error.

    >>> terms = GatewayTerms(methods=frozenset({"card"}), currencies=frozenset({"EUR"}), countries=frozenset({"DE"}))
    >>> eligible(RoutingContext(method="upi", currency="EUR"), {"goldcard": terms}).excluded
    (('goldcard', 'does not take upi'),)
    """
    candidates: list[str] = []
    excluded: list[tuple[str, str]] = []
    for name in dict.fromkeys(asked) if asked else gateways:
        terms = gateways.get(name)
        problem = "is not a known gateway" if terms is None else _problem(context, terms)
        if problem:
            excluded.append((name, problem))
        else:
            candidates.append(name)
    if asked:
        listed = frozenset(asked)
        excluded.extend((name, "is not among the candidates of the request") for name in gateways if name not in listed)
    return Eligibility(candidates=tuple(candidates), excluded=tuple(excluded))


def _problem(context: RoutingContext, terms: GatewayTerms) -> str:
    """Say why a gateway may not take a payment; empty when it may. An unknown country is not held against it."""
    if context.method not in terms.methods:
        return f"does not take {context.method}"
    if context.currency not in terms.currencies:
        return f"does not take {context.currency}"
    if terms.countries and context.country is not None and context.country not in terms.countries:
        return f"does not serve {context.country}"
    return ""
