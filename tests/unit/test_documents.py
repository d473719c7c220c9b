"""Documents say what is true now: a test says so, not a reviewer."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest

import cli.__main__ as command_line
from config.settings import Settings
from messaging.asyncapi import asyncapi_yaml
from messaging.contracts import MESSAGES, AttemptStatus, type_of
from messaging.topology import LINE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


def ipa() -> click.Group:
    """The command with all its subcommands."""
    return command_line.ipa


def test_asyncapi_yaml_is_current() -> None:
    """The published description of the messages is the one that the code makes."""
    assert (ROOT / "asyncapi.yaml").read_text() == asyncapi_yaml()


@pytest.mark.parametrize("stage", [stage.name for stage in LINE])
def test_every_worker_is_in_the_readme_and_the_architecture(stage: str) -> None:
    """A newcomer meets each worker by name."""
    assert stage in README
    assert stage in ARCHITECTURE


def test_every_command_is_in_the_readme() -> None:
    """No command is a secret."""
    for name in ipa().commands:
        assert f"`ipa {name}" in README, name


def test_every_status_of_an_attempt_is_explained() -> None:
    """A checkout developer finds each status in the message contract."""
    for status in AttemptStatus.__args__:
        assert f"`{status}`" in README


def test_messages_from_and_to_checkouts_are_in_the_readme() -> None:
    """The contract names what a checkout sends and gets."""
    for kind in MESSAGES:
        if type_of(kind).startswith(("attempt.", "route.")):
            assert f"`{type_of(kind)}`" in README


def test_every_folder_is_in_the_code_map() -> None:
    """Each top-level package has its row."""
    for package in ("actors", "cli", "config", "messaging", "ml", "simulator", "storage", "web", "tests"):
        assert f"| `{package}/` |" in ARCHITECTURE


def test_settings_keys_are_words_with_units_last() -> None:
    """Every key of the settings is plain lower case, as the environment variables need it."""
    for section in msgspec.structs.fields(Settings):
        assert re.fullmatch(r"[a-z_]+", section.name)


def test_pictures_exist() -> None:
    """A picture that a page shows is in the repository."""
    for page in (README, ARCHITECTURE):
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page):
            assert (ROOT / picture).is_file(), picture
