"""What rules do together is found as by trying every payment."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest

from actors.rule_checks import RuleChecks, truth
from ml.routing.context import RoutingContext
from ml.routing.eligibility import GatewayTerms, eligible
from ml.routing.rules import Condition, Rule, RuleSet, bounded

BOTH = frozenset({"card", "upi"})
GATEWAYS = {
    "alpha": GatewayTerms(methods=BOTH, currencies=frozenset({"INR"})),
    "bravo": GatewayTerms(methods=BOTH, currencies=frozenset({"INR", "EUR"}), countries=frozenset({"DE"})),
    "carla": GatewayTerms(methods=frozenset({"card"}), currencies=frozenset({"INR", "EUR"})),
}
VALUES: dict[str, list[Any]] = {
    "method": ["card", "upi"],
    "currency": ["INR", "EUR"],
    "country": [None, "DE", "IN", "FR"],
    "issuer": ["hdfc", "icici", "else"],
    "network": [None, "visa", "amex"],
    "bin": [None, "411111", "400000", "550000"],
    "amount_minor": [0, 4, 5, 6, 9, 10, 11],
    "attempt_number": [1, 2, 3],
    "three_ds": [None, True],
}
PAYMENTS = [RoutingContext(**dict(zip(VALUES, values, strict=True))) for values in product(*VALUES.values())]


def drawn_condition(draw: random.Random, depth: int = 0) -> Condition:
    """Any condition on the values above."""
    fields: dict[str, Any] = {}
    for name, values in (
        ("methods", ["card", "upi"]), ("currencies", ["INR", "EUR"]), ("countries", ["DE", "IN"]),
        ("issuers", ["hdfc", "icici"]), ("networks", ["visa", "amex"]), ("bins", ["4", "4111", "55"]),
    ):  # fmt: skip
        if draw.random() < 0.2:
            chosen = draw.sample(values, draw.randint(1, len(values)))
            fields[name] = tuple(chosen) if name == "bins" else chosen
    if draw.random() < 0.2:
        fields["amount_minor_min"] = draw.choice([5, 10])
    if draw.random() < 0.2:
        fields["amount_minor_max"] = draw.choice([5, 10])
    if draw.random() < 0.2:
        fields["attempt_number_min"] = draw.choice([2, 3])
    if draw.random() < 0.2:
        fields["three_ds"] = True
    if depth < 2:
        for name in ("all", "any"):
            if draw.random() < 0.2:
                fields[name] = [drawn_condition(draw, depth + 1) for _ in range(draw.randint(1, 2))]
        if draw.random() < 0.2:
            fields["not_"] = drawn_condition(draw, depth + 1)
    return Condition(**fields)


def drawn_rules(draw: random.Random) -> list[Rule]:
    """Some rules that exclude gateways and set floors."""
    rules = []
    for index in range(draw.randint(1, 4)):
        names = draw.sample(sorted(GATEWAYS), draw.randint(1, 2))
        does: dict[str, Any] = draw.choice(
            [{"never": names}, {"only": names}, {"at_least": {names[0]: 0.3}}, {"at_least": {names[0]: 0.25}}]
        )
        rules.append(Rule(name=f"r{index}", enabled=draw.random() < 0.9, when=drawn_condition(draw), **does))
    return rules


@pytest.mark.parametrize("seed", range(60))
def test_refusals_and_excesses_are_those_of_trying_every_payment(seed: int) -> None:
    """Something is found where, and only where, the router would refuse a payment or shrink its floors."""
    rules = drawn_rules(random.Random(seed))
    rule_set = RuleSet(rules=rules)
    refused = shrunk = False
    fit = set[int]()
    for payment in PAYMENTS:
        fit |= {index for index, rule in enumerate(rules) if rule.when.holds(payment)}
        may = eligible(payment, GATEWAYS)
        ruled = rule_set.on(payment, may)
        refused |= bool(may.candidates) and not ruled.may.candidates
        owed = {name: share for name, share in ruled.floors.items() if name in ruled.may.candidates}
        shrunk |= payment.attempt_number == 1 and sum(bounded(owed).values()) < sum(owed.values()) - 1e-9
    checks = RuleChecks(rules, GATEWAYS)
    findings = list(checks.refusals())
    assert bool(findings) == refused
    assert bool(list(checks.excesses())) == shrunk
    assert [checks.fits_none(index) for index in range(len(rules))] == [index not in fit for index in range(len(rules))]
    for finding in findings:
        may = eligible(finding.payment, GATEWAYS)
        alone = RuleSet(rules=[rules[index] for index in finding.rules])
        assert may.candidates == finding.takers != ()
        assert alone.on(finding.payment, may).may.candidates == ()


@pytest.mark.parametrize("seed", range(20))
def test_a_truth_does_not_change_as_more_becomes_known(seed: int) -> None:
    """With everything known it is what the condition itself says."""
    draw = random.Random(seed)
    condition = drawn_condition(draw)
    for payment in draw.sample(PAYMENTS, 100):
        known: dict[str, Any] = {}
        said = truth(condition, known)
        for field in VALUES:
            known[field] = getattr(payment, field)
            later = truth(condition, known)
            assert said is None or later == said
            said = later
        assert said == condition.holds(payment)
