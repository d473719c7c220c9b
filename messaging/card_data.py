"""Finds card numbers and security codes, so that they are refused at the door.

A card number is a run of 13 to 19 digits (single spaces, dashes and dots between them do not matter) with a valid Luhn
sum that begins like a card of a known scheme; or digits in the groups that are printed on cards (4-4-4-4, 4-6-5 and the
like), with underscores or slashes between them too. A security code is any value in a field that is named like one.
Identifiers of ours start with a letter, so an undivided run that is glued to letters inside an id field (``ord_…``,
``ord-…``) is no card number; elsewhere it is, and groups are everywhere. Of random digits alone, 1 % to 4 % look like a
card number (16 digits: 4.0 %); that is why ids need their letters, and why undivided digits behind letters pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from messaging.errors import CardDataRefused

DIGITS_MIN: Final = 13
DIGITS_MAX: Final = 19
DIGITS_LEAST: Final = 10 ** (DIGITS_MIN - 1)
DIGITS_BEYOND: Final = 10**DIGITS_MAX
CANDIDATES_MAX: Final = 2_000
"""Groups of digits that are looked at in one text; no field of ours holds a tenth; what does is refused."""

CARD_NUMBER: Final = "card number"
SECURITY_CODE: Final = "security code"

Place = tuple[str | int, ...]
"""Where a value stands: the names and indexes from the top."""

ID_FIELDS: Final = frozenset(
    {"event_id", "attempt_id", "order_id", "customer_id", "decision_id", "request_id", "batch_id", "message_id",
     "correlation_id", "version"}
)  # fmt: skip

SECURITY_CODE_FIELDS: Final = frozenset(
    {"cvv", "cvv2", "cvc", "cvc2", "cid", "csc", "cav", "cav2", "cvn", "securitycode", "cardsecuritycode",
     "cardverificationvalue", "cardverificationcode", "cardcvv", "cardcvc", "pin", "pinblock", "trackdata", "track1",
     "track2", "magstripe"}
)  # fmt: skip
"""Names of fields that hold what must never be stored, even encrypted (PCI DSS 3.3.1); case and punctuation ignored."""

_RUN = re.compile(r"\d(?:[ \-\u00a0\u2010-\u2015.]?\d){12,}")
_GROUPED = re.compile(
    r"(?<!\d)(?=(\d{4}(?:S\d{4}S\d{4}S\d{4}(?:S\d{3})?|S\d{6}S\d{4,5}|S\d{3}S\d{3}S\d{3}))(?!\d))".replace(
        "S", r"[ \-_/.\u00a0\u2010-\u2015]"
    )
)
"""The groups that are printed on cards, wherever they stand; looked ahead for, so that a group before hides none."""
_UUID = re.compile(
    r"(?i)(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(?![0-9a-f])"
)
"""One in 150,000 would hold a card number in its groups by chance."""
_LONG_RUN: Final = b"0" * DIGITS_MIN
_DIGITS_ALIKE: Final = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else ord("x") for byte in range(256))
_SEPARATORS: Final = b" -._/"
"""Every digit becomes the same one, so that a long run is found by one search; much faster than an expression."""
_HINTS: Final = (b"cv", b"csc", b"cid", b"cav", b"pin", b"track", b"magstripe", b"secur", b"verif")
"""What every name of a security code holds; a body without any of it needs no second look."""
_ORDINARY_VALUE: Final = str | float | bool | list[str | float | bool | None] | None
_CODE_IN_TEXT = re.compile(r"(?i)\b(?:cvv2?|cvc2?|cvn|csc|cav2?)\W{0,5}\d{3,4}\b")
_GLUED = re.compile(r"(?:[A-Za-z_]|[A-Za-z][\-.:])$")

# Ranges of the first six digits: ISO/IEC 7812 numbers as the schemes publish them.
_SCHEMES: Final = (
    (400000, 499999, (13, 16, 18, 19)),  # Visa
    (510000, 559999, (16,)),  # Mastercard
    (222100, 272099, (16,)),  # Mastercard
    (340000, 349999, (15,)),  # American Express
    (370000, 379999, (15,)),  # American Express
    (300000, 305999, (14, 15, 16, 17, 18, 19)),  # Diners Club
    (309500, 309599, (14, 15, 16, 17, 18, 19)),  # Diners Club
    (360000, 369999, (14, 15, 16, 17, 18, 19)),  # Diners Club
    (380000, 399999, (14, 15, 16, 17, 18, 19)),  # Diners Club
    (352800, 358999, (16, 17, 18, 19)),  # JCB
    (601100, 601199, (16, 17, 18, 19)),  # Discover
    (622126, 622925, (16, 17, 18, 19)),  # Discover and UnionPay
    (644000, 659999, (16, 17, 18, 19)),  # Discover, RuPay
    (620000, 629999, (16, 17, 18, 19)),  # UnionPay
    (810000, 817199, (16, 17, 18, 19)),  # UnionPay, RuPay
    (508500, 508999, (16,)),  # RuPay
    (606985, 608500, (16,)),  # RuPay
    (820000, 829999, (16,)),  # RuPay
    (353800, 356999, (16,)),  # RuPay with JCB
    (500000, 509999, (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (560000, 589999, (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (600000, 609999, (16, 17, 18, 19)),  # Maestro
    (630000, 639999, (16, 17, 18, 19)),  # Maestro, InstaPayment
    (670000, 679999, (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (220000, 220499, (16, 17, 18, 19)),  # Mir
)


class Ordinary:
    """Tells which bodies have ordinary names only, and nothing that nests: among those is no security code's.

    Args:
        names: the names that are ordinary; none may be a security code's.
    """

    def __init__(self, names: Iterable[str]) -> None:
        fields = [(name, _ORDINARY_VALUE, None) for name in dict.fromkeys(names)]
        assert not any(_is_security_code(name) for name, _, _ in fields)
        self._decoder = msgspec.json.Decoder(
            msgspec.defstruct("OrdinaryBody", fields, forbid_unknown_fields=True, gc=False)
        )

    def has_names_of(self, body: bytes) -> bool:
        """Tell whether a body is one; False also for what is no JSON object."""
        try:
            self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return True


def refuse_card_data(
    body: bytes,
    headers: Mapping[str, Any] | None = None,
    texts: Iterable[str] = (),
    *,
    ordinary: Ordinary | None = None,
) -> None:
    """Refuse a message that holds card data anywhere: strings, numbers, keys, headers, the envelope's own texts.

    Args:
        body: the JSON as it came.
        headers: the AMQP headers as they came.
        texts: the other texts of the envelope as they came: its type, its ids.
        ordinary: what most bodies look like; the same is refused without it, more slowly.
    Raises: CardDataRefused: says where and what kind, never the value.
    """
    if _needs_a_second_look(body, ordinary):
        try:
            # Not msgspec: of a name that comes twice it keeps one value, and a dead letter would keep the other.
            value = json.loads(body, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            # Not JSON: nobody can say which field is which, so every digit run counts.
            text = body.decode("utf-8", "replace")
            _refuse_value(text, ("$",), glued_is_fine=False)
            if _CODE_IN_TEXT.search(text):
                raise CardDataRefused("$", SECURITY_CODE) from None
        else:
            _refuse_value(value, ("$",), glued_is_fine=False)
    for name, value in (headers or {}).items():
        _refuse_key(str(name), ("headers",), value)
        _refuse_value(value, ("headers", str(name)), glued_is_fine=False)
    joined = "\n".join(texts)
    if not joined.isascii() or _holds_long_run(joined.encode()):
        _refuse_value(joined.split("\n"), ("envelope",), glued_is_fine=True)


def _needs_a_second_look(body: bytes, ordinary: Ordinary | None) -> bool:
    """Tell quickly whether a body could hold card data at all; most cannot."""
    if _holds_long_run(body) or b"\\u" in body or b"\0" in body or not body.isascii():  # zero bytes: UTF-16
        return True
    if ordinary is not None and ordinary.has_names_of(body):
        return False
    lowered = body.lower()
    for hint in _HINTS:  # noqa: SIM110 - any() costs as much again as the search, for every message that comes in
        if hint in lowered:
            return True
    return False


def _holds_long_run(text: bytes) -> bool:
    return _LONG_RUN in text.translate(_DIGITS_ALIKE, _SEPARATORS)


def is_card_number(digits: str) -> bool:
    """Tell whether a run of digits is a plausible card number: length and beginning of a scheme, and a valid Luhn sum.

    >>> is_card_number("4111111111111111"), is_card_number("4111111111111112"), is_card_number("1764000000000")
    (True, False, False)
    """
    if not DIGITS_MIN <= len(digits) <= DIGITS_MAX:
        return False
    beginning = int(digits[:6])
    fits = any(low <= beginning <= high and len(digits) in lengths for low, high, lengths in _SCHEMES)
    return fits and _luhn_sum(digits) % 10 == 0


def _luhn_sum(digits: str) -> int:
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if index % 2 else 1)
        total += value - 9 if value > 9 else value
    return total


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with every pair that was written, also those whose name comes twice."""


