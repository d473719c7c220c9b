"""Which attempts a reader looks at: some gateways, methods, issuers and currencies, or all."""

from __future__ import annotations

from typing import Any, Final

import msgspec

DIMENSIONS: Final = ("gateway", "method", "issuer", "currency")
"""What the sums of attempts can be told apart by."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Names by dimension; an empty tuple stands for all."""

    gateway: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    issuer: tuple[str, ...] = ()
    currency: tuple[str, ...] = ()

    @property
    def names(self) -> list[tuple[str, str]]:
        """Every name with its dimension, in one order.

        >>> Chosen(issuer=("b", "a"), method=("card",)).names
        [('method', 'card'), ('issuer', 'b'), ('issuer', 'a')]
        """
        return [(dimension, name) for dimension in DIMENSIONS for name in getattr(self, dimension)]

    def match(self, *dimensions: str) -> dict[str, Any]:
        """The query that keeps what is chosen, over these dimensions; over all of them if none is named.

        >>> Chosen(issuer=("a",), currency=("EUR", "USD")).match("gateway", "currency")
        {'currency': {'$in': ['EUR', 'USD']}}
        """
        kept = {dimension: list(getattr(self, dimension)) for dimension in dimensions or DIMENSIONS}
        return {dimension: {"$in": names} for dimension, names in kept.items() if names}


FAILURE_DIMENSIONS: Final = ("gateway", "currency")
"""What the sums of failures can be told apart by."""

ALL: Final = Chosen()
