"""Which attempts a reader looks at: some gateways, methods, issuers, currencies, countries, amounts, arms, or all."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from storage.read_models.amount_bands import amounts_within

DIMENSIONS: Final = ("gateway", "method", "issuer", "currency")
"""What the sums of attempts can be told apart by."""

NARROW: Final = ("country", "amount", "arm")
"""What only single attempts tell. More in the sums would be more of them, and every attempt slower to record."""

CHOICES: Final = (*DIMENSIONS, *NARROW)

FAILURE_DIMENSIONS: Final = ("gateway", "currency")
"""What the sums of failures can be told apart by."""

FAILURE_CHOICES: Final = (*FAILURE_DIMENSIONS, "country", "amount")
"""What can be chosen of failures: a single failure has its country and amount, and not its arm."""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Names by dimension; an empty tuple stands for all.

    ``amount``: names of ``AMOUNT_BANDS``. ``arm``: each ``experiment/arm``.
    """

    gateway: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    issuer: tuple[str, ...] = ()
    currency: tuple[str, ...] = ()
    country: tuple[str, ...] = ()
    amount: tuple[str, ...] = ()
    arm: tuple[str, ...] = ()

    @property
    def names(self) -> list[tuple[str, str]]:
        """Every name with its dimension, in one order.

        >>> Chosen(issuer=("b", "a"), method=("card",)).names
        [('method', 'card'), ('issuer', 'b'), ('issuer', 'a')]
        """
        return [(dimension, name) for dimension in CHOICES for name in getattr(self, dimension)]

    @property
    def is_narrow(self) -> bool:
        """Whether only single attempts tell what is chosen."""
        return any(getattr(self, dimension) for dimension in NARROW)

    def only(self, *dimensions: str) -> Chosen:
        """What is chosen of some dimensions; all of the others.

        >>> Chosen(issuer=("a",), country=("IN",)).only("country").names
        [('country', 'IN')]
        """
        return Chosen(**{dimension: getattr(self, dimension) for dimension in dimensions})

    def match(self, *dimensions: str) -> dict[str, Any]:
        """The query that keeps what is chosen, over these dimensions; over all that sums have if none is named.

        >>> Chosen(issuer=("a",), currency=("EUR", "USD")).match("gateway", "currency")
        {'currency': {'$in': ['EUR', 'USD']}}
        """
        kept = {dimension: list(getattr(self, dimension)) for dimension in dimensions or DIMENSIONS}
        return {dimension: {"$in": names} for dimension, names in kept.items() if names}

    def match_single(self) -> dict[str, Any]:
        """The query that keeps single attempts, or failures, of what is chosen; an arm is told by decisions only."""
        return self.match(*DIMENSIONS, "country") | amounts_within(self.amount)

    def match_decisions(self) -> dict[str, Any]:
        """The query that keeps the decisions of the arms that are chosen.

        >>> Chosen(arm=("wallet-first/control",)).match_decisions()
        {'$or': [{'advice.experiment': 'wallet-first', 'advice.arm': 'control'}]}
        """
        parted = [name.partition("/") for name in self.arm]
        return {"$or": [{"advice.experiment": experiment, "advice.arm": arm} for experiment, _, arm in parted]}


ALL: Final = Chosen()
