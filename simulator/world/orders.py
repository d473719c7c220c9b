"""Orders and the customers behind them, as columns for many and as one small record for one.

Everything about order number ``i`` follows from the seed, ``i`` and the moment it is placed. A customer keeps an
issuer, a favourite method, a card network and a patience; some customers return often, some are new.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from simulator.world import facts
from simulator.world.draws import Floats, Words, halves_many, slot_words, stream_key, words_at

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]

CUSTOMERS: Final = 50_000
"""Customers who already know the shop; the first of them return most often."""

NEW_SHARE: Final = 0.18
"""Share of orders by customers who were never seen before."""

FAVOURITE_SHARE: Final = 0.85
"""Share of orders that a customer pays with the favourite method."""

SAME_ISSUER_SHARE: Final = 0.6
"""Share of switches to another method that stay with the same bank."""

DEVICES: Final = ("app", "mobile_web", "desktop")

CARD_TESTING_AMOUNT_MAX: Final = 60.0
"""Card testers try tiny amounts, rupees."""


class OrderColumns(msgspec.Struct, frozen=True):
    """Many orders, one array a field, each of shape (n,). Names are coded by their place in ``facts``."""

    index: Words
    placed_at: Floats
    customer: Words
    method: Ids
    issuer: Ids
    network: Ids
    country: Ids
    three_ds: Flags
    amount_minor: Ids
    amount_score: Floats
    patience: Floats
    device: Ids
    payer_luck: Floats
    fraud: Flags

    def take(self, rows: NDArray[np.int64] | Flags) -> OrderColumns:
        """Some of the orders."""
        return OrderColumns(*(column[rows] for column in self.all()))

    def all(self) -> list[NDArray[Any]]:
        """Every column, in the order of the fields."""
        return [getattr(self, name) for name in self.__struct_fields__]


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order as the checkout sees it, and what only the world knows (chances, luck, patience).

    ``business`` and ``technical`` are the shares that the payer's side and the issuer's systems refuse; ``acceptance``
    is, by gateway, the share that reaches the issuer. All three are without incidents.
    """

    index: int
    placed_at: float
    customer: int
    method: int
    issuer: int
    network: int
    country: int
    three_ds: bool
    amount_minor: int
    amount_score: float
    patience: float
    device: int
    payer_luck: float
    fraud: bool
    business: float
    technical: float
    acceptance: tuple[float, ...]


def _cumulative(weights: Floats) -> Floats:
    total = np.cumsum(weights / weights.sum())
    total[-1] = 1.0
    return total


_ISSUERS: Final = _cumulative(np.array([issuer.weight for issuer in facts.ISSUERS]))
_METHODS: Final = _cumulative(facts.METHOD_WEIGHTS)
_NETWORKS: Final = _cumulative(facts.NETWORK_WEIGHTS)
_COUNTRIES: Final = _cumulative(facts.COUNTRY_WEIGHTS)


def _pick(cumulative: Floats, luck: Floats) -> Ids:
    return np.searchsorted(cumulative, luck, side="right").astype(np.int64)


