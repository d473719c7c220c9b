"""How to mend what does not fit in a YAML file: the slips that people make, each with what to write instead."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import yaml
from msgspec import inspect

from config.yaml_kinds import bounds_of, fields_of, is_share, values_of

KNOWN_SHOWN_MAX: Final = 40
READ_AS: Final = {
    "bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "datetime": "a time",
    "date": "a date",
}
TAGS: Final = {"map": "object", "seq": "array", "timestamp": "datetime"}
SCANNING: Final = (
    (r"found character '\\t'", "a tab stands here; indent with spaces"),
    (r"found character '(.)'", r'a value must not begin with \1; write it in quotes: "\1…"'),
    (r"mapping values are not allowed", "a value with a colon in it needs quotes, and keys of one block stand below "
     "each other"),
    (r"expected ',' or '([\]}])'", r"close the bracket with \1, and put a comma between its entries"),
    (r"expected <block end>", "indent this line like those that it belongs to"),
    (r"could not find expected ':'", "write `key: value`, with a space after the colon"),
    (r"unexpected end of stream", "a quote is not closed"),
    (r"found undefined alias", "a value that begins with * needs quotes"),
)  # fmt: skip
"""What the parser says of text that is no YAML, and what is most likely meant."""


class Spot(NamedTuple):
    """A place in a file where something does not fit.

    Attributes:
        problem: what msgspec says of it.
        key: the name before it, as ``methods``; empty: it stands in a list, or is the whole.
        node: what is written there; None: it is not in the file.
        parent: what that stands in.
        kind: what may stand there; None: it is not known.
    """

    problem: str
    key: str
    node: yaml.Node | None
    parent: yaml.Node | None
    kind: inspect.Type | None

    @property
    def text(self) -> str:
        """A single value as it is written; empty: it is none."""
        return self.node.value if isinstance(self.node, yaml.ScalarNode) else ""

    @property
    def got(self) -> str:
        """What msgspec calls what is written."""
        found = re.search(r"got `(\w+)`", self.problem)
        return found[1] if found else ""

    def expects(self, *names: str) -> bool:
        """Whether one of these was expected."""
        found = re.match(r"Expected `([^`]+)`", self.problem)
        return found is not None and not set(names).isdisjoint(found[1].split(" | "))


def of_text(problem: str) -> str:
    """What to do about text that is no YAML; empty: nothing is known."""
    for pattern, words in SCANNING:
        if found := re.search(pattern, problem):
            return found.expand(words)
    return ""


def of_value(spot: Spot) -> str:
    """What to do about a value or key that does not fit; empty: the problem says all that is known."""
    return next((words for told in REMEDIES if (words := told(spot))), "")


def of_repeated(braces: yaml.Node) -> str:
    """What to do about a key that stands twice within braces: often it is what followed a decimal comma; else empty."""
    return _comma(Spot("", "", braces, None, None))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The near name that was most likely meant, else all that are known.

    >>> did_you_mean("Card", ["card", "upi"])
    'did you mean card?'
    >>> did_you_mean("cash", ["upi", "wallet"])
    'known are upi, wallet'
    """
    names = list(known)
    near = [name for name in names if name.lower() == word.lower()] or difflib.get_close_matches(word, names, 1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(names)}" if 0 < len(names) <= KNOWN_SHOWN_MAX else ""


def type_name(node: yaml.Node) -> str:
    """What msgspec calls what a node becomes."""
    tag = node.tag.rpartition(":")[2]
    return TAGS.get(tag, tag)


