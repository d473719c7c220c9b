"""How likely a payment is to succeed: three logistic gates, one after the other.

1. The gateway gets the payment as far as the issuer (``acceptance``): depends on gateway, method, issuer, network,
   amount, hour, 3-D Secure and country, with interactions, so the best gateway depends on the context.
2. The issuer's systems answer (one minus ``technical``).
3. The payer's side says yes (one minus ``business``): funds, limits, PIN. This luck belongs to the order: another
   gateway does not change it.

The chance of success is the product of the three.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri

from simulator.world import facts
from simulator.world.draws import Floats, halves_many, stream_key, words_at
from simulator.world.orders import Ids, OrderColumns

MINUTES_A_DAY: Final = 1440
EVENING_HOUR: Final = 20.0
EVENING_SWING: Final = 0.25
"""How much the issuers' systems suffer at the evening peak, log-odds either way."""

BUSINESS_AMOUNT: Final = 0.22
"""Larger orders meet limits and empty accounts: log-odds per standard deviation of the logarithm of the amount."""

MONTH_END_SWING: Final = 0.18
"""Accounts are full after payday (the 1st to 5th) and empty before it (from the 25th): log-odds either way."""

FRAUD_REFUSED: Final = 0.85
"""Share of card testers' tries that the payer's bank refuses."""


class Chances(NamedTuple):
    """Chances of many orders without incidents: ``business`` and ``technical`` (n,), ``acceptance`` (n, gateways)."""

    business: Floats
    technical: Floats
    acceptance: Floats

    def success(self) -> Floats:
        """Chance of success by gateway. Shape (n, gateways)."""
        answered: Floats = (1 - self.business) * (1 - self.technical)
        return answered[:, None] * self.acceptance


def _gateway_issuer() -> Floats:
    """The fixed gateway-times-issuer effects, log-odds. Shape (gateways, issuers)."""
    count = len(facts.GATEWAYS) * len(facts.ISSUERS)
    luck, _ = halves_many(
        words_at(stream_key(facts.VARIETY_SEED, "gateway x issuer"), np.arange(count, dtype=np.uint64))
    )
    effects: Floats = facts.GATEWAY_ISSUER_SPREAD * ndtri(luck).reshape(len(facts.GATEWAYS), len(facts.ISSUERS))
    return effects


def _day_swing(worst_hour: Floats, size: Floats) -> Floats:
    """Log-odds by minute of the local day: minus ``size`` at the worst hour, plus at the opposite. Shape (1440, …)."""
    hours = np.arange(MINUTES_A_DAY) / 60
    swing: Floats = -size * np.cos((hours[:, None] - worst_hour) * (2 * np.pi / 24))
    return swing


class SuccessModel:
    """The chances of every order at every gateway. Tables are built once; a look-up is two gathers and an addition."""

    def __init__(self) -> None:
        methods, issuers, networks = len(facts.METHODS), len(facts.ISSUERS), len(facts.NETWORKS)
        shape = (methods, issuers, networks, 2, 2, len(facts.GATEWAYS))
        table = np.zeros(shape)
        table += facts.GATEWAY_METHOD.T[:, None, None, None, None, :]
        table += _gateway_issuer().T[None, :, None, None, None, :]
        table += facts.GATEWAY_NETWORK.T[None, None, :, None, None, :]
        table[facts.CARD, :, :, 1] += facts.GATEWAY_THREE_DS
        table[facts.CARD, :, :, :, 1] += facts.GATEWAY_FOREIGN
        self._acceptance = table.reshape(-1, len(facts.GATEWAYS))
        self._acceptance_by_minute = _day_swing(facts.GATEWAY_DAY_WORST_HOUR, facts.GATEWAY_DAY_SWING)
        self._technical_by_minute = -_day_swing(np.array([EVENING_HOUR]), np.array([EVENING_SWING]))[:, 0]
        business = logit(np.array([issuer.business for issuer in facts.ISSUERS]))
        technical = logit(np.array([issuer.technical for issuer in facts.ISSUERS]))
        # Less half the variance of the swings, so that the mean over amounts and hours stays on the calibrated share.
        self._business = business[None, :] + np.log(facts.BUSINESS_FACTOR)[:, None] - 0.5 * BUSINESS_AMOUNT**2
        self._technical = technical[None, :] + np.log(facts.TECHNICAL_FACTOR)[:, None] - 0.25 * EVENING_SWING**2

    def chances(self, orders: OrderColumns) -> Chances:
        """Look up the chances of orders, without incidents."""
        local = orders.placed_at + facts.LOCAL_OFFSET_S
        minute = (local // 60).astype(np.int64) % MINUTES_A_DAY
        foreign = (orders.country > 0).astype(np.int64)
        place = (orders.method * len(facts.ISSUERS) + orders.issuer) * len(facts.NETWORKS) + orders.network
        place = (place * 2 + orders.three_ds) * 2 + foreign
        acceptance = self._acceptance[place]
        acceptance += self._acceptance_by_minute[minute]
        acceptance += orders.amount_score[:, None] * facts.GATEWAY_AMOUNT
        business = self._business[orders.method, orders.issuer] + BUSINESS_AMOUNT * orders.amount_score
        business += payday_effect(local)
        technical = self._technical[orders.method, orders.issuer] + self._technical_by_minute[minute]
        refused = np.where(orders.fraud, FRAUD_REFUSED, expit(business))
        return Chances(refused, expit(technical), expit(acceptance))


def payday_effect(local: Floats) -> Floats:
    """Log-odds of a refusal added by the day of the month. Shape (n,).

    Args:
        local: local seconds since epoch.
    """
    days = (local // 86_400).astype("datetime64[D]")
    day: Ids = (days - days.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64)
    effect: Floats = np.where(day < 5, -MONTH_END_SWING, np.where(day >= 24, MONTH_END_SWING, 0.0))
    return effect
