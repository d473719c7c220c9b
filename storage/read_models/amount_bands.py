"""Amounts in bands that are the same in every currency, in its major unit: what a filter can name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from config.currencies import MINOR_DIGITS, MINOR_DIGITS_OTHER

AMOUNT_BANDS: Final[dict[str, tuple[int, int | None]]] = {
    "0-10": (0, 10),
    "10-50": (10, 50),
    "50-200": (50, 200),
    "200-1000": (200, 1_000),
    "1000-up": (1_000, None),
}
"""From, and up to but not including, in major units. The names need no escaping in an address."""


def amounts_within(bands: Sequence[str]) -> dict[str, Any]:
    """The query that keeps amounts within some bands, each by the minor unit of its currency.

    Args:
        bands: keys of ``AMOUNT_BANDS``; none: every amount is kept.

    >>> amounts_within(["1000-up"])["$or"][0]["$or"]
    [{'amount_minor': {'$gte': 100000}}]
    """
    if not bands:
        return {}
    codes: dict[int, dict[str, list[str]]] = {MINOR_DIGITS: {"$nin": [*MINOR_DIGITS_OTHER]}}
    for digits in sorted(set(MINOR_DIGITS_OTHER.values())):
        codes[digits] = {"$in": [code for code, its in MINOR_DIGITS_OTHER.items() if its == digits]}
    return {
        "$or": [
            {"currency": of, "$or": [{"amount_minor": _ends(band, 10**digits)} for band in bands]}
            for digits, of in codes.items()
        ]
    }


def _ends(band: str, minor: int) -> dict[str, int]:
    low, high = AMOUNT_BANDS[band]
    return {"$gte": low * minor} | ({} if high is None else {"$lt": high * minor})