def key_not_text(node: yaml.Node | None) -> yaml.Node | None:
    """The first key below a node that YAML does not read as text."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((key for key, _ in pairs if type_name(key) != "str"), None)


def may_be(problem: str, node: yaml.Node) -> bool:
    """Whether a problem may be that of a node, as far as one can see."""
    spot = Spot(problem, "", node, None, None)
    if spot.got:
        return spot.got == type_name(node)
    if bound := re.search(r"(<=|>=|<|>) (-?[0-9.]+)$", problem):
        number, end = _number(spot.text), float(bound[2])
        if number is None:
            return False
        return not {"<=": number <= end, ">=": number >= end, "<": number < end, ">": number > end}[bound[1]]
    if pattern := re.search(r"matching regex '(.*)'$", problem):
        return re.search(pattern[1], spot.text) is None
    return True


# --- one slip each ---------------------------------------------------------------------------------------------------


def _nothing(spot: Spot) -> str:
    if spot.got != "null":
        return ""
    name = f"`{spot.key}:`" if spot.key else "the dash"
    what = f"nothing stands after {name}" if not spot.text else f"{spot.text} is no value here"
    return f"{what}; give it a value, or take it out"


def _comma(spot: Spot) -> str:
    """A comma in a number within braces: ``{weight: 0,5}`` is a weight of 0 and a key 5."""
    for braces in (spot.node, spot.parent):
        if not isinstance(braces, yaml.MappingNode) or not braces.flow_style:
            continue
        for (name, value), (after, nothing) in zip(braces.value, braces.value[1:], strict=False):
            is_digits = type_name(value) == "int" and re.fullmatch(r"\d+\s*%?", after.value) is not None
            if is_digits and type_name(nothing) == "null" and not nothing.value:
                plain = f"{value.value}{after.value} or " if len(after.value) == 3 and value.value != "0" else ""
                return f"a comma ends an entry here; write {name.value}: {plain}{value.value}.{after.value}"
    return ""


def _unquoted(spot: Spot) -> str:
    if spot.expects("bool") and spot.got == "str":
        return "write true or false"
    if spot.expects("str") and spot.got in READ_AS and spot.text:
        return f'YAML reads {spot.text} as {READ_AS[spot.got]}; write it in quotes: "{spot.text}"'
    return ""


def _list(spot: Spot) -> str:
    if spot.expects("array") and spot.text and not spot.expects("int", "float"):
        return f"write a list, in brackets: [{spot.text}]"
    if spot.expects("array") and spot.got == "object":
        return "write a list: begin each entry with a dash"
    if spot.got == "array" and spot.expects("str", "int", "float", "bool"):
        return "write one value, without brackets and dash"
    if spot.expects("object") and spot.got:
        known = fields_of(spot.kind)
        return f"write keys with their values, as `key: value`{f'; known are {_listed(known)}' if known else ''}"
    return ""


def _not_a_number(spot: Spot) -> str:
    """Percent, commas, separators and quotes, where a number is meant."""
    if (spot.got, spot.expects("int")) == ("float", True):
        return "write a whole number"
    if spot.got != "str" or not spot.expects("int", "float"):
        return ""
    text = spot.text.strip()
    if text.endswith("%") and (percent := _number(text.rstrip("% ").replace(",", "."))) is not None:
        if is_share(spot.kind):
            written = f": write {percent / 100:g}" if 0 <= percent <= 100 else ""
            return f"a share is a number from 0 to 1{written}"
        return f"write the number without the percent sign: {percent:g}"
    if re.fullmatch(r"[-+]?\d{1,3}([ ,.'_]\d{3})+", text) and not is_share(spot.kind):
        return f"write a number without separators: {re.sub(r'[^-0-9]', '', text)}"
    if re.fullmatch(r"[-+]?\d*,\d+", text):
        return f"the decimal sign is a point: write {text.replace(',', '.')}"
    if (number := _number(text)) is not None:
        plain = int(number) if number == int(number) else number
        return f"write it as a plain number, without quotes and exponent: {plain}"
    is_endless = re.fullmatch(r"[-+]?\.?inf(inity)?", text, re.IGNORECASE) is not None
    return "write a number; for no bound, leave it out" if is_endless else "write a number"


def _out_of_range(spot: Spot) -> str:
    number, bounds = _number(spot.text), bounds_of(spot.kind)
    if number is None or not bounds or not re.search(r" (<=|>=|<|>) ", spot.problem):
        return ""
    words = f"not {spot.text}: write a number {bounds}"
    return f"{words}; {number:g} % is {number / 100:g}" if is_share(spot.kind) and 1 < number <= 100 else words


def _key(spot: Spot) -> str:
    """A key that YAML does not read as text."""
    key = key_not_text(spot.node) if spot.problem.startswith("Expected `str`") else None
    if key is None or type_name(key) not in READ_AS:
        return ""
    return f'YAML reads the key {key.value} as {READ_AS[type_name(key)]}; write it in quotes: "{key.value}"'


def _unknown(spot: Spot) -> str:
    if found := re.search(r"unknown field `([^`]+)`", spot.problem):
        return did_you_mean(found[1], fields_of(spot.kind))
    if found := re.search(r"Invalid (?:enum )?value '?([^']+)'?$", spot.problem):
        return did_you_mean(found[1], values_of(spot.kind))
    if found := re.search(r"missing required field `([^`]+)`", spot.problem):
        return f"add it, as `{found[1]}: …`"
    return ""


def _pattern(spot: Spot) -> str:
    if not (found := re.search(r"matching regex '(.*)'$", spot.problem)) or not spot.text:
        return ""
    guesses = (spot.text.upper(), spot.text.lower(), re.sub(r"[^A-Za-z0-9_-]+", "_", spot.text))
    fits = next((guess for guess in guesses if re.search(found[1], guess)), None)
    return f"{spot.text!r} does not; write {fits}" if fits else f"{spot.text!r} does not"


def _time(spot: Spot) -> str:
    if spot.expects("datetime") or "RFC3339" in spot.problem:
        return "write date, time and offset, as 2026-03-02T09:00:00+00:00"
    return ""


def _length(spot: Spot) -> str:
    if re.search(r"of length >= ", spot.problem):
        return "the list is too short; name more" if spot.expects("array") else "write something"
    return "it is too long; shorten it" if re.search(r"of length <= ", spot.problem) else ""


REMEDIES: Final[Sequence[Callable[[Spot], str]]] = (
    _comma, _nothing, _key, _unquoted, _list, _not_a_number, _out_of_range, _unknown, _pattern, _time, _length,
)  # fmt: skip


def _number(text: str) -> float | None:
    """The finite number that a text says; None: it says none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:KNOWN_SHOWN_MAX])
