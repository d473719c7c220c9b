"""Brings what gateways say about a failure into one wording, so that a model can compare systems it has never met."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

TEXT_LENGTH_MAX: Final = 400
"""Characters of a message that are looked at; gateways put the reason first and advice after it."""

CODES_KEPT_MAX: Final = 10_000
"""Codes whose words are remembered; gateways have few, and the rest is worked out again."""

# Different words of different gateways for one thing: what is looked for, what is said instead, and pieces of which
# one must be in the text for it to occur at all. Looking for a piece costs a hundredth of looking for the pattern.
# Applied to whole words of the lower-cased text, longest first.
_SAME_WORDS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    (
        r"3[\s-]?ds2?|3[\s-]?d[\s-]?secure|three[\s-]?d[\s-]?s(?:ecure)?|securecode|verified by visa|safekey",
        "threeds",
        ("3", "three", "securecode", "verified by visa", "safekey"),
    ),
    (
        r"cvv2?|cvc2?|cvn|csc|cid|card verification (?:number|value|code|digits?)|card security code|card code",
        "cvv",
        ("cvv", "cvc", "cvn", "csc", "cid", "card "),
    ),
    (r"security code|verification (?:number|value|code)", "cvv", ("security", "verification")),
    (r"avs|address verification(?: service| system)?", "avs address", ("avs", "address v")),
    (r"zip(?:[\s-]?code)?|postal(?:[\s-]?code)?|post[\s-]?code", "postcode address", ("zip", "post")),
    (
        r"nsf|(?:non|not)[\s-]sufficient funds?|insuff(?:icient)? (?:funds?|balance)",
        "insufficient funds",
        ("nsf", "sufficient", "insuff"),
    ),
    (r"exp(?:iry|iration)?(?: date)?|expdate", "expiry", ("exp",)),
    (r"time[\s-]?out|timed[\s-]out", "timeout", ("time",)),
    (r"pick(?:ed)?[\s-]?up|pickup", "pickup", ("pick",)),
    (r"hon(?:our|or)(?:ed)?", "honor", ("hono",)),
    (r"sca|strong (?:customer|cardholder) authentication", "strong customer authentication", ("sca", "strong")),
    (r"one[\s-]time[\s-]pass(?:word|code)", "otp", ("one",)),
    (r"m[\s-]?pin|upi[\s-]pin|atm[\s-]pin|passcode", "pin", ("pin", "passcode")),
    (r"virtual payment address|upi[\s-]id|upi[\s-]handle", "vpa", ("virtual", "upi")),
    (r"t(?:xn|rxn|rans)", "transaction", ("txn", "trxn", "trans")),
    (r"a/c|acct?", "account", ("a/c", "acc")),
    (r"amt", "amount", ("amt",)),
    (r"msg|messge", "message", ("msg", "messge")),
    (r"info", "information", ("info",)),
    (r"auth", "authorization", ("auth",)),
    (r"reqd", "required", ("reqd",)),
    (r"canceled|cancellation", "cancelled", ("cancel",)),
    (r"unauthori[sz]ed", "not authorized", ("unauthori",)),
    (r"(un)?authori([sz])(ation|ed|e|ing)", r"\1authoriz\3", ("authori",)),
    (
        r"shopper|payer|buyer|cardholder|card holder|card ?member|consumer|user|remitter|sender",
        "customer",
        ("shopper", "payer", "buyer", "card", "consumer", "user", "remitter", "sender"),
    ),
    (
        r"supplier|seller|payee|vendor|business",
        "merchant",
        ("supplier", "seller", "payee", "vendor", "business"),
    ),
    (r"recogni[sz]ed|identified|located", "found", ("recogni", "identified", "located")),
    (r"issuing bank|card issuer|issuer bank", "issuer bank", ("issu",)),
    (
        r"(?:is|was|does|do|did|could|has|have|can|are|were)n['’]t|cannot|can not",
        "not",
        ("n't", "n’t", "can"),
    ),
    (r"missing|absent|not (?:sent|provided|supplied|present)", "missing", ("absent", "not ")),
    (
        r"unavailable|inoperative|offline|not (?:available|reachable|operating)|unreachable",
        "unavailable",
        ("inoperative", "offline", "not ", "unreachable"),
    ),
)
_SAME: Final = tuple(
    (pieces, re.compile(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])"), word) for pattern, word, pieces in _SAME_WORDS
)

# Sentences that advise the payer or promise a refund come with any reason, so they say nothing about this one.
_ADVICE: Final = re.compile(
    r"^(?:please|kindly|try|retry|you can|you may|any amount|if (?:any )?(?:amount|money)|reach out|contact|"
    r"for (?:example|more|further)|refer to the|see |the exact reason|this (?:is|error|could|may|usually))\b"
)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?;])\s+")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NO_WORD: Final = re.compile(r"[^a-z0-9']+")
_LINK: Final = re.compile(r"\(?https?://\S+")
_LETTERS: Final = re.compile(r"[A-Za-z]{3,}")
_ISO_8583: Final = re.compile(r"^0?([0-9]{2})$|^[2-4]0([0-9]{3})$")


def message_wording(message: str) -> str:
    """Bring a failure message into the common wording.

    >>> message_wording("Txn declined: CVV2 mismatch. Please contact your bank.")
    'transaction declined cvv mismatch'

    Args:
        message: whatever the gateway said; only the first TEXT_LENGTH_MAX characters count.
    Returns: lower-case words separated by single spaces; empty if there are none.
    """
    text = _LINK.sub(" ", message[:TEXT_LENGTH_MAX]).replace("_", " ")
    if not text.isupper():
        text = _CAMEL.sub(" ", text)
    sentences = _SENTENCE_END.split(text.lower().strip())
    reasons = [sentence for sentence in sentences if not _ADVICE.match(sentence)]
    text = " ".join(reasons or sentences)
    for pieces, pattern, word in _SAME:
        for piece in pieces:
            if piece in text:
                text = pattern.sub(word, text)
                break
    return _NO_WORD.sub(" ", text).strip()


@lru_cache(maxsize=CODES_KEPT_MAX)
def code_wording(code: str) -> str:
    """Take the words out of a code that is made of words; a number has none.

    >>> code_wording("ERR.ISSUER.FUNDS"), code_wording("51")
    ('err issuer funds', '')
    """
    if not _LETTERS.search(code):
        return ""
    return message_wording(re.sub(r"[0-9]+", " ", re.sub(r"[._\-:/]+", " ", code)))


@lru_cache(maxsize=CODES_KEPT_MAX)
def code_tokens(code: str) -> tuple[str, ...]:
    """Name what the shape of a code says: the code itself if it is short, and the ISO 8583 number that it looks like.

    >>> code_tokens("051"), code_tokens("U30"), code_tokens("20051")
    (('iso=51',), ('code=u30',), ('iso=51',))
    """
    code = code.strip()
    iso = _ISO_8583.match(code)
    if iso:
        number = iso[1] or iso[2][-2:]
        return (f"iso={number}",)
    if 0 < len(code) <= 4:
        return (f"code={code.lower()}",)
    return ()
