"""Reads YAML into typed structs, and says file and line when something does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from config.errors import ConfigError

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
            raise ConfigError(path, f"not valid YAML: {error.problem or error.context}", line=line) from None
        except (yaml.YAMLError, ValueError) as error:  # a date that does not exist, a number without digits
            raise ConfigError(path, f"not valid YAML: {error}") from None
        except RecursionError:
            raise ConfigError(path, "nested too deeply, or a value that contains itself") from None
        self._lines: dict[str, int] = {}
        try:
            for place, line, repeated in _places(node, "$") if node is not None else ():
                if repeated:
                    raise ConfigError(path, f"key {place!r} stands here a second time; remove one", line=line)
                self._lines[place] = line
        except RecursionError:
            raise ConfigError(path, "nested too deeply, or a value that contains itself") from None

    def line_of(self, place: str) -> int | None:
        """The line of a value such as ``$.experiments[0].arms``, or of the nearest thing around it."""
        while place:
            if place in self._lines:
                return self._lines[place]
            place = re.sub(r"(\.[^.\[]+|\[[^\]]*\])$", "", place) if place != "$" else ""
        return None

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
            raise self.located(error) from None
        except RecursionError:
            raise ConfigError(self.path, "nested too deeply, or a value that contains itself") from None

    def located(self, error: msgspec.ValidationError) -> ConfigError:
        """Say what does not fit together with its line in this file."""
        problem, _, place = str(error).partition(" - at `")
        place = place.rstrip("`") or "$"
        shown = "the top level" if place == "$" else place
        if unknown := re.search(r"unknown field `([^`]+)`", problem):
            place = f"{place}.{unknown[1]}"
        return self.error(place, f"{problem[0].lower()}{problem[1:]} (at {shown})")


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(path, f"larger than {FILE_BYTES_MAX} bytes; this is not a configuration file")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(path, "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"cannot be read as UTF-8 text: {error}") from None


def _places(node: yaml.Node, place: str) -> Iterator[tuple[str, int, bool]]:
    """Yield (place, line, stands there twice) of every value below a node."""
    yield place, node.start_mark.line + 1, False
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = f"{place}.{key.value}"
            yield name, key.start_mark.line + 1, name in seen
            seen.add(name)
            yield from (found for found in _places(value, name) if found[0] != name)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _places(value, f"{place}[{index}]")
