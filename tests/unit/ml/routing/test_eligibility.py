"""Which gateways may take a payment."""

from __future__ import annotations

import pytest

from ml.routing.context import RoutingContext
from ml.routing.eligibility import GatewayTerms, eligible

GATEWAYS = {
    "alpha": GatewayTerms(methods=frozenset({"card", "upi"}), currencies=frozenset({"INR"})),
    "goldcard": GatewayTerms(
        methods=frozenset({"card"}), currencies=frozenset({"EUR"}), countries=frozenset({"DE", "AT"})
    ),
}


@pytest.mark.parametrize(
    ("context", "candidates", "excluded"),
    [
        (RoutingContext(method="card", currency="INR", country="IN"), ("alpha",), {"goldcard": "does not take INR"}),
        (RoutingContext(method="upi", currency="EUR"), (),
         {"alpha": "does not take EUR", "goldcard": "does not take upi"}),
        (RoutingContext(method="card", currency="EUR", country="FR"), (),
         {"alpha": "does not take EUR", "goldcard": "does not serve FR"}),
        (RoutingContext(method="card", currency="EUR"), ("goldcard",), {"alpha": "does not take EUR"}),
    ],
)  # fmt: skip
def test_says_who_may_and_why_others_may_not(
    context: RoutingContext, candidates: tuple[str, ...], excluded: dict[str, str]
) -> None:
    """Method, currency and country decide; a country that is not known is not held against a gateway."""
    may = eligible(context, GATEWAYS)
    assert (may.candidates, dict(may.excluded)) == (candidates, excluded)


def test_only_the_candidates_asked_for_are_considered() -> None:
    """Unknown ones and those not asked for are excluded with their reason; a name twice counts once."""
    context = RoutingContext(method="card", currency="EUR", country="DE")
    may = eligible(context, GATEWAYS, asked=["omega", "goldcard", "goldcard"])
    assert may.candidates == ("goldcard",)
    assert dict(may.excluded) == {
        "omega": "is not a known gateway",
        "alpha": "is not among the candidates of the request",
    }