def _refuse_value(value: Any, place: Place, *, glued_is_fine: bool) -> None:
    """Look through a value at any depth; ``place`` is only put into words when something is found."""
    left: list[tuple[Any, Place, bool]] = [(value, place, glued_is_fine)]
    while left:
        value, place, glued_is_fine = left.pop()
        if isinstance(value, str):
            if len(value) >= DIGITS_MIN and _holds_card_number(value, glued_is_fine=glued_is_fine):
                raise CardDataRefused(_in_words(place), CARD_NUMBER)
        elif isinstance(value, _Pairs | dict):
            for key, inner in value if isinstance(value, _Pairs) else value.items():
                _refuse_key(str(key), place, inner)
                left.append((inner, (*place, str(key)), key in ID_FIELDS))
        elif isinstance(value, list | tuple):
            left.extend((inner, (*place, index), glued_is_fine) for index, inner in enumerate(value))
        elif isinstance(value, int | float):
            whole = DIGITS_LEAST <= abs(value) < DIGITS_BEYOND and value == int(value)
            if whole and is_card_number(str(int(abs(value)))):
                raise CardDataRefused(_in_words(place), CARD_NUMBER)
        elif isinstance(value, bytes | bytearray):
            left.append((bytes(value).decode("utf-8", "replace"), place, False))


