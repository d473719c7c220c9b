"""What a card scheme itself says about trying again: Mastercard's merchant advice codes and Visa's decline categories.

A scheme's word is a rule, and breaking it costs fees, so it limits what any other evidence would allow.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ml.failures.taxonomy import NEVER_AGAIN, RETRIES_BLINDLY, RetryPolicy

AdviceAction = Literal["never", "ask_customer", "later", "mend", "none"]
"""``mend``: something of the request or the merchant's set-up has to change first; ``none``: nothing is ruled out."""

_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """One advice code of one scheme.

    ``delay_s`` is how long to wait at least before trying again; ``category`` the reason that the code gives away, or
    None where it only says what to do.
    """

    network: str
    code: str
    meaning: str
    action: AdviceAction
    delay_s: int | None = None
    category: str | None = None


def _mastercard(
    code: str, meaning: str, action: AdviceAction, *, delay_s: int | None = None, category: str | None = None
) -> Advice:
    return Advice(network="mastercard", code=code, meaning=meaning, action=action, delay_s=delay_s, category=category)


def _visa(code: str, meaning: str, action: AdviceAction) -> Advice:
    return Advice(network="visa", code=code, meaning=meaning, action=action)


ADVICE: Final[tuple[Advice, ...]] = (
    _mastercard("01", "the card has new details; ask for them", "ask_customer"),
    _mastercard("02", "not now; try again later", "later", delay_s=3 * _DAY_S),
    _mastercard("03", "do not try again", "never"),
    _mastercard("04", "the token does not meet its terms; mend the request", "mend"),
    _mastercard("05", "this amount will not be approved; never send it again", "never"),
    _mastercard("21", "the customer ended the recurring payment", "never", category="authorization_revoked"),
    _mastercard(
        "22", "the merchant does not qualify for this product", "none", category="merchant_configuration_error"
    ),
    *(
        _mastercard(f"{code}", f"try again after {words}", "later", delay_s=delay_s)
        for code, words, delay_s in (
            (24, "1 hour", _HOUR_S),
            (25, "24 hours", _DAY_S),
            (26, "2 days", 2 * _DAY_S),
            (27, "4 days", 4 * _DAY_S),
            (28, "6 days", 6 * _DAY_S),
            (29, "8 days", 8 * _DAY_S),
            (30, "10 days", 10 * _DAY_S),
        )
    ),
    _mastercard("40", "a prepaid card that cannot be filled again; ask for another one", "ask_customer"),
    _mastercard("41", "a virtual card for one use only; ask for another one", "ask_customer"),
    _mastercard("42", "sanctions screening refused it", "never", category="suspected_fraud"),
    _mastercard("43", "a virtual card; ask the customer", "ask_customer"),
    _mastercard("99", "do not try again", "never"),
    _visa("1", "the issuer will never approve this", "never"),
    _visa("2", "the issuer cannot approve this now", "later"),
    _visa("3", "details are wrong; ask for them again", "ask_customer"),
    _visa("4", "declined without a category of its own", "none"),
)
"""Every advice code that is understood; others are passed over."""

_BY_CODE: Final = {(advice.network, advice.code): advice for advice in ADVICE}


def advice_of(network: str | None, code: str | None) -> Advice | None:
    """Find what a scheme advised; None: nothing that is understood.

    >>> advice_of("Mastercard", "3").meaning
    'do not try again'
    """
    if not network or not code:
        return None
    scheme, written = network.strip().casefold(), code.strip()
    forms = (written, written.zfill(2), written.lstrip("0"))
    return next((_BY_CODE[scheme, form] for form in forms if (scheme, form) in _BY_CODE), None)


def retry_within(advice: Advice | None, retry: RetryPolicy) -> RetryPolicy:
    """Narrow a policy to what the scheme allows; it is never widened."""
    if advice is None or retry in NEVER_AGAIN or advice.action == "none":
        return retry
    if advice.action == "never":
        return "never"
    if advice.action == "mend":
        return "never_fix_request"
    if retry not in RETRIES_BLINDLY:
        return retry
    return "ask_customer" if advice.action == "ask_customer" else "later_same_or_other"
