"""What rules do together: payments that they leave no gateway, floors beyond the most, rules that fit nothing.

Payments are told apart only as far as the rules and the gateways' terms do, so there are few kinds of them. The kinds
are gone through value by value; where what is known so far leaves nothing to find, the rest is not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ml.routing.context import RoutingContext
from ml.routing.eligibility import GatewayTerms, eligible
from ml.routing.rules import FLOORS_MAX, Condition, Rule

LOOKS_MAX: Final = 500_000
"""Rules looked at for one value of one kind of payment, all in all: a second or two; most files need some hundreds."""

OTHER: Final = "other"
"""Stands for every issuer and network that no rule names."""

OTHER_COUNTRY: Final = "--"
"""Stands for every country that neither a rule nor a gateway names."""

Kind = Mapping[str, Any]
"""What is known so far of a payment, by field of ``RoutingContext``."""


class Finding(NamedTuple):
    """What rules do to payments of a kind.

    Attributes:
        rules: indexes of those that do it, in the order of the file; without any of them it would not be.
        payment: one of that kind.
        takers: gateways that take it by their terms.
        on_purpose: one ``never`` names all that take it, so that it may be meant.
        certain: such payments exist for all that is known; a card number has its network and issuer, and only cards
            have one, so that two rules on these need not meet.
    """

    rules: tuple[int, ...]
    payment: RoutingContext
    takers: tuple[str, ...]
    on_purpose: bool
    certain: bool


class TooManyKinds(Exception):
    """The rules tell more kinds of payments apart than can be looked at."""


class RuleChecks:
    """Looks for what rules do together.

    Args:
        rules: all of the file; those that are not enabled do nothing.
        gateways: that exist, and what they take.
    """

    def __init__(self, rules: Sequence[Rule], gateways: Mapping[str, GatewayTerms]) -> None:
        self._rules = rules
        self._gateways = gateways
        self._looks_left = LOOKS_MAX
        self._takers: dict[tuple[Any, ...], tuple[str, ...]] = {}

    def refusals(self) -> Iterator[Finding]:
        """Payments that some gateway takes and that rules leave none, each set of rules once.

        Raises: TooManyKinds: not everything was looked at.
        """
        limiting = [index for index, rule in enumerate(self._rules) if rule.enabled and (rule.only or rule.never)]
        found: set[tuple[int, ...]] = set()

        def hopeless(kind: Kind, sure: Sequence[int], perhaps: Sequence[int]) -> bool:
            if "country" not in kind:
                return not (sure or perhaps)
            takers = self._takers_of(kind)
            if any(takers and set(takers) <= set(self._rules[index].never) and (index,) in found for index in sure):
                return True  # has been told
            return _left(takers, [self._rules[index] for index in (*sure, *perhaps)]) != () or not takers

        for payment, holding in self._kinds(limiting, hopeless):
            takers = self._takers_of_payment(payment)
            finding = self._refusal(payment, takers, holding)
            if finding.rules not in found:
                found.add(finding.rules)
                yield finding

    def refuse_all(self, rules: Sequence[int]) -> bool:
        """Whether rules leave none of the payments that all of them hold for a gateway.

        Raises: TooManyKinds: not everything was looked at.
        """

        def hopeless(_kind: Kind, sure: Sequence[int], perhaps: Sequence[int]) -> bool:
            return len(sure) + len(perhaps) < len(rules)

        these = [self._rules[index] for index in rules]
        return not any(_left(self._takers_of_payment(payment), these) for payment, _ in self._kinds(rules, hopeless))

    def _refusal(self, payment: RoutingContext, takers: tuple[str, ...], holding: Sequence[int]) -> Finding:
        for index in holding:
            if set(takers) <= set(self._rules[index].never):
                return Finding((index,), payment, takers, on_purpose=True, certain=True)
        needed = list(holding)
        for index in reversed(holding):
            fewer = [each for each in needed if each != index]
            if not _left(takers, [self._rules[each] for each in fewer]):
                needed = fewer
        certain = len(needed) == 1 or _may_exist(payment)
        return Finding(tuple(needed), payment, takers, on_purpose=False, certain=certain)

    def excesses(self) -> Iterator[tuple[Finding, float]]:
        """First attempts whose floors add up to more than ``FLOORS_MAX``, with the sum; each set of rules once.

        Raises: TooManyKinds: not everything was looked at.
        """
        owing = [index for index, rule in enumerate(self._rules) if rule.enabled and rule.at_least]
        touching = [index for index, rule in enumerate(self._rules) if rule.enabled and list(rule.gateways())]
        found: set[tuple[int, ...]] = set()

        def hopeless(kind: Kind, sure: Sequence[int], perhaps: Sequence[int]) -> bool:
            if kind.get("attempt_number", 1) > 1:
                return True  # floors are never on a retry
            return self._owed(self._takers_of(kind), (*sure, *perhaps)) <= FLOORS_MAX + 1e-9

        for payment, touched in self._kinds(touching if len(owing) > 1 else [], hopeless):
            holding = [index for index in touched if index in owing]
            left = _left(self._takers_of_payment(payment), [self._rules[index] for index in touched])
            if self._owed(left, holding) <= FLOORS_MAX + 1e-9:
                continue
            needed = list(holding)
            for index in reversed(holding):
                fewer = [each for each in needed if each != index]
                if self._owed(left, fewer) > FLOORS_MAX + 1e-9:
                    needed = fewer
            if tuple(needed) not in found:
                found.add(tuple(needed))
                finding = Finding(tuple(needed), payment, left, on_purpose=False, certain=_may_exist(payment))
                yield finding, self._owed(left, needed)

    def fits_none(self, index: int) -> bool:
        """Whether a rule fits no payment, whoever takes it.

        Raises: TooManyKinds: not everything was looked at.
        """
        return next(self._kinds([index], lambda _kind, sure, perhaps: not (sure or perhaps)), None) is None

    def _owed(self, takers: Sequence[str], rules: Sequence[int]) -> float:
        floors: dict[str, float] = {}
        for index in rules:
            for name, share in self._rules[index].at_least.items():
                if name in takers:
                    floors[name] = max(floors.get(name, 0.0), share)
        return sum(floors.values())

    def _takers_of(self, kind: Kind) -> tuple[str, ...]:
        """Gateways that take payments of a kind; all, until enough is known of it."""
        if "country" not in kind:
            return tuple(self._gateways)
        key = kind["method"], kind["currency"], kind["country"]
        if key not in self._takers:
            payment = RoutingContext(method=key[0], currency=key[1], country=key[2])
            self._takers[key] = eligible(payment, self._gateways).candidates
        return self._takers[key]

    def _takers_of_payment(self, payment: RoutingContext) -> tuple[str, ...]:
        return self._takers_of({"method": payment.method, "currency": payment.currency, "country": payment.country})

    def _kinds(
        self, rules: Sequence[int], hopeless: Callable[[Kind, Sequence[int], Sequence[int]], bool]
    ) -> Iterator[tuple[RoutingContext, list[int]]]:
        """Every kind of payment that is not hopeless, and which of the rules hold for it.

        Args:
            rules: indexes of those to look at.
            hopeless: told what is known, the rules that surely hold, and those that may: whether to leave it at that.
        """
        values = _values([self._rules[index].when for index in rules], self._gateways)
        fields = list(values)

        def below(
            kind: dict[str, Any], sure: list[int], perhaps: list[int]
        ) -> Iterator[tuple[RoutingContext, list[int]]]:
            if hopeless(kind, sure, perhaps):
                return
            if len(kind) == len(fields):
                yield RoutingContext(**kind), sorted(sure)
                return
            field = fields[len(kind)]
            for value in values[field]:
                known = kind | {field: value}
                self._looks_left -= len(perhaps) + 1
                if self._looks_left < 0:
                    raise TooManyKinds
                truths = [(index, truth(self._rules[index].when, known)) for index in perhaps]
                yield from below(
                    known,
                    sure + [index for index, holds in truths if holds],
                    [index for index, holds in truths if holds is None],
                )

        truths = [(index, truth(self._rules[index].when, {})) for index in rules]
        yield from below(
            {}, [index for index, holds in truths if holds], [index for index, holds in truths if holds is None]
        )


def truth(when: Condition, kind: Kind) -> bool | None:
    """Whether a condition holds for payments of which not everything is known; None: it depends on the rest.

    >>> truth(Condition(methods=["card"]), {}), truth(Condition(methods=["card"]), {"method": "upi"})
    (None, False)
    """
    parts: list[bool | None] = []
    for names, field in (
        (when.methods, "method"), (when.issuers, "issuer"), (when.networks, "network"), (when.countries, "country"),
        (when.currencies, "currency"),
    ):  # fmt: skip
        if names:
            parts.append(kind[field] in names if field in kind else None)
    if when.bins:
        parts.append((kind["bin"] or "").startswith(when.bins) if "bin" in kind else None)
    if when.three_ds is not None:
        parts.append(kind["three_ds"] is when.three_ds if "three_ds" in kind else None)
    if when.amount_minor_min or when.amount_minor_max is not None:
        most = when.amount_minor_max
        amount = kind.get("amount_minor")
        parts.append(None if amount is None else when.amount_minor_min <= amount and (most is None or amount <= most))
    if when.attempt_number_min > 1:
        parts.append(kind["attempt_number"] >= when.attempt_number_min if "attempt_number" in kind else None)
    parts += [truth(inner, kind) for inner in when.all]
    if when.any:
        parts.append(_negated(_all([_negated(truth(inner, kind)) for inner in when.any])))
    if when.not_ is not None:
        parts.append(_negated(truth(when.not_, kind)))
    return _all(parts)


def _all(parts: Sequence[bool | None]) -> bool | None:
    return False if False in parts else None if None in parts else True


def _negated(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def _left(takers: Sequence[str], rules: Sequence[Rule]) -> tuple[str, ...]:
    """Gateways that none of the rules takes out."""
    return tuple(
        name
        for name in takers
        if not any(name in rule.never or (rule.only and name not in rule.only) for rule in rules)
    )


def _may_exist(payment: RoutingContext) -> bool:
    """Whether there are such payments for all that is known."""
    has_network = payment.network not in (None, OTHER)
    if "card" not in payment.method and (payment.bin or has_network or payment.three_ds is not None):
        return False
    return not (payment.bin and (has_network or payment.issuer != OTHER))


def _values(conditions: Sequence[Condition], gateways: Mapping[str, GatewayTerms]) -> dict[str, list[Any]]:
    """What each field of a payment may be, as far as conditions and terms tell values apart; the most common first."""
    leaves = [leaf for condition in conditions for leaf in _leaves(condition)]
    amounts = {leaf.amount_minor_min for leaf in leaves}
    amounts |= {leaf.amount_minor_max + 1 for leaf in leaves if leaf.amount_minor_max is not None}
    served = [terms.countries for terms in gateways.values()]
    return {
        "method": _most_taken([terms.methods for terms in gateways.values()]),
        "currency": _most_taken([terms.currencies for terms in gateways.values()]),
        "country": [None, OTHER_COUNTRY, *_told_apart([*served, *(leaf.countries for leaf in leaves)])],
        "issuer": [OTHER, *_told_apart([leaf.issuers for leaf in leaves])],
        "network": [None, *_told_apart([leaf.networks for leaf in leaves])],
        "bin": [None, *_bins([leaf.bins for leaf in leaves])],
        "three_ds": [None, *sorted({leaf.three_ds for leaf in leaves if leaf.three_ds is not None})],
        "amount_minor": sorted({0} | amounts),
        "attempt_number": sorted({1} | {leaf.attempt_number_min for leaf in leaves}),
    }


def _most_taken(lists: Sequence[frozenset[str]]) -> list[str]:
    counts = Counter(name for names in lists for name in names)
    return sorted(counts, key=lambda name: (-counts[name], name))


def _leaves(condition: Condition) -> Iterator[Condition]:
    yield condition
    for inner in (*condition.all, *condition.any, *([] if condition.not_ is None else [condition.not_])):
        yield from _leaves(inner)


def _told_apart(lists: Sequence[Any]) -> list[str]:
    """One of all names that are in the same of the lists."""
    lists = [frozenset(names) for names in lists if names]
    kinds: dict[tuple[bool, ...], str] = {}
    for name in sorted(set[str]().union(*lists)):
        kinds.setdefault(tuple(name in names for names in lists), name)
    return list(kinds.values())


def _bins(lists: Sequence[tuple[str, ...]]) -> list[str]:
    """Like ``_told_apart``, for beginnings."""
    lists = [beginnings for beginnings in lists if beginnings]
    kinds: dict[tuple[bool, ...], str] = {}
    for number in sorted({beginning for beginnings in lists for beginning in beginnings}):
        kinds.setdefault(tuple(number.startswith(beginnings) for beginnings in lists), number)
    return list(kinds.values())
