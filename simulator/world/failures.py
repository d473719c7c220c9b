"""Why payments fail in this world, and what each gateway says about it in its own words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from simulator.world import facts
from simulator.world.draws import Floats

CATEGORIES: Final = (
    "insufficient_funds",
    "limit_exceeded",
    "expired_card",
    "invalid_account_number",
    "cvv_avs_mismatch",
    "account_closed_or_blocked",
    "lost_or_stolen_card",
    "suspected_fraud",
    "do_not_honor",
    "transaction_not_permitted",
    "authentication_required",
    "authentication_failed",
    "authorization_revoked",
    "customer_cancelled",
    "invalid_request",
    "merchant_configuration_error",
    "duplicate_transaction",
    "issuer_unavailable",
    "processing_error",
    "network_timeout",
)
PROCESSING_ERROR: Final = CATEGORIES.index("processing_error")
NETWORK_TIMEOUT: Final = CATEGORIES.index("network_timeout")

# What the payer's side says no for: relative weights by method.
BUSINESS: Final[dict[str, dict[str, float]]] = {
    "card": {
        "insufficient_funds": 30, "do_not_honor": 22, "authentication_failed": 14, "cvv_avs_mismatch": 7,
        "expired_card": 4, "limit_exceeded": 6, "invalid_account_number": 4, "account_closed_or_blocked": 3,
        "lost_or_stolen_card": 1, "transaction_not_permitted": 5, "customer_cancelled": 4,
    },
    "upi": {
        "insufficient_funds": 38, "authentication_failed": 24, "customer_cancelled": 14, "limit_exceeded": 12,
        "account_closed_or_blocked": 4, "invalid_account_number": 4, "do_not_honor": 3, "suspected_fraud": 1,
    },
    "wallet": {
        "insufficient_funds": 60, "limit_exceeded": 14, "customer_cancelled": 16, "account_closed_or_blocked": 5,
        "authentication_failed": 5,
    },
    "netbanking": {
        "customer_cancelled": 38, "authentication_failed": 28, "insufficient_funds": 24, "limit_exceeded": 8,
        "account_closed_or_blocked": 2,
    },
}  # fmt: skip

# What an issuer's systems fail with.
TECHNICAL: Final[dict[str, float]] = {"issuer_unavailable": 78, "network_timeout": 22}

# What a gateway fails with before the issuer is reached: relative weights by method.
GATEWAY: Final[dict[str, dict[str, float]]] = {
    "card": {
        "processing_error": 26, "network_timeout": 14, "suspected_fraud": 18, "do_not_honor": 12,
        "authentication_required": 10, "transaction_not_permitted": 8, "invalid_request": 4,
        "merchant_configuration_error": 5, "duplicate_transaction": 3,
    },
    "upi": {
        "processing_error": 40, "network_timeout": 34, "suspected_fraud": 8, "invalid_request": 4,
        "merchant_configuration_error": 6, "duplicate_transaction": 5, "transaction_not_permitted": 3,
    },
    "wallet": {"processing_error": 50, "network_timeout": 25, "suspected_fraud": 15, "authorization_revoked": 10},
    "netbanking": {
        "processing_error": 38, "network_timeout": 40, "issuer_unavailable": 14, "merchant_configuration_error": 8,
    },
}  # fmt: skip

CARD_TESTING: Final[dict[str, float]] = {
    "cvv_avs_mismatch": 40, "invalid_account_number": 25, "suspected_fraud": 20, "do_not_honor": 15,
}  # fmt: skip

UNLISTED_SHARE: Final = 0.06
"""Share of failures that a gateway describes with a code that is in no published list."""


def category_shares(weights: Mapping[str, float]) -> Floats:
    """Cumulative shares over CATEGORIES, for picking with a number in (0, 1).

    Raises: ValueError: a category is unknown, or no weight is positive.
    """
    unknown = sorted(set(weights) - set(CATEGORIES))
    if unknown:
        raise ValueError(f"unknown failure category {unknown[0]!r}; known: {', '.join(CATEGORIES)}")
    values = np.array([max(0.0, weights.get(category, 0.0)) for category in CATEGORIES])
    if not values.sum() > 0:
        raise ValueError("the weights of failure categories must add up to more than 0")
    total = np.cumsum(values / values.sum())
    total[np.flatnonzero(values)[-1] :] = 1.0
    return total


BUSINESS_SHARES: Final = np.stack([category_shares(BUSINESS[method]) for method in facts.METHODS])
GATEWAY_SHARES: Final = np.stack([category_shares(GATEWAY[method]) for method in facts.METHODS])
TECHNICAL_SHARES: Final = category_shares(TECHNICAL)
CARD_TESTING_SHARES: Final = category_shares(CARD_TESTING)


class CodeRow(NamedTuple):
    """One code of one system, and what it truly means."""

    system: str
    code: str
    message: str
    category: str


class Dialect(NamedTuple):
    """What one gateway says, by category: codes from published lists, and codes that are in none."""

    listed: tuple[tuple[CodeRow, ...], ...]
    unlisted: tuple[tuple[CodeRow, ...], ...]

    def words(self, category: int, luck_unlisted: float) -> tuple[CodeRow, ...]:
        """What the gateway may say for a category: from the published list, or from what is in none."""
        rows = self.unlisted[category] if luck_unlisted < UNLISTED_SHARE else ()
        return rows or self.listed[category]

    def say(self, category: int, luck: float, luck_unlisted: float) -> CodeRow:
        """Pick the words for a failure."""
        rows = self.words(category, luck_unlisted)
        return rows[int(luck * len(rows))]


def dialects(listed: Iterable[CodeRow], unlisted: Iterable[CodeRow]) -> tuple[Dialect, ...]:
    """Give each gateway its own words.

    The systems of the list are dealt out to the gateways in the order of their names; where a gateway's systems have no
    word for a category, it borrows from all of them. Unlisted codes name their gateway.

    Raises: ValueError: there is no word at all for some category.
    """
    listed, unlisted = list(listed), list(unlisted)
    systems = sorted({row.system for row in listed})
    owner = {system: facts.GATEWAYS[place % len(facts.GATEWAYS)] for place, system in enumerate(systems)}
    return tuple(
        Dialect(
            listed=_by_category([r for r in listed if owner[r.system] == gateway], borrowed=listed),
            unlisted=_by_category([r for r in unlisted if r.system == gateway], borrowed=None),
        )
        for gateway in facts.GATEWAYS
    )


def _by_category(own: Sequence[CodeRow], borrowed: Sequence[CodeRow] | None) -> tuple[tuple[CodeRow, ...], ...]:
    words = []
    for category in CATEGORIES:
        rows = tuple(row for row in own if row.category == category)
        if not rows and borrowed is not None:
            rows = tuple(row for row in borrowed if row.category == category)
            if not rows:
                raise ValueError(f"no gateway has a word for {category!r}; add a code for it")
        words.append(rows)
    return tuple(words)
