"""Reads the routing rules, refuses mistakes with file and line, and notices when the file changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from actors.rule_checks import OTHER, OTHER_COUNTRY, Finding, RuleChecks, TooManyKinds
from config.errors import ConfigError
from config.yaml_source import YamlSource
from ml.routing.context import RoutingContext
from ml.routing.eligibility import GatewayTerms
from ml.routing.rules import FLOORS_MAX, Condition, Rule, RuleSet

log = structlog.get_logger(__name__)

COUNTRY: Final = re.compile(r"[A-Z]{2}")
NESTED_MAX: Final = 8
"""Conditions within conditions; more is a riddle, not a rule."""

SAY_NOTHING: Final = (
    "methods", "issuers", "networks", "countries", "currencies", "bins", "all", "any",
)  # fmt: skip
"""What a condition may hold several of; with none of it, it would hold for every payment."""


class RulesFile:
    """The rules file, looked at again and again.

    Args:
        path: of the file.
        gateways: that exist, and what they take.
    """

    def __init__(self, path: Path, gateways: Mapping[str, GatewayTerms]) -> None:
        self._path = path
        self._gateways = gateways
        self._stamp: tuple[int, int] | None = None
        self._said: str | None = None

    def poll(self) -> RuleSet | ConfigError | None:
        """Look whether there is something new: rules, a mistake, or None: the same as last time.

        After a mistake, what was in force stays in force: this tells of the mistake once, and of the file again when it
        is mended.
        """
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_size
        except OSError:
            stamp = None
        if stamp is not None and stamp == self._stamp:
            return None
        self._stamp = stamp
        found: RuleSet | ConfigError
        try:
            found, doubts = read_with_doubts(self._path, self._gateways)
            for doubt in doubts:
                log.warning("rules_doubtful", reason=doubt)
        except ConfigError as error:
            found = error
        says = found.version if isinstance(found, RuleSet) else str(found)
        if says == self._said:
            return None
        self._said = says
        return found


def read_rules(path: Path, gateways: Mapping[str, GatewayTerms]) -> RuleSet:
    """Read and check the rules file.

    Args:
        path: of the file.
        gateways: that exist, and what they take.
    Raises: ConfigError: the file does not fit; says line, mistake and remedy.
    """
    return read_with_doubts(path, gateways)[0]


def read_with_doubts(path: Path, gateways: Mapping[str, GatewayTerms]) -> tuple[RuleSet, list[str]]:
    """Like ``read_rules``, with what may be meant but should be known, each with its line.

    Raises: ConfigError: the file does not fit, or says nothing, as one that an editor has not finished to write.
    """
    source = YamlSource(path)
    if not source.value:
        raise ConfigError(path, "the file says nothing; write `rules: []` to have no rules")
    found = source.as_type(RuleSet)
    return found, check_rules(source, found, gateways)


def check_rules(source: YamlSource, found: RuleSet, gateways: Mapping[str, GatewayTerms]) -> list[str]:
    """Refuse what cannot be meant.

    Returns: what may be meant but should be known: file, line and what it is about.
    Raises: ConfigError: the first mistake, with its line.
    """
    names: set[str] = set()
    for index, rule in enumerate(found.rules):
        place = f"$.rules[{index}]"
        if rule.name in names:
            raise source.error(f"{place}.name", f"rule {rule.name!r} stands here twice; rename one")
        names.add(rule.name)
        _check_rule(source, place, rule, gateways)
        written = source.value["rules"][index]
        if "only" in written and not rule.only:
            raise source.error(f"{place}.only", "`only: []` names no gateway; name some, or leave it out")
        _check_condition(source, f"{place}.when", rule.when, written.get("when", {}), gateways, depth=1)
    _check_reachable(source, found)
    promised: set[tuple[str, str]] = set()
    for index, each in enumerate(found.commitments):
        _check_gateway(source, f"$.commitments[{index}].gateway", each.gateway, gateways)
        if (each.gateway, each.per) in promised:
            raise source.error(f"$.commitments[{index}]", f"{each.gateway} has two promises per {each.per}; remove one")
        promised.add((each.gateway, each.per))
    return _check_together(source, found, gateways)


def _check_together(source: YamlSource, found: RuleSet, gateways: Mapping[str, GatewayTerms]) -> list[str]:
    """Refuse rules that fit nothing, leave payments no gateway, or promise too much; tells what may be meant."""
    checks = RuleChecks(found.rules, gateways)
    doubts: list[ConfigError] = []
    try:
        for index, rule in enumerate(found.rules):
            if checks.fits_none(index):
                raise source.error(
                    f"$.rules[{index}].when", f"rule {rule.name!r} fits no payment: what `when` says contradicts itself"
                )
        for finding in checks.refusals():
            told = source.error(*_refusal_in_words(found, finding))
            if finding.certain and not finding.on_purpose and checks.refuse_all(finding.rules):
                raise told
            doubts.append(told)
        for finding, total in checks.excesses():
            payments = _in_words(finding.payment)
            told = source.error(
                f"$.rules[{finding.rules[-1]}].at_least",
                f"{_named(found, finding.rules)} give away {total:g} of {payments}, more than {FLOORS_MAX:g}; "
                "lower a share, or limit a rule with `when`",
            )
            if finding.certain:
                raise told
            doubts.append(told)
    except TooManyKinds:
        problem = "the rules tell too many kinds of payments apart; not all were looked at for some without a gateway"
        doubts.append(ConfigError(source.path, problem))
    return [str(each) for each in doubts]


def _refusal_in_words(found: RuleSet, finding: Finding) -> tuple[str, str]:
    """The place of a refusal, and what it is."""
    last = finding.rules[-1]
    rule, payments = found.rules[last], _in_words(finding.payment)
    takers = ", ".join(finding.takers)
    if finding.on_purpose:
        return (
            f"$.rules[{last}].never",
            f"rule {rule.name!r} refuses {payments}: it names every gateway that takes them ({takers})",
        )
    part = "only" if rule.only and not set(finding.takers) & set(rule.only) else "never" if rule.never else "only"
    who = _named(found, finding.rules)
    remedy = "to refuse them on purpose, name all of these in one `never`"
    if len(finding.rules) == 1:
        return (
            f"$.rules[{last}].{part}",
            f"{who} leaves {payments} no gateway, which {takers} would take; limit it with `when`, or {remedy}",
        )
    return (
        f"$.rules[{last}].{part}",
        f"{who} together leave {payments} no gateway, which {takers} would take; limit one with `when`, or {remedy}",
    )


def _named(found: RuleSet, rules: Sequence[int]) -> str:
    names = [repr(found.rules[index].name) for index in rules]
    return f"rule {names[0]}" if len(names) == 1 else f"rules {', '.join(names[:-1])} and {names[-1]}"


def _in_words(payment: RoutingContext) -> str:
    """Payments of the kind of one, as far as it is not like most."""
    words = f"{payment.method} payments in {payment.currency}"
    if payment.country is not None:
        words += " from other countries" if payment.country == OTHER_COUNTRY else f" from {payment.country}"
    if payment.issuer != OTHER:
        words += f" of issuer {payment.issuer}"
    if payment.network is not None:
        words += f" of network {payment.network}"
    if payment.bin is not None:
        words += f" whose card begins with {payment.bin}"
    if payment.three_ds is not None:
        words += f" {'through' if payment.three_ds else 'not through'} 3-D Secure"
    if payment.amount_minor:
        words += f" of {payment.amount_minor} minor units"
    if payment.attempt_number > 1:
        words += f" at attempt {payment.attempt_number}"
    return words


def _check_rule(source: YamlSource, place: str, rule: Rule, gateways: Mapping[str, GatewayTerms]) -> None:
    if not list(rule.gateways()):
        raise source.error(place, f"rule {rule.name!r} does nothing; say only, never, order, split or at_least")
    for name in rule.gateways():
        _check_gateway(source, place, name, gateways)
    if rule.order and rule.split:
        raise source.error(f"{place}.split", f"rule {rule.name!r} has an order and a split; only one can decide")
    if rule.split and abs(sum(rule.split.values()) - 1.0) > 1e-9:
        raise source.error(
            f"{place}.split", f"the split of {rule.name!r} adds up to {sum(rule.split.values()):g}, must be 1"
        )
    if len(set(rule.order)) < len(rule.order):
        raise source.error(f"{place}.order", f"the order of {rule.name!r} names a gateway twice")
    if sum(rule.at_least.values()) > FLOORS_MAX:
        raise source.error(
            f"{place}.at_least", f"{rule.name!r} gives away {sum(rule.at_least.values()):g}, more than {FLOORS_MAX:g}"
        )
    if rule.only and not set(rule.only) - set(rule.never):
        raise source.error(f"{place}.only", f"rule {rule.name!r} leaves no gateway")
    outside = [name for name in (*rule.order, *rule.split, *rule.at_least)
               if name in rule.never or (rule.only and name not in rule.only)]  # fmt: skip
    if outside:
        raise source.error(place, f"rule {rule.name!r} excludes {outside[0]} and names it all the same")


def _check_gateway(source: YamlSource, place: str, name: str, gateways: Mapping[str, GatewayTerms]) -> None:
    if name not in gateways:
        raise source.error(place, f"there is no gateway {name!r}; known are {', '.join(sorted(gateways))}")


def _check_condition(  # the condition, where it stands, and as it is written: a list that is left out or empty differs
    source: YamlSource,
    place: str,
    when: Condition,
    written: Mapping[str, Any],
    gateways: Mapping[str, GatewayTerms],
    *,
    depth: int,
) -> None:
    if depth > NESTED_MAX:
        raise source.error(place, f"conditions are nested more than {NESTED_MAX} deep; split the rule")
    for field in ("methods", "currencies"):
        taken = set[str]().union(*(getattr(terms, field) for terms in gateways.values()))
        for index, name in enumerate(getattr(when, field)):
            if name not in taken:
                known = ", ".join(sorted(taken))
                raise source.error(f"{place}.{field}[{index}]", f"no gateway takes {name!r}; taken are {known}")
    for index, name in enumerate(when.countries):
        if not COUNTRY.fullmatch(name):
            raise source.error(
                f"{place}.countries[{index}]", f"{name!r} is no country; write two capital letters, as DE"
            )
    if when.amount_minor_max is not None and when.amount_minor_max < when.amount_minor_min:
        raise source.error(f"{place}.amount_minor_max", "amount_minor_max is below amount_minor_min: no payment fits")
    for field in SAY_NOTHING:
        if field in written and not written[field]:
            raise source.error(f"{place}.{field}", f"`{field}: []` says nothing; leave it out, or say what it must be")
    if when.not_ == Condition() and not any(field in written["not"] for field in SAY_NOTHING):
        raise source.error(f"{place}.not", "`not: {}` fits no payment; say which payments it is not, or leave it out")
    for inner_place, inner, inner_written in _inner(place, when, written):
        if inner == Condition() and not any(inner_written.get(field) == [] for field in SAY_NOTHING):
            raise source.error(inner_place, "`{}` fits every payment; say which payments, or leave it out")
        _check_condition(source, inner_place, inner, inner_written, gateways, depth=depth + 1)


def _inner(
    place: str, when: Condition, written: Mapping[str, Any]
) -> Iterator[tuple[str, Condition, Mapping[str, Any]]]:
    """Conditions within a condition: where each stands, what it is, and as it is written."""
    yield from ((f"{place}.all[{index}]", inner, written["all"][index]) for index, inner in enumerate(when.all))
    yield from ((f"{place}.any[{index}]", inner, written["any"][index]) for index, inner in enumerate(when.any))
    if when.not_ is not None:
        yield f"{place}.not", when.not_, written["not"]


def _check_reachable(source: YamlSource, found: RuleSet) -> None:
    """Refuse an order or a split that never decides, because one for every payment stands above it."""
    above: str | None = None
    for index, rule in enumerate(found.rules):
        if not rule.enabled or not rule.decides:
            continue
        if above is not None:
            raise source.error(
                f"$.rules[{index}]", f"rule {rule.name!r} never decides: {above!r} above it decides for every payment"
            )
        if rule.when == Condition():
            above = rule.name
