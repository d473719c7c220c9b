"""What this world is made of: gateways, methods, issuers, networks, and how good each is at what.

The issuers' shares of traffic, business declines (the bank says no: funds, limits, wrong PIN) and technical declines
(the bank's systems fail) follow the twenty largest paying banks of India's UPI, monthly public statistics of January to
November 2024; the banks' names are invented. Everything about the gateways is invented: so spread that the best gateway
depends on the method, the issuer, the network, the amount and the hour, and that all gateways lie between 0.86 and 0.95
overall.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

GATEWAYS: Final = ("alpha", "bravo", "charlie", "delta", "echo")
METHODS: Final = ("card", "upi", "wallet", "netbanking")
NETWORKS: Final = ("visa", "mastercard", "rupay", "amex", "none")
COUNTRIES: Final = ("IN", "AE", "GB", "SG", "US")
CURRENCY: Final = "INR"

CARD: Final = METHODS.index("card")
NO_NETWORK: Final = NETWORKS.index("none")

LOCAL_OFFSET_S: Final = 5.5 * 3600
"""India's clocks are five and a half hours ahead of UTC all year."""


class Issuer(NamedTuple):
    """One bank: its share of traffic, and the shares of payments it refuses for business and for technical reasons."""

    name: str
    weight: float
    business: float
    technical: float


ISSUERS: Final = (
    Issuer("banyan_national", 25.80, 0.0523, 0.0056),
    Issuer("harbour_bank", 8.26, 0.0448, 0.0011),
    Issuer("bank_of_saffron", 6.38, 0.0677, 0.0051),
    Issuer("monsoon_union", 6.05, 0.0574, 0.0068),
    Issuer("five_rivers_bank", 5.37, 0.0719, 0.0028),
    Issuer("peacock_bank", 5.01, 0.0712, 0.0060),
    Issuer("malabar_bank", 4.62, 0.0626, 0.0054),
    Issuer("meridian_bank", 4.59, 0.0448, 0.0005),
    Issuer("lotus_bank", 4.23, 0.0376, 0.0009),
    Issuer("bank_of_teak", 3.11, 0.0540, 0.0079),
    Issuer("coromandel_bank", 2.94, 0.0579, 0.0017),
    Issuer("skylark_payments_bank", 2.84, 0.0969, 0.0048),
    Issuer("dak_payments_bank", 2.27, 0.1242, 0.0216),
    Issuer("backwater_bank", 1.44, 0.0574, 0.0017),
    Issuer("plateau_bank", 1.42, 0.1107, 0.0237),
    Issuer("lighthouse_bank", 1.38, 0.0551, 0.0147),
    Issuer("neem_bank", 1.26, 0.0693, 0.0062),
    Issuer("granite_bank", 1.09, 0.0551, 0.0115),
    Issuer("sahyadri_bank", 1.07, 0.0590, 0.0138),
    Issuer("kite_bank", 1.06, 0.0789, 0.0040),
)

ISSUER_NAMES: Final = tuple(issuer.name for issuer in ISSUERS)

METHOD_WEIGHTS: Final = np.array([0.28, 0.52, 0.08, 0.12])
"""Shares of the methods among customers' first choices, in the order of METHODS."""

NETWORK_WEIGHTS: Final = np.array([0.38, 0.30, 0.28, 0.04])
"""Shares of the networks among card payments, in the order of NETWORKS without "none"."""

COUNTRY_WEIGHTS: Final = np.array([0.96, 0.01, 0.008, 0.008, 0.014])
"""Shares of the cards' countries among card payments, in the order of COUNTRIES."""

AMOUNT_MEDIAN: Final = np.array([1400.0, 420.0, 260.0, 2600.0])
"""Median amount of an order by method, rupees."""

AMOUNT_SPREAD: Final = np.array([1.05, 1.1, 0.8, 1.0])
"""Standard deviation of the logarithm of the amount, by method."""

AMOUNT_MAX: Final = 100_000.0
"""Largest order, rupees: the limit of one UPI payment."""

AMOUNT_MIN: Final = 10.0

BUSINESS_FACTOR: Final = np.array([1.15, 1.0, 0.45, 0.85])
"""How much likelier the payer's side says no than over UPI, by method (odds)."""

