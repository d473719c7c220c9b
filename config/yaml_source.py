"""Reads YAML into typed structs, and says file and line when something does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import msgspec.inspect
import yaml

from config.errors import ConfigError
from config.yaml_kinds import kind_at
from config.yaml_remedies import Spot, key_not_text, may_be, of_repeated, of_text, of_value

T = TypeVar("T")

FILE_BYTES_MAX = 1_000_000
"""A configuration file larger than this is a mistake, not a configuration."""


class YamlSource:
    """One YAML file, parsed once, that knows the line of every value in it.

    Raises: ConfigError: the file cannot be read, is no YAML, or repeats a key.
    """

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        self.text = _read(path) if text is None else text
        try:
            loader = yaml.SafeLoader(self.text)
            node = loader.get_single_node()
            self.value: Any = loader.construct_document(node) if node else {}
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else None
            said = f"{error.problem or error.context}"
            raise ConfigError(path, _with_remedy(f"not valid YAML: {said}", of_text(said)), line=line) from None
        except (yaml.YAMLError, ValueError) as error:  # a date that does not exist, a number without digits
            raise ConfigError(path, f"not valid YAML: {error}") from None
        except RecursionError:
            raise ConfigError(path, "nested too deeply, or a value that contains itself") from None
        self._lines: dict[str, int] = {}
        self._nodes: dict[str, yaml.Node] = {}
        try:
            for place, line, written in _places(node, "$") if node is not None else ():
                if written is None:
                    remedy = of_repeated(self._nodes[place.rpartition(".")[0]]) or "remove one"
                    raise ConfigError(path, f"key {place!r} stands here a second time; {remedy}", line=line)
                self._lines[place] = line
                self._nodes[place] = written
        except RecursionError:
            raise ConfigError(path, "nested too deeply, or a value that contains itself") from None

    def line_of(self, place: str) -> int | None:
        """The line of a value such as ``$.experiments[0].arms``, or of the nearest thing around it."""
        while place not in self._lines:
            around = re.sub(r"(\.[^.\[]+|\[[^\]]*\])$", "", place)
            if around == place:
                return None
            place = around
        return self._lines[place]

    def error(self, place: str, problem: str) -> ConfigError:
        """Build the error for one place in this file."""
        return ConfigError(self.path, problem, line=self.line_of(place))

    def as_type(self, kind: type[T]) -> T:
        """Convert the whole file.

        Raises: ConfigError: a value has the wrong type or range, or a key is unknown or missing.
        """
        try:
            return msgspec.convert(self.value, kind)
        except msgspec.ValidationError as error:
            raise self.located(error, kind) from None
        except RecursionError:
            raise ConfigError(self.path, "nested too deeply, or a value that contains itself") from None

    def located(self, error: msgspec.ValidationError, kind: type) -> ConfigError:
        """Say what does not fit together with its line in this file, and how to mend it.

        Args:
            error: what msgspec said.
            kind: what was converted to.
        """
        problem, _, place = str(error).partition(" - at `")
        is_key = place.startswith("key` in `")
        place = place.rstrip("`").removeprefix("key` in `") or "$"
        place = next((found for found in self._resolved(place) if self._may_be(problem, found)), place)
        shown = "the top level" if place == "$" else place
        remedy = of_value(self._spot(problem, place, kind))
        if is_key and (key := key_not_text(self._nodes.get(place))) is not None:
            place = f"{place}.{key.value}"
        elif unknown := re.search(r"unknown field `([^`]+)`", problem):
            place = f"{place}.{unknown[1]}"
        return self.error(place, _with_remedy(f"{problem[0].lower()}{problem[1:]} (at {shown})", remedy))

    def _resolved(self, place: str) -> Iterator[str]:
        """The places that one may be: msgspec does not say under which key of a dictionary, as in ``$.split[...]``."""
        before, dots, after = place.partition("[...]")
        if not dots:
            yield place
        elif isinstance(node := self._nodes.get(before), yaml.MappingNode):
            for key, _ in node.value:
                yield from self._resolved(f"{before}.{key.value}{after}")

    def _may_be(self, problem: str, place: str) -> bool:
        node = self._nodes.get(place)
        return node is not None and may_be(problem, node)

    def _spot(self, problem: str, place: str, kind: type) -> Spot:
        steps = re.findall(r"[^.\[]+|\[[^\]]*\]", place)[1:]
        around = self._nodes.get(place[: -len(steps[-1])].rstrip(".")) if steps else None
        key = steps[-1] if steps and not steps[-1].startswith("[") else ""
        try:
            at = kind_at(msgspec.inspect.type_info(kind), steps)
        except TypeError:
            at = None
        node = self._nodes.get(place)
        return Spot(problem, key, node, around, at)


def _with_remedy(problem: str, remedy: str) -> str:
    return f"{problem}; {remedy}" if remedy else problem


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(path, f"larger than {FILE_BYTES_MAX} bytes; this is not a configuration file")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(path, "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"cannot be read as UTF-8 text: {error}") from None


def _places(node: yaml.Node, place: str) -> Iterator[tuple[str, int, yaml.Node | None]]:
    """Yield (place, line, what is written there; None: a second time) of every value below a node."""
    yield place, node.start_mark.line + 1, node
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = f"{place}.{key.value}"
            yield name, key.start_mark.line + 1, None if name in seen else value
            seen.add(name)
            yield from (found for found in _places(value, name) if found[0] != name)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _places(value, f"{place}[{index}]")
