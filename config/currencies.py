"""How many digits the minor unit of a currency has (ISO 4217)."""

from __future__ import annotations

from typing import Final

NO_DIGITS: Final = (
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG",
    "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF",
)  # fmt: skip
THREE_DIGITS: Final = ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND")
MINOR_DIGITS: Final = 2
"""Of every currency that is not listed above."""

MINOR_DIGITS_OTHER: Final = {**dict.fromkeys(NO_DIGITS, 0), **dict.fromkeys(THREE_DIGITS, 3)}
"""Currencies whose minor unit is not a hundredth."""


def minor_digits(currency: str | None) -> int:
    """The digits of a currency's minor unit.

    >>> minor_digits("INR"), minor_digits("JPY"), minor_digits("KWD"), minor_digits(None)
    (2, 0, 3, 2)
    """
    return MINOR_DIGITS_OTHER.get(currency or "", MINOR_DIGITS)