TECHNICAL_FACTOR: Final = np.array([0.8, 1.0, 0.5, 1.6])
"""How much likelier the issuer's systems fail than over UPI, by method (odds)."""

# Log-odds that a gateway gets a payment as far as the issuer's answer. Rows: GATEWAYS; columns: METHODS.
GATEWAY_METHOD: Final = np.array(
    [
        [4.2, 3.1, 3.4, 2.7],  # alpha: cards
        [3.2, 4.4, 3.0, 3.0],  # bravo: UPI
        [3.1, 2.9, 2.7, 4.0],  # charlie: net banking
        [2.9, 2.9, 3.2, 2.8],  # delta: cheap
        [3.0, 3.2, 4.5, 2.2],  # echo: wallets
    ]
)

# Added log-odds by card network. Rows: GATEWAYS; columns: NETWORKS.
GATEWAY_NETWORK: Final = np.array(
    [
        [0.1, 0.2, -0.9, 0.0, 0.0],
        [0.0, 0.1, 0.5, -0.8, 0.0],
        [0.0, -0.3, 1.4, -0.6, 0.0],
        [0.2, 0.3, -0.2, -1.0, 0.0],
        [0.1, 0.0, -0.4, 1.2, 0.0],
    ]
)

GATEWAY_AMOUNT: Final = np.array([0.10, -0.35, 0.05, 0.25, -0.15])
"""Added log-odds per standard deviation of the logarithm of the amount."""

GATEWAY_THREE_DS: Final = np.array([-0.1, -0.4, 0.1, -0.2, 0.3])
"""Added log-odds when the card payment is authenticated with 3-D Secure."""

GATEWAY_FOREIGN: Final = np.array([0.2, -1.2, -0.6, -0.2, -0.9])
"""Added log-odds when the card is from another country."""

GATEWAY_DAY_SWING: Final = np.array([0.10, 0.10, 0.45, 0.05, 0.15])
"""Size of each gateway's daily swing, log-odds."""

GATEWAY_DAY_WORST_HOUR: Final = np.array([20.0, 21.0, 11.0, 4.0, 15.0])
"""Local hour at which each gateway is at its worst."""

GATEWAY_ISSUER_SPREAD: Final = 0.55
"""Standard deviation of the fixed gateway-times-issuer effects, log-odds."""

VARIETY_SEED: Final = 20240
"""Seeds the gateway-times-issuer effects: a fact of this world, the same in every run."""

LATENCY_MEDIAN_MS: Final = np.array([620.0, 900.0, 340.0, 1150.0])
"""Median time to an answer by method, milliseconds."""

LATENCY_SPREAD: Final = np.array([0.42, 0.50, 0.35, 0.55])
"""Standard deviation of the logarithm of the time to an answer, by method."""

LATENCY_GATEWAY: Final = np.array([1.0, 0.85, 1.1, 1.3, 0.95])
"""How much slower than the median each gateway is."""

TIMEOUT_MS: Final = np.array([12_000.0, 10_000.0, 8_000.0, 12_000.0, 10_000.0])
"""After this long the checkout stops waiting for a gateway, milliseconds."""

PENDING_SHARE: Final = np.array([0.002, 0.015, 0.004, 0.02])
"""Share of attempts whose outcome comes late, by method."""

SETTLE_S_MIN: Final = 1.0
SETTLE_S_MAX: Final = 120.0
NEVER_SHARE: Final = 0.02
"""Share of the late outcomes that never come."""

REVERSAL_SHARE: Final = 0.002
"""Share of successes that are taken back later."""

REVERSAL_S_MIN: Final = 20.0
REVERSAL_S_MAX: Final = 300.0

DUPLICATE_SHARE: Final = 0.005
"""Share of reports that a checkout sends twice."""

THREE_DS_SHARE: Final = np.array([0.93, 0.35])
"""Share of card payments with 3-D Secure: domestic, foreign."""

FEES: Final = {
    # gateway: (fixed on success, fixed on failure, basis points on success), in paise
    "alpha": (200, 20, 180.0),
    "bravo": (150, 50, 190.0),
    "charlie": (100, 0, 200.0),
    "delta": (300, 0, 150.0),
    "echo": (0, 10, 210.0),
}

UPI_FEE_FACTOR: Final = 0.25
"""UPI costs a merchant a quarter of what the other methods do."""
