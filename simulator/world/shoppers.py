"""What shoppers do when a payment fails: try again, pay another way, come back later, or give up."""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple

import numpy as np

from simulator.world import facts
from simulator.world.draws import (
    GOLDEN,
    MASK,
    Floats,
    halves,
    halves_many,
    mix,
    mix_many,
    slot_word,
    slot_words,
    stream_key,
    word_at,
    words_at,
)
from simulator.world.failures import CATEGORIES
from simulator.world.orders import Flags, Ids, Order, OrderColumns
from simulator.world.outcomes import rounded

Choice = Literal["retry", "switch", "later", "give_up"]

ATTEMPTS_MAX: Final = 4
"""Nobody tries more often than this."""

PATIENCE_MS: Final = 15_000.0
"""A wait of this long uses up the patience of the most patient shopper's half."""

# Shares of (retry, switch, later) after each kind of failure, for a shopper of middling patience; the rest gives up.
REACTIONS: Final[dict[str, tuple[float, float, float]]] = {
    "insufficient_funds": (0.05, 0.40, 0.15),
    "limit_exceeded": (0.05, 0.45, 0.10),
    "expired_card": (0.05, 0.55, 0.02),
    "invalid_account_number": (0.45, 0.25, 0.02),
    "cvv_avs_mismatch": (0.55, 0.20, 0.02),
    "account_closed_or_blocked": (0.02, 0.50, 0.03),
    "lost_or_stolen_card": (0.02, 0.40, 0.02),
    "suspected_fraud": (0.15, 0.35, 0.02),
    "do_not_honor": (0.30, 0.35, 0.03),
    "transaction_not_permitted": (0.10, 0.50, 0.02),
    "authentication_required": (0.70, 0.12, 0.02),
    "authentication_failed": (0.60, 0.18, 0.02),
    "authorization_revoked": (0.20, 0.50, 0.02),
    "customer_cancelled": (0.15, 0.20, 0.10),
    "invalid_request": (0.35, 0.30, 0.02),
    "merchant_configuration_error": (0.40, 0.30, 0.02),
    "duplicate_transaction": (0.10, 0.05, 0.00),
    "issuer_unavailable": (0.35, 0.30, 0.08),
    "processing_error": (0.60, 0.20, 0.04),
    "network_timeout": (0.40, 0.22, 0.06),
}

THINK_S_MEDIAN: Final = 2.5
THINK_SPREAD: Final = 1.0
LATER_S_MIN: Final = 60.0
LATER_S_MAX: Final = 1_800.0
LATER_SPREAD: Final = math.log(LATER_S_MAX / LATER_S_MIN)

# What a shopper pays with instead, by the method that failed.
INSTEAD: Final[dict[str, tuple[str, ...]]] = {
    "card": ("upi", "upi", "netbanking", "wallet"),
    "upi": ("card", "card", "upi", "wallet"),
    "wallet": ("upi", "upi", "card"),
    "netbanking": ("upi", "card"),
}

_REACTIONS: Final = np.array([REACTIONS[category] for category in CATEGORIES])
_INSTEAD: Final = [np.array([facts.METHODS.index(name) for name in INSTEAD[method]]) for method in facts.METHODS]


class Reaction(NamedTuple):
    """What a shopper does next, after how many seconds, and with which method."""

    choice: Choice
    after_s: float
    method: int


class Reactions(NamedTuple):
    """What many shoppers do next; arrays of shape (n,). ``switching``: another account, perhaps another method."""

    again: Flags
    after_s: Floats
    method: Ids
    switching: Flags


class Shoppers:
    """Decides what shoppers do. Card testers try once and go on to the next card.

    Args:
        seed: of the world.
    """

    def __init__(self, seed: int) -> None:
        self._key = stream_key(seed, "shoppers")

    def react(self, order: Order, number: int, category: str, waited_ms: float) -> Reaction:
        """Decide after a failure.

        Args:
            order: what the shopper wants to pay.
            number: which attempt just failed, from 1.
            category: why it truly failed.
            waited_ms: how long the shopper has waited for answers in this order.
        """
        if order.fraud or number >= ATTEMPTS_MAX:
            return Reaction("give_up", 0.0, order.method)
        word = mix((word_at(self._key, order.index) + number * GOLDEN) & MASK)
        luck_choice, luck_think = halves(slot_word(word, 1))
        luck_method, _ = halves(slot_word(word, 2))
        keenness = (0.4 + 1.2 * order.patience) * math.exp(-waited_ms / (PATIENCE_MS * (0.5 + order.patience)))
        retry, switch, later = (min(1.0, keenness) * share for share in REACTIONS[category])
        think_s = THINK_S_MEDIAN * math.exp(THINK_SPREAD * (2 * luck_think - 1))
        if luck_choice < retry:
            return Reaction("retry", rounded(think_s, 1000), order.method)
        if luck_choice < retry + switch:
            instead = INSTEAD[facts.METHODS[order.method]]
            method = facts.METHODS.index(instead[int(luck_method * len(instead))])
            return Reaction("switch", rounded(2 * think_s, 1000), method)
        if luck_choice < retry + switch + later:
            return Reaction("later", rounded(LATER_S_MIN * math.exp(luck_think * LATER_SPREAD), 1000), order.method)
        return Reaction("give_up", 0.0, order.method)

    def react_many(self, orders: OrderColumns, number: int, category: Ids, waited_ms: Floats) -> Reactions:
        """Decide for many: who tries again, when, and with which method.

        Args:
            orders: n orders whose attempt ``number`` has just failed.
            number: from 1.
            category: why, places in CATEGORIES, shape (n,).
            waited_ms: how long each has waited for answers, shape (n,).
        """
        words = mix_many(words_at(self._key, orders.index) + np.uint64((number * GOLDEN) & MASK))
        luck_choice, luck_think = halves_many(slot_words(words, 1))
        luck_method, _ = halves_many(slot_words(words, 2))
        keenness = (0.4 + 1.2 * orders.patience) * np.exp(-waited_ms / (PATIENCE_MS * (0.5 + orders.patience)))
        shares = np.minimum(1.0, keenness)[:, None] * _REACTIONS[category]
        retry = shares[:, 0]
        switch = retry + shares[:, 1]
        later = switch + shares[:, 2]
        think = THINK_S_MEDIAN * np.exp(THINK_SPREAD * (2 * luck_think - 1))
        after = np.where(luck_choice < retry, think, 2 * think)
        after = np.where(luck_choice >= switch, LATER_S_MIN * np.exp(luck_think * LATER_SPREAD), after)
        method = orders.method.copy()
        switching = (luck_choice >= retry) & (luck_choice < switch)
        for code, instead in enumerate(_INSTEAD):
            rows = np.flatnonzero(switching & (orders.method == code))
            method[rows] = instead[(luck_method[rows] * len(instead)).astype(np.int64)]
        again = (luck_choice < later) & ~orders.fraud & (number < ATTEMPTS_MAX)
        return Reactions(again, np.floor(after * 1000 + 0.5) / 1000, method, switching)
