"""What single words are about: funds, limits, a card's date, the merchant's set-up … whichever word a gateway picks.

Gateways say one thing in many words. Two messages that share no word may still share what they are about, and what two
things are said together ("invalid" with "field", "invalid" with "pin") tells categories apart that one word does not.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import Final

# A concept, and the words that speak of it in the common wording of `wording.py`. A word may speak of several.
_WORDS: Final[tuple[tuple[str, str], ...]] = (
    ("not", r"no|not|non|never|without|unable|fail\w*|unsuccessful|un\w+ed"),
    ("invalid", r"invalid|incorrect\w*|wrong|bad|malformed|illegal|unacceptable|mismatch|inconsistent"),
    ("missing", r"missing|required|mandatory|empty|blank|null|needs?|must|requires"),
    ("decline", r"declin\w*|refus\w*|reject\w*|den(?:y|ied|ial)|disapprov\w*|honor"),
    ("exceed", r"exceed\w*|over|limits?|limited|maximum|max|velocity|frequency|quota|tries|attempts|minimum"),
    ("funds", r"funds?|balance|money|overdra\w*|insufficient"),
    ("expired", r"expir\w*"),
    ("late", r"timeout|late|timed|wait\w*"),
    ("number", r"number|pan|luhn|digits?|prefix|bin"),
    ("card", r"cards?|credit|debit"),
    ("account", r"accounts?|iban|vpa|routing|wallet|bic|ifsc"),
    ("cvv", r"cvv"),
    ("address", r"avs|address|postcode|street|billing|name|surname"),
    (
        "fraud",
        r"fraud\w*|risk\w*|suspicio\w*|suspect\w*|security|blacklist\w*|sanction\w*|counterfeit|compliance|denied",
    ),
    ("lost", r"lost|stolen|pickup|retain\w*|confiscat\w*|hot|seize"),
    (
        "authentication",
        r"threeds|authenticat\w*|pin|otp|password|challenge\w*|cavv|cryptogram|enrol\w*|verif\w*|sca|acs|biometric",
    ),
    (
        "merchant",
        r"merchants?|terminal|store|shop|acquirer|configur\w*|enabled|permissions?|login|credentials?|api|keys?|certificate|"
        r"activated|sandbox|onboarding",
    ),
    ("issuer", r"issuers?|issuing|banks?|psp|institution|rdfi|operator"),
    ("away", r"unavailable|down|respond\w*|response|maintenance|reach\w*|rout\w*|outage|downtime"),
    (
        "system",
        r"systems?|servers?|internal|technical\w*|process\w*|malfunction|host|gateway|switch|database|software|application",
    ),
    ("network", r"network|connect\w*|communicat\w*|socket|link|line"),
    ("again", r"duplicate\w*|already|repeat\w*|twice|same|exists"),
    ("revoked", r"revo\w+|mandates?|stop\w*|recurring|subscription|agreement|consent|instruction"),
    ("cancelled", r"cancel\w*|abort\w*|abandon\w*|dropped|session|back|closed"),
    ("permitted", r"permit\w*|allow\w*|support\w*|restrict\w*|eligible|accept\w*|prohibited|forbidden|participat\w*"),
    (
        "blocked",
        r"block\w*|closed|frozen|freeze|inactive|dormant|suspend\w*|lock\w*|deactivat\w*|deceased|disabled|active",
    ),
    (
        "field",
        r"fields?|parameters?|format\w*|json|xml|requests?|data|values?|url|email|id|reference|length|type|codes?|amount|"
        r"date|currency|characters?|header",
    ),
    ("found", r"found|exist\w*|unknown|such|locate\w*"),
    ("afterwards", r"refund\w*|captur\w*|void\w*|revers\w*|settle\w*|original"),
    ("retry", r"retry\w*|again|later|temporar\w*|resubmit\w*|resend"),
    ("customer", r"customers?|holder"),
    ("call", r"call|contact|refer"),
)
_SPEAKS: Final = tuple((1 << place, re.compile(words)) for place, (_, words) in enumerate(_WORDS))

CONCEPTS: Final[tuple[str, ...]] = tuple(name for name, _ in _WORDS)


def concepts_of(word: str) -> int:
    """Say what one word of the common wording is about, as a set of bits in the order of ``CONCEPTS``."""
    return sum(bit for bit, words in _SPEAKS if words.fullmatch(word))


def named(concepts: int) -> list[str]:
    """Name what a text is about, and each two things that it speaks of together.

    >>> named(concepts_of("wrong") | concepts_of("pin"))
    ['invalid', 'authentication', 'invalid+authentication']
    """
    present = [name for place, name in enumerate(CONCEPTS) if concepts >> place & 1]
    return present + [f"{one}+{other}" for one, other in combinations(present, 2)]