class OrderBook:
    """All orders of one seed, whichever of them are asked for.

    Args:
        seed: of the world.
    """

    def __init__(self, seed: int) -> None:
        self._orders = stream_key(seed, "orders")
        self._customers = stream_key(seed, "customers")
        self._switches = stream_key(seed, "switches")

    def columns(self, index: Words, placed_at: Floats, fraud: Flags | None = None) -> OrderColumns:
        """Look up orders.

        Args:
            index: numbers of the orders, shape (n,), uint64.
            placed_at: when each is placed, seconds since epoch, shape (n,).
            fraud: which of them are card testers' orders, shape (n,); none when left out.
        """
        words = words_at(self._orders, index)
        luck_new, luck_customer = halves_many(slot_words(words, 1))
        luck_amount, luck_method = halves_many(slot_words(words, 2))
        luck_three_ds, payer_luck = halves_many(slot_words(words, 3))
        customer = (luck_customer * luck_customer * CUSTOMERS).astype(np.uint64)
        customer = np.where(luck_new < NEW_SHARE, index + np.uint64(CUSTOMERS), customer)
        fraud = np.zeros(len(index), dtype=np.bool_) if fraud is None else fraud
        return self._paid(index, placed_at, customer, luck_amount, luck_method, luck_three_ds, payer_luck, fraud)

    def _paid(  # one order is that many draws
        self,
        index: Words,
        placed_at: Floats,
        customer: Words,
        luck_amount: Floats,
        luck_method: Floats,
        luck_three_ds: Floats,
        payer_luck: Floats,
        fraud: Flags,
    ) -> OrderColumns:
        person = words_at(self._customers, customer)
        luck_issuer, luck_favourite = halves_many(slot_words(person, 1))
        luck_network, luck_country = halves_many(slot_words(person, 2))
        patience, luck_device = halves_many(slot_words(person, 3))
        other = (luck_method - FAVOURITE_SHARE) / (1 - FAVOURITE_SHARE)
        method = _pick(_METHODS, np.where(luck_method < FAVOURITE_SHARE, luck_favourite, other))
        method = np.where(fraud, facts.CARD, method)
        card = method == facts.CARD
        network = np.where(card, _pick(_NETWORKS, luck_network), facts.NO_NETWORK)
        country = np.where(card, _pick(_COUNTRIES, luck_country), 0)
        three_ds = card & ~fraud & (luck_three_ds < facts.THREE_DS_SHARE[(country > 0).astype(np.int64)])
        score = ndtri(luck_amount)
        rupees = facts.AMOUNT_MEDIAN[method] * np.exp(facts.AMOUNT_SPREAD[method] * score)
        rupees = np.clip(rupees, facts.AMOUNT_MIN, facts.AMOUNT_MAX)
        rupees = np.where(fraud, facts.AMOUNT_MIN + luck_amount * CARD_TESTING_AMOUNT_MAX, rupees)
        return OrderColumns(
            index=index,
            placed_at=placed_at,
            customer=customer,
            method=method,
            issuer=_pick(_ISSUERS, luck_issuer),
            network=network,
            country=country,
            three_ds=three_ds,
            amount_minor=np.round(rupees * 100).astype(np.int64),
            amount_score=score,
            patience=patience,
            device=np.minimum((luck_device * len(DEVICES)).astype(np.int64), len(DEVICES) - 1),
            payer_luck=payer_luck,
            fraud=fraud,
        )

    def switched(self, orders: OrderColumns, method: Ids, now: Floats) -> OrderColumns:
        """The same orders, paid with another method of the same customer or the same method from another account.

        Args:
            orders: n orders.
            method: the new method of each, shape (n,).
            now: when, seconds since epoch, shape (n,).
        """
        words = words_at(self._switches, orders.index * np.uint64(len(facts.METHODS)) + method.astype(np.uint64))
        luck_same, luck_issuer = halves_many(slot_words(words, 1))
        luck_network, luck_three_ds = halves_many(slot_words(words, 2))
        payer_luck, _ = halves_many(slot_words(words, 3))
        card = method == facts.CARD
        country = np.where(card, orders.country, 0)
        return msgspec.structs.replace(
            orders,
            placed_at=now,
            method=method,
            issuer=np.where(luck_same < SAME_ISSUER_SHARE, orders.issuer, _pick(_ISSUERS, luck_issuer)),
            network=np.where(card, _pick(_NETWORKS, luck_network), facts.NO_NETWORK),
            country=country,
            three_ds=card & (luck_three_ds < facts.THREE_DS_SHARE[(country > 0).astype(np.int64)]),
            payer_luck=payer_luck,
        )


def bank_identification_number(issuer: int, network: int) -> str | None:
    """The first six digits of this world's cards of an issuer on a network; None when there is no card.

    >>> bank_identification_number(3, 0)
    '490300'
    """
    if network == facts.NO_NETWORK:
        return None
    return f"{('49', '53', '60', '37')[network]}{issuer:02d}00"
