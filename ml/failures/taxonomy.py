"""The twenty reasons why a payment fails, and what each one means for the next attempt.

Every verdict, chart and retry rule speaks in these categories. Names and retry policies are the field's own. Shopper
messages never let on that a card is reported lost, stolen or suspected of fraud.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Hardness = Literal["soft", "hard"]
Fault = Literal["customer", "issuer", "gateway", "network", "merchant", "fraud_rules", "unknown"]
RetryPolicy = Literal[
    "never",
    "never_fix_request",
    "never_check_status",
    "ask_customer",
    "same_gateway_with_authentication",
    "later_same_or_other",
    "other_gateway",
    "other_gateway_then_later",
    "other_gateway_or_ask_customer",
    "check_status_then_other_gateway",
]

NEVER_AGAIN: Final[frozenset[RetryPolicy]] = frozenset({"never", "never_fix_request", "never_check_status"})
"""Policies under which sending the same payment again is wrong, whoever sends it."""

RETRIES_BLINDLY: Final[frozenset[RetryPolicy]] = frozenset(
    {
        "same_gateway_with_authentication",
        "later_same_or_other",
        "other_gateway",
        "other_gateway_then_later",
        "other_gateway_or_ask_customer",
    }
)
"""Policies under which the payment may be sent again without a person and without asking what became of the first."""

UNKNOWN: Final = "unknown"
"""The name of the verdict "we do not know why"; it is no category of the taxonomy."""


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """One canonical reason.

    ``delay_s_min`` is how long an automatic retry should wait at least, in seconds; 0 is "at once", None is "no
    automatic retry". ``attempts_max`` counts automatic retries after the first attempt.
    """

    name: str
    hardness: Hardness
    fault: Fault
    retry: RetryPolicy
    delay_s_min: int | None
    attempts_max: int
    shopper_message: str


_DAY_S: Final = 86_400

# One text for the plain decline and for every reason that must stay hidden: the text itself then gives nothing away.
_NOT_ACCEPTED = "This payment was not accepted. Please pay another way or ask your bank."
_OUR_SIDE = "This payment could not go through because of a problem on our side. Please pay another way."


def _category(
    name: str,
    nature: tuple[Hardness, Fault, RetryPolicy],
    shopper_message: str,
    *,
    delay_s_min: int | None = None,
    attempts_max: int = 0,
) -> Category:
    """Write one category on two lines."""
    hardness, fault, retry = nature
    return Category(
        name=name,
        hardness=hardness,
        fault=fault,
        retry=retry,
        delay_s_min=delay_s_min,
        attempts_max=attempts_max,
        shopper_message=shopper_message,
    )


CATEGORIES: Final[tuple[Category, ...]] = (
    _category(
        "insufficient_funds",
        ("soft", "customer", "later_same_or_other"),
        "There is not enough money available for this payment. Please add money or pay another way.",
        delay_s_min=_DAY_S,
        attempts_max=4,
    ),
    _category(
        "limit_exceeded",
        ("soft", "customer", "later_same_or_other"),
        "This payment is over a limit of your card or account. Please try a smaller amount, tomorrow, or another way.",
        delay_s_min=_DAY_S,
        attempts_max=3,
    ),
    _category(
        "expired_card",
        ("hard", "customer", "ask_customer"),
        "The card is past its date, or the date was mistyped. Please check it or use another card.",
    ),
    _category(
        "invalid_account_number",
        ("hard", "customer", "ask_customer"),
        "We could not recognise the card or account number. Please check what you entered.",
    ),
    _category(
        "cvv_avs_mismatch",
        ("hard", "customer", "ask_customer"),
        "The security code or the billing address is not the one your bank knows. Please check both.",
    ),
    _category(
        "account_closed_or_blocked",
        ("hard", "issuer", "ask_customer"),
        "This card or account is not available for payments at the moment. Please pay another way or ask your bank.",
    ),
    _category("lost_or_stolen_card", ("hard", "customer", "never"), _NOT_ACCEPTED),
    _category("suspected_fraud", ("hard", "fraud_rules", "never"), _NOT_ACCEPTED),
    _category(
        "do_not_honor",
        ("soft", "issuer", "other_gateway_then_later"),
        _NOT_ACCEPTED,
        delay_s_min=0,
        attempts_max=2,
    ),
    _category(
        "transaction_not_permitted",
        ("hard", "issuer", "other_gateway_or_ask_customer"),
        "This card or account does not allow this kind of payment. Please pay another way.",
        delay_s_min=0,
        attempts_max=1,
    ),
    _category(
        "authentication_required",
        ("soft", "customer", "same_gateway_with_authentication"),
        "Your bank wants you to confirm this payment. Please complete the confirmation step.",
        delay_s_min=0,
        attempts_max=1,
    ),
    _category(
        "authentication_failed",
        ("soft", "customer", "ask_customer"),
        "The confirmation with your code or PIN did not work. Please try once more or pay another way.",
    ),
    _category(
        "authorization_revoked",
        ("hard", "customer", "never"),
        "The permission for this repeating payment has ended. Please set it up again if you want to go on.",
    ),
    _category(
        "customer_cancelled",
        ("soft", "customer", "ask_customer"),
        "The payment was not finished. You can take it up again whenever you like.",
    ),
    _category("invalid_request", ("hard", "merchant", "never_fix_request"), _OUR_SIDE),
    _category(
        "merchant_configuration_error",
        ("hard", "merchant", "other_gateway"),
        _OUR_SIDE,
        delay_s_min=0,
        attempts_max=1,
    ),
    _category(
        "duplicate_transaction",
        ("hard", "merchant", "never_check_status"),
        "This payment seems to have been made already. Please look at your statement before paying again.",
    ),
    _category(
        "issuer_unavailable",
        ("soft", "issuer", "other_gateway_then_later"),
        "Your bank cannot be reached right now. Please try again in some minutes or pay another way.",
        delay_s_min=0,
        attempts_max=3,
    ),
    _category(
        "processing_error",
        ("soft", "gateway", "other_gateway"),
        "Something technical went wrong. Please try again.",
        delay_s_min=0,
        attempts_max=2,
    ),
    _category(
        "network_timeout",
        ("soft", "network", "check_status_then_other_gateway"),
        "The answer is late and we are finding out what happened. Please do not pay a second time yet.",
        delay_s_min=0,
        attempts_max=1,
    ),
)
"""The whole taxonomy."""

CATEGORY_UNKNOWN: Final = Category(
    name=UNKNOWN,
    hardness="soft",
    fault="unknown",
    retry="ask_customer",  # a person may decide to try again; a machine that does not know why must not
    delay_s_min=None,
    attempts_max=0,
    shopper_message="The payment did not go through. Please try again or pay another way.",
)
"""What is said of a failure nobody can place: nothing is retried without a person."""

_BY_NAME: Final[dict[str, Category]] = {category.name: category for category in (*CATEGORIES, CATEGORY_UNKNOWN)}


def category_of(name: str) -> Category:
    """Give the category with this name, ``unknown`` included.

    >>> category_of("network_timeout").retry
    'check_status_then_other_gateway'

    Raises: ValueError: there is no such category.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ValueError(f"{name!r} is no failure category; choose one of {', '.join(sorted(_BY_NAME))}") from None
