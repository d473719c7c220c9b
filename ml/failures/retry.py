"""What to do with a payment that failed: try again now and where, later and when, ask the shopper, or never.

The reason decides what may help; the rules of schemes decide what is allowed. A scheme's rule always wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from ml.failures.taxonomy import NEVER_AGAIN, RETRIES_BLINDLY, RetryPolicy, category_of

RetryAction = Literal["now", "later", "check_status", "ask_customer", "never"]


class SchemeLimit(msgspec.Struct, frozen=True, kw_only=True):
    """At most ``attempts`` declined attempts with one card in ``days``; one more costs a fee."""

    network: str
    attempts: int
    days: float


SCHEME_LIMITS: Final[tuple[SchemeLimit, ...]] = (
    SchemeLimit(network="visa", attempts=15, days=30),
    SchemeLimit(network="mastercard", attempts=10, days=1),
    SchemeLimit(network="mastercard", attempts=35, days=30),
)
"""Visa: 15 tries again in 30 days. Mastercard: 10 in 24 hours and 35 in 30 days."""

UPI_MANDATE_RETRIES_MAX: Final = 3
"""NPCI lets a mandate's debit be tried once and three times more."""

UPI_WITH_PIN: Final = frozenset({"upi", "upi_collect", "upi_intent", "upi_qr"})
"""Every such payment needs the payer's PIN, so no machine can try it again alone."""

UPI_MANDATES: Final = frozenset({"upi_autopay", "upi_mandate"})

BACKOFF_FIRST_S: Final = 300
BACKOFF_MAX_S: Final = 3_600
"""An issuer that is away is asked again after 5, 10, 20, 40 and then every 60 minutes."""

DAY_S: Final = 86_400
HISTORY_DAYS: Final = 30
"""How far back the tries with one card matter to any rule."""


class PastTry(msgspec.Struct, frozen=True, kw_only=True):
    """One failed attempt of the order, with its verdict."""

    gateway: str
    at: datetime
    category: str
    retry: RetryPolicy
    delay_s: int | None = None
    advice: str = ""


class RetryQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that failed.

    ``tries``: the order's failed attempts, oldest first, at least one. ``declines_at``: when attempts with the same
    card or account failed in the last 30 days, those of this order included. ``gateways``: that may take it now, best
    first.
    """

    now: datetime
    method: str
    tries: Sequence[PastTry]
    network: str | None = None
    declines_at: Sequence[datetime] = ()
    gateways: Sequence[str] = ()
    paid: bool = False
    """An attempt of the order succeeded."""


class RetryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, and why.

    ``gateway``: where; None where it is not a gateway that matters, or none is left. ``not_before``: with ``later``.
    ``rule``: short name of what decided. ``retries_left``: automatic ones that the reason allows after this answer's.
    """

    action: RetryAction
    rule: str
    reason: str
    shopper_message: str
    gateway: str | None = None
    not_before: datetime | None = None
    with_authentication: bool = False
    retries_left: int = 0


def advise_retry(question: RetryQuestion) -> RetryAnswer:
    """Decide what to do with a payment that failed.

    >>> from datetime import UTC
    >>> now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    >>> last = PastTry(gateway="alpha", at=now, category="processing_error", retry="other_gateway")
    >>> answer = advise_retry(RetryQuestion(now=now, method="card", tries=[last], gateways=["alpha", "bravo"]))
    >>> answer.action, answer.gateway
    ('now', 'bravo')

    Raises: ValueError: there is no failed attempt, or a category does not exist.
    """
    if not question.tries:
        raise ValueError("there is no failed attempt to give advice on")
    last = question.tries[-1]
    category = category_of(last.category)
    answer = _forbidden(question) or _not_by_machine(question)
    if answer is None:
        retries_used = len(question.tries) - 1
        left = category.attempts_max - retries_used
        if last.retry in RETRIES_BLINDLY and left <= 0:
            tried = f"{last.category} may be tried again {category.attempts_max} times, and was"
            answer = _answer("ask_customer", "retries_used_up", tried)
        else:
            answer = msgspec.structs.replace(_allowed(question), retries_left=max(0, left - 1))
    return msgspec.structs.replace(answer, shopper_message=category.shopper_message)


def best_first(counts: Mapping[str, tuple[int, int]]) -> list[str]:
    """Order gateways by what they lately achieved; one of which nothing is known stands in the middle.

    >>> best_first({"alpha": (50, 100), "bravo": (0, 0), "charlie": (80, 100), "delta": (2, 100)})
    ['charlie', 'alpha', 'bravo', 'delta']

    Args:
        counts: succeeded and settled attempts by gateway.
    """
    means = {gateway: (succeeded + 1) / (settled + 2) for gateway, (succeeded, settled) in counts.items()}
    return sorted(means, key=lambda gateway: (-means[gateway], gateway))