def _refuse_key(name: str, place: Place, value: Any) -> None:
    if _is_security_code(name) and value not in (None, "", [], {}):
        raise CardDataRefused(_in_words((*place, name)), SECURITY_CODE)
    if len(name) >= DIGITS_MIN and _holds_card_number(name, glued_is_fine=False):
        raise CardDataRefused(f"{_in_words(place)} (a key)", CARD_NUMBER)


@lru_cache(maxsize=4_096)
def _is_security_code(name: str) -> bool:
    return re.sub(r"[^a-z0-9]", "", name.lower()) in SECURITY_CODE_FIELDS


def _holds_card_number(text: str, *, glued_is_fine: bool) -> bool:
    if any(is_card_number(digits) for digits in _grouped(text)):
        return True
    searched = 0
    for found in _RUN.finditer(text):
        if glued_is_fine and _GLUED.search(text[: found.start()]):
            continue
        for digits in _candidates(found[0]):
            searched += 1
            if searched > CANDIDATES_MAX or is_card_number(digits):
                return True
    return False


def _grouped(text: str) -> Iterator[str]:
    """Digits that stand in the groups of a card, also where the last group of 19 belongs to something else."""
    for found in _GROUPED.finditer(_UUID.sub("-", text)):
        digits = re.sub(r"\D", "", found[1])
        yield digits
        if len(digits) == DIGITS_MAX:
            yield digits[:16]


def _candidates(run: str) -> Iterator[str]:
    """Parts of a run that begin and end at a separator: a number may have a date or an amount beside it."""
    groups = re.findall(r"\d+", run)
    for first in range(len(groups)):
        digits = ""
        for group in groups[first : first + DIGITS_MAX]:
            digits += group
            if len(digits) > DIGITS_MAX:
                break
            if len(digits) >= DIGITS_MIN:
                yield digits


def _in_words(place: Place) -> str:
    """A place for an error text; a number in a name is hidden, it may be the card's."""
    words = str(place[0])
    for step in place[1:]:
        words += f"[{step}]" if isinstance(step, int) else "." + re.sub(r"\d{4,}", "…", step)[:60]
    return words
