"""Reads scenarios: what goes wrong when, as YAML."""

from __future__ import annotations

import csv
import functools
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from config.errors import ConfigError
from config.yaml_source import YamlSource
from ml.failures.codes import load_codes
from simulator.world import facts
from simulator.world.failures import CodeRow, Dialect, dialects
from simulator.world.incidents import AnyIncident
from simulator.world.plan import PlannedIncident
from simulator.world.rhythm import Rhythm
from simulator.world.schedule import random_incidents

DIRECTORY: Final = Path(str(resources.files("simulator"))) / "scenarios"
"""Where the shipped scenarios lie."""

RANDOM_PREFIX: Final = "random:"
UNLISTED_FILE: Final = "codes_unlisted.csv"


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One story: its title, what it is for, how volume follows the clock, and what happens."""

    title: Annotated[str, Meta(min_length=1, max_length=80)]
    about: Annotated[str, Meta(max_length=1000)] = ""
    rhythm: Rhythm = "flat"
    capacity_per_s: dict[str, Annotated[float, Meta(gt=0)]] = {}
    incidents: Annotated[list[AnyIncident], Meta(max_length=500)] = []


def scenario_names() -> tuple[str, ...]:
    """The shipped scenarios, by name."""
    return tuple(sorted(path.stem for path in DIRECTORY.glob("*.yaml")))


def load_scenario(name: str) -> Scenario:
    """Read a shipped scenario by its name, any other by its path, or draw one: ``random:SEED``.

    Raises: ConfigError: there is none, or it does not fit; says file and line.
    """
    if name.startswith(RANDOM_PREFIX):
        return _random_scenario(name)
    named = DIRECTORY / f"{name}.yaml"
    path = named if named.is_file() else Path(name)
    if not path.is_file():
        shipped = ", ".join(scenario_names())
        raise ConfigError(path, f"there is no such scenario; shipped are {shipped}, or give the path of a YAML file")
    source = YamlSource(path)
    scenario = source.as_type(Scenario)
    for gateway in sorted(set(scenario.capacity_per_s) - set(facts.GATEWAYS)):
        known = ", ".join(facts.GATEWAYS)
        raise source.error(f"$.capacity_per_s.{gateway}", f"there is no gateway {gateway!r}; there are: {known}")
    for place, incident in enumerate(scenario.incidents):
        try:
            PlannedIncident(incident, place)
        except ValueError as error:
            raise source.error(_place_of_error(place, str(error)), str(error)) from None
    return scenario


def _random_scenario(name: str) -> Scenario:
    seed = name.removeprefix(RANDOM_PREFIX)
    if not seed.lstrip("-").isdigit():
        problem = f"a random scenario is named {RANDOM_PREFIX}SEED with a whole number, as in {RANDOM_PREFIX}17"
        raise ConfigError(name, problem)
    return Scenario(
        title=f"Random {seed}",
        about="A day of incidents drawn by seed, again every day; some of them only look like trouble.",
        rhythm="daily",
        incidents=random_incidents(int(seed)),
    )


def _place_of_error(place: int, problem: str) -> str:
    """Point at the key that an error speaks of, where that is known."""
    for key in ("gateway", "method", "issuer", "network"):
        if problem.startswith(f"there is no {key} "):
            return f"$.incidents[{place}].{key}"
    return f"$.incidents[{place}].categories" if "categor" in problem else f"$.incidents[{place}]"


@functools.cache
def load_dialects() -> tuple[Dialect, ...]:
    """What each gateway says: the known codes, and those that are in no list."""
    listed = [CodeRow(code.system, code.code, code.message, code.category) for code in load_codes()]
    text = resources.files("simulator").joinpath(UNLISTED_FILE).read_text(encoding="utf-8")
    _, *rows = csv.reader(text.splitlines())
    return dialects(listed, [CodeRow(*row) for row in rows])