def _forbidden(question: RetryQuestion) -> RetryAnswer | None:
    """What rules out any further try: the reason of any try so far, then the scheme's limits."""
    last = question.tries[-1]
    if question.paid:
        return _answer("never", "paid", "an attempt of this order succeeded; another one would take the money twice")
    for tried in reversed(question.tries):
        if tried.retry in NEVER_AGAIN:
            what = {
                "never_fix_request": "the request itself is wrong; mend it before anything is sent again",
                "never_check_status": "it may have been paid already; look up the first payment",
            }.get(tried.retry, "trying the same again is not allowed")
            rule = "scheme_advice" if tried.advice else "never_category"
            return _answer("never", rule, f"{tried.category}: {tried.advice or what}")
    for limit in SCHEME_LIMITS:
        if (question.network or "").casefold() != limit.network:
            continue
        since = question.now - timedelta(days=limit.days)
        recent = sorted(at for at in question.declines_at if at > since)
        if len(recent) >= limit.attempts:
            free_at = recent[-limit.attempts] + timedelta(days=limit.days)
            days = "day" if limit.days == 1 else "days"
            said = f"{limit.network} allows {limit.attempts} tries in {limit.days:g} {days}, there were {len(recent)}"
            if last.retry in RETRIES_BLINDLY:
                return _answer("later", f"{limit.network}_limit", f"{said}; free again then", not_before=free_at)
            return _answer("ask_customer", f"{limit.network}_limit", f"{said}; ask for another card")
    return None


def _not_by_machine(question: RetryQuestion) -> RetryAnswer | None:
    """What only a person or a look at the first attempt can go on with."""
    last = question.tries[-1]
    if last.retry == "check_status_then_other_gateway":
        told = f"it is not known what became of the attempt at {last.gateway}; ask {last.gateway} before anything else"
        follows = next(iter(_others(question)), None)
        then = f", and only if it was not paid try {follows}" if follows else ""
        return _answer("check_status", "status_unknown", told + then, gateway=last.gateway)
    if last.retry == "ask_customer":
        said = last.advice or f"{last.category} needs the shopper"
        return _answer("ask_customer", "scheme_advice" if last.advice else "needs_shopper", said)
    if question.method in UPI_WITH_PIN:
        best = next(iter([*_others(question), *question.gateways]), None)
        return _answer("ask_customer", "upi_needs_pin", "every UPI payment needs the payer's PIN", gateway=best)
    if question.method in UPI_MANDATES and len(question.tries) > UPI_MANDATE_RETRIES_MAX:
        return _answer("never", "upi_mandate_limit", "a mandate's debit may be tried once and three times more")
    return None


def _allowed(question: RetryQuestion) -> RetryAnswer:
    """Where and when a machine may try again."""
    last = question.tries[-1]
    others = _others(question)
    said = f"{last.category}: "
    match last.retry:
        case "same_gateway_with_authentication":
            told = f"{said}send it again at {last.gateway} with 3-D Secure"
            return _answer("now", "authenticate", told, gateway=last.gateway, with_authentication=True)
        case "other_gateway" | "other_gateway_or_ask_customer" if others:
            return _answer("now", "other_gateway", f"{said}another gateway may take it", gateway=others[0])
        case "other_gateway_then_later" if others and len(question.tries) == 1:
            return _answer("now", "other_gateway", f"{said}another gateway may reach the issuer", gateway=others[0])
        case "other_gateway_or_ask_customer":
            return _answer("ask_customer", "no_gateway_left", f"{said}no other gateway is left")
        case "other_gateway":
            wait_s = _backoff_s(len(question.tries))
        case "other_gateway_then_later":
            wait_s = _backoff_s(len(question.tries)) if last.category == "issuer_unavailable" else DAY_S
        case _:
            wait_s = DAY_S
    wait_s = max(wait_s if last.retry != "later_same_or_other" else 0, last.delay_s or 0) or DAY_S
    not_before = last.at + timedelta(seconds=wait_s)
    where = others[0] if others else next(iter(question.gateways), None)
    why = last.advice or f"{last.category} passes with time"
    if not_before <= question.now:
        return _answer("now", "waited_enough", f"{why}; it waited long enough", gateway=where)
    rule = "scheme_advice" if last.advice else "wait"
    return _answer("later", rule, why, gateway=where, not_before=not_before)


def _others(question: RetryQuestion) -> list[str]:
    """Gateways that were not tried yet, best first."""
    tried = {attempt.gateway for attempt in question.tries}
    return [gateway for gateway in question.gateways if gateway not in tried]


def _backoff_s(tries: int) -> int:
    wait_s = BACKOFF_FIRST_S
    for _ in range(min(tries, 10) - 1):
        wait_s *= 2
    return min(BACKOFF_MAX_S, wait_s)


def _answer(  # the parts of an answer, each named where it is given
    action: RetryAction,
    rule: str,
    reason: str,
    *,
    gateway: str | None = None,
    not_before: datetime | None = None,
    with_authentication: bool = False,
) -> RetryAnswer:
    return RetryAnswer(
        action=action,
        rule=rule,
        reason=reason,
        shopper_message="",
        gateway=gateway,
        not_before=not_before,
        with_authentication=with_authentication,
    )
