"""Routing rules as operators write them: who may take a payment, in what order or split, and what gateways are owed.

Rules are looked at from top to bottom. Every one that fits a payment limits the gateways (``only``, ``never``) and sets
floors (``at_least``); the first one that fits with an ``order`` or a ``split`` decides instead of the policy.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ml.routing.context import RoutingContext
from ml.routing.eligibility import Eligibility

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,59}$")]
Names = Annotated[list[Annotated[str, Meta(min_length=1, max_length=60)]], Meta(max_length=200)]
Prefixes = Annotated[tuple[Annotated[str, Meta(pattern=r"^[0-9]{1,8}$")], ...], Meta(max_length=1000)]
Share = Annotated[float, Meta(gt=0, le=1)]
Amount = Annotated[int, Meta(ge=0)]

FLOORS_MAX: Final = 0.5
"""All floors of a payment together get half of the first choices at most; beyond it they shrink alike."""


class Condition(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename={"not_": "not"}
):
    """Which payments: all that is said here must hold; what is left out holds for every payment.

    Attributes:
        bins: beginnings of the card number; of a payment without one none holds.
        three_ds: whether it goes through 3-D Secure; of a payment whose checkout does not say, neither holds.
        amount_minor_min, amount_minor_max: both ends count.
        attempt_number_min: from which attempt of an order on.
        all, any, not_: further conditions, of which all, at least one, or not this one must hold.
    """

    methods: Names = []
    issuers: Names = []
    networks: Names = []
    countries: Names = []
    currencies: Names = []
    bins: Prefixes = ()
    three_ds: bool | None = None
    amount_minor_min: Amount = 0
    amount_minor_max: Amount | None = None
    attempt_number_min: Annotated[int, Meta(ge=1)] = 1
    all: Annotated[list[Condition], Meta(max_length=50)] = []
    any: Annotated[list[Condition], Meta(max_length=50)] = []
    not_: Condition | None = None

    def holds(self, payment: RoutingContext) -> bool:
        """Whether a payment is one of these."""
        named = (
            (self.methods, payment.method), (self.issuers, payment.issuer), (self.networks, payment.network),
            (self.countries, payment.country), (self.currencies, payment.currency),
        )  # fmt: skip
        if any_of(names and name not in names for names, name in named):
            return False
        if self.bins and not (payment.bin or "").startswith(self.bins):
            return False
        if self.three_ds is not None and payment.three_ds is not self.three_ds:
            return False
        most = self.amount_minor_max
        if payment.amount_minor < self.amount_minor_min or (most is not None and payment.amount_minor > most):
            return False
        if payment.attempt_number < self.attempt_number_min:
            return False
        if not all_of(inner.holds(payment) for inner in self.all):
            return False
        if self.any and not any_of(inner.holds(payment) for inner in self.any):
            return False
        return self.not_ is None or not self.not_.holds(payment)


any_of, all_of = any, all  # inside Condition these names are fields


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One rule; it says at least one of only, never, order, split and at_least.

    Attributes:
        only: no other gateway may take such a payment.
        never: these may not.
        order: gateways in the order to try them, instead of what the policy thinks.
        split: share of such payments by gateway, adding up to 1, instead of what the policy thinks.
        sticky: whose payments stay at one gateway while it may take them: those of an order, or of a customer.
        at_least: share of such payments that each of these gateways is put first for, whatever the policy thinks.
    """

    name: Name
    enabled: bool = True
    when: Condition = Condition()
    only: Names = []
    never: Names = []
    order: Names = []
    split: dict[str, Share] = {}
    sticky: Literal["order_id", "customer_id"] = "order_id"
    at_least: dict[str, Share] = {}

    @property
    def decides(self) -> bool:
        """Whether it takes the place of the policy."""
        return bool(self.order or self.split)

    def gateways(self) -> Iterator[str]:
        """Every gateway that it names."""
        for part in (self.only, self.never, self.order, self.split, self.at_least):
            yield from part


