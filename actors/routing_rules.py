"""Reads the routing rules, refuses mistakes with file and line, and notices when the file changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from config.errors import ConfigError
from config.yaml_source import YamlSource
from ml.routing.eligibility import GatewayTerms
from ml.routing.rules import FLOORS_MAX, Condition, Rule, RuleSet

NESTED_MAX = 8
"""Conditions within conditions; more is a riddle, not a rule."""


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
            found = read_rules(self._path, self._gateways)
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
    source = YamlSource(path)
    found = source.as_type(RuleSet)
    check_rules(source, found, gateways)
    return found


def check_rules(source: YamlSource, found: RuleSet, gateways: Mapping[str, GatewayTerms]) -> None:
    """Refuse what cannot be meant.

    Raises: ConfigError: the first mistake, with its line.
    """
    names: set[str] = set()
    for index, rule in enumerate(found.rules):
        place = f"$.rules[{index}]"
        if rule.name in names:
            raise source.error(f"{place}.name", f"rule {rule.name!r} stands here twice; rename one")
        names.add(rule.name)
        _check_rule(source, place, rule, gateways)
        _check_condition(source, f"{place}.when", rule.when, gateways, depth=1)
    _check_reachable(source, found)
    promised: set[tuple[str, str]] = set()
    for index, each in enumerate(found.commitments):
        _check_gateway(source, f"$.commitments[{index}].gateway", each.gateway, gateways)
        if (each.gateway, each.per) in promised:
            raise source.error(f"$.commitments[{index}]", f"{each.gateway} has two promises per {each.per}; remove one")
        promised.add((each.gateway, each.per))


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


def _check_condition(
    source: YamlSource, place: str, when: Condition, gateways: Mapping[str, GatewayTerms], *, depth: int
) -> None:
    if depth > NESTED_MAX:
        raise source.error(place, f"conditions are nested more than {NESTED_MAX} deep; split the rule")
    for field in ("methods", "currencies"):
        taken = set[str]().union(*(getattr(terms, field) for terms in gateways.values()))
        for index, name in enumerate(getattr(when, field)):
            if name not in taken:
                known = ", ".join(sorted(taken))
                raise source.error(f"{place}.{field}[{index}]", f"no gateway takes {name!r}; taken are {known}")
    if when.amount_minor_max is not None and when.amount_minor_max < when.amount_minor_min:
        raise source.error(f"{place}.amount_minor_max", "amount_minor_max is below amount_minor_min: no payment fits")
    for inner_place, inner in _inner(place, when):
        _check_condition(source, inner_place, inner, gateways, depth=depth + 1)


def _inner(place: str, when: Condition) -> Iterator[tuple[str, Condition]]:
    yield from ((f"{place}.all[{index}]", inner) for index, inner in enumerate(when.all))
    yield from ((f"{place}.any[{index}]", inner) for index, inner in enumerate(when.any))
    if when.not_ is not None:
        yield f"{place}.not", when.not_


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