class Commitment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Payments that a gateway was promised in each day, week or month (UTC), counted by first attempts."""

    gateway: Name
    payments: Annotated[int, Meta(ge=1)]
    per: Literal["day", "week", "month"]


class RuleSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All rules in force."""

    rules: Annotated[list[Rule], Meta(max_length=200)] = []
    commitments: Annotated[list[Commitment], Meta(max_length=50)] = []

    @property
    def version(self) -> str:
        """Names the content: the same rules have the same version, whatever their comments and layout."""
        return f"rules-{hashlib.sha256(msgspec.json.encode(self, order='deterministic')).hexdigest()[:10]}"

    def on(self, payment: RoutingContext, may: Eligibility) -> Ruled:
        """Apply the rules to a payment.

        Args:
            payment: as the policies see it.
            may: who may take it so far.
        """
        excluded, floors = list(may.excluded), dict[str, float]()
        left, holding = may.candidates, [rule for rule in self.rules if rule.enabled and rule.when.holds(payment)]
        for rule in holding:
            out = [name for name in left if name in rule.never or (rule.only and name not in rule.only)]
            excluded += [(name, f"is not for such payments by rule {rule.name!r}") for name in out]
            left = tuple(name for name in left if name not in out)
            for name, share in rule.at_least.items():
                floors[name] = max(floors.get(name, 0.0), share)
        # Where none of its gateways may take the payment, whichever rule took them out, one has nothing to say.
        decides = (rule for rule in holding if any_of(name in left for name in (*rule.order, *rule.split)))
        decider = next(decides, None)
        return Ruled(Eligibility(candidates=left, excluded=tuple(excluded)), decider, floors)


class Ruled(NamedTuple):
    """What the rules leave of a payment: who may take it, who decides (None: the policy), and what is owed to whom."""

    may: Eligibility
    decider: Rule | None
    floors: Mapping[str, float]


NO_RULES: Final = RuleSet()


def preference_of(rule: Rule, candidates: Sequence[str], unit: str | None) -> list[float]:
    """What a deciding rule wants: the probability of each gateway to be first.

    Args:
        rule: with an order or a split.
        candidates: gateways to choose from, at least one.
        unit: whose payments stay together: one is 1; None: the probabilities over all units.
    """
    if rule.order:
        first = next((name for name in rule.order if name in candidates), None)
        if first is not None:
            return [float(name == first) for name in candidates]
    weights = [rule.split.get(name, 0.0) for name in candidates]
    total = sum(weights)
    if total <= 0:  # none of the named is well: each of the others gets an even share
        return [1.0 / len(candidates)] * len(candidates)
    if unit is None:
        return [weight / total for weight in weights]
    scores = [_score(rule.name, unit, name, weight) for name, weight in zip(candidates, weights, strict=True)]
    first_place = min(range(len(candidates)), key=scores.__getitem__)
    return [float(index == first_place) for index in range(len(candidates))]


def _score(rule: str, unit: str, gateway: str, weight: float) -> float:
    """Weighted rendezvous hashing: the lowest is chosen, in proportion to the weights, and only the units of a gateway
    that goes move elsewhere.

    Source: Schindelhauer and Schomaker (2005), SPAA, 218-227.
    """
    if weight <= 0:
        return math.inf
    digest = hashlib.blake2b(f"{rule}\n{unit}\n{gateway}".encode(), digest_size=8).digest()
    return -math.log((int.from_bytes(digest, "big") + 1) / 2**64) / weight


def bounded(owed: Mapping[str, float]) -> dict[str, float]:
    """Shrink what is owed to a payment's gateways so that together they get ``FLOORS_MAX`` at most."""
    total = sum(owed.values())
    factor = min(1.0, FLOORS_MAX / total) if total > 0 else 1.0
    return {name: share * factor for name, share in owed.items()}


def with_floors(shares: Mapping[str, float], owed: Mapping[str, float]) -> dict[str, float]:
    """Mix what is owed into the probabilities of gateways to be first.

    Args:
        shares: by gateway, adding up to 1.
        owed: share of some of them, as ``bounded`` has it.
    """
    total = sum(owed.values())
    return {name: (1.0 - total) * share + owed.get(name, 0.0) for name, share in shares.items()}
