"""Settings come from three layers, and a mistake is said with its place."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from config.errors import ConfigError
from config.settings import DIRECTORY, Settings, load_settings, masked


def test_the_shipped_settings_are_complete() -> None:
    """Every setting has a value in default.yaml; nothing is set anywhere else."""
    settings = load_settings({})
    assert settings.web.port == 8080


def test_every_setting_is_explained() -> None:
    """Each key of default.yaml has a comment above it."""
    lines = (DIRECTORY / "default.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"^  \w+:", line):
            assert lines[number - 1].strip().startswith("#"), f"default.yaml:{number + 1} has no comment"


def test_every_setting_has_its_place_in_default_yaml() -> None:
    """A key that only the code knows would be a secret."""
    text = (DIRECTORY / "default.yaml").read_text()
    for section in msgspec.structs.fields(Settings):
        if isinstance(section.type, type) and issubclass(section.type, msgspec.Struct):
            for field in msgspec.structs.fields(section.type):
                assert re.search(rf"^  {field.name}:", text, re.MULTILINE), f"{section.name}.{field.name}"


def test_a_file_overrides_the_shipped_settings(tmp_path: Path) -> None:
    """An operator's file holds only what differs."""
    file = tmp_path / "mine.yaml"
    file.write_text("web:\n  port: 9000\n")
    settings = load_settings({"IPA_CONFIG": str(file)})
    assert (settings.web.port, settings.web.session_hours) == (9000, 12)


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """The nearest layer wins; numbers and truth values are read as such."""
    file = tmp_path / "mine.yaml"
    file.write_text("web:\n  port: 9000\n")
    settings = load_settings({"IPA_CONFIG": str(file), "IPA_WEB__PORT": "9100", "IPA_WEB__SECURE_COOKIES": "true"})
    assert (settings.web.port, settings.web.secure_cookies) == (9100, True)


def test_short_names_and_secret_files(tmp_path: Path) -> None:
    """The two addresses have short names; a secret may lie in a file."""
    secret = tmp_path / "secret"
    secret.write_text("12345678\n")
    settings = load_settings({"IPA_AMQP_URL": "amqp://h/", "IPA_WEB__ADMIN_PASSWORD_FILE": str(secret)})
    assert (settings.broker.url, settings.web.admin_password) == ("amqp://h/", "12345678")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("web:\n  port: 99999\n", 2, "<= 65535"),
        ("web:\n  prot: 1\n", 2, "unknown field `prot`"),
        ("runner:\n  batches:\n    ingestor: {size_max: 0, wait_ms_max: 1}\n", 3, ">= 1"),
        ("web: [\n", 2, "not valid YAML"),
        ("web:\n  port: 1\n  port: 2\n", 3, "a second time"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    """File, line, what is wrong."""
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings({"IPA_CONFIG": str(file)})
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("IPA_WEB__PORT", "many", "Expected `int`"),
        ("IPA_WEBB__PORT", "1", "unknown field `webb`"),
        ("IPA_TYPO", "1", "is no setting"),
        ("IPA_WEB__ADMIN_PASSWORD_FILE", "/nowhere/at/all", "cannot be read"),
        ("IPA_CONFIG", "/nowhere/at/all.yaml", "there is no such file"),
    ],
)
def test_a_mistake_in_the_environment_is_named(variable: str, value: str, problem: str) -> None:
    """The variable, and what is wrong with it."""
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load_settings({variable: value})


def test_secrets_are_never_shown() -> None:
    """What is shown of the settings holds no password and no signing secret."""
    settings = load_settings(
        {
            "IPA_AMQP_URL": "amqp://user:hunter2@h/",
            "IPA_MONGO_URL": "mongodb://user:hunter2@h/",
            "IPA_WEB__ADMIN_PASSWORD": "hunter2",
            "IPA_DASHBOARD__SECRET": "hunter2" * 5,
        }
    )
    assert "hunter2" not in str(masked(settings))


WINDOW = "{starts_at: 2026-12-01T02:00:00Z, ends_at: 2026-12-01T04:00:00Z, gateway: bravo}"
LISTED = "  maintenance:\n    - "


@pytest.mark.parametrize(
    ("line", "text", "problem"),
    [
        (2, "  false_alerts_per_week: 0", "expected `float` > 0"),
        (2, "  contamination: 0.7", "expected `float` < 0.5"),
        (3, LISTED + WINDOW.replace("T04", "T01"), "ends before"),
        (3, LISTED + WINDOW.replace("bravo", "brvo"), "'brvo'"),
        (3, LISTED + WINDOW.replace("gateway: bravo", "method: cash"), "'cash'"),
        (3, LISTED + WINDOW.replace(", gateway: bravo", ""), "hide everything"),
        (4, f"{LISTED}{WINDOW}\n    - {WINDOW}", "overlaps window 1"),
    ],
)
def test_bad_settings_of_the_anomaly_watcher_are_refused_with_their_line(
    tmp_path: Path, line: int, text: str, problem: str
) -> None:
    """A budget of nothing, windows that overlap or name what is not there: file, line and reason."""
    file = tmp_path / "mine.yaml"
    file.write_text(f"anomalies:\n{text}\n")
    with pytest.raises(ConfigError) as raised:
        load_settings({"IPA_CONFIG": str(file)})
    assert str(raised.value).startswith(f"{file}:{line}: ")
    assert problem in str(raised.value)


def test_maintenance_windows_that_fit_are_taken(tmp_path: Path) -> None:
    """Two windows of different parts may overlap."""
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"anomalies:\n  maintenance:\n    - {WINDOW}\n    - {WINDOW.replace('gateway: bravo', 'issuer: kite')}\n"
    )
    windows = load_settings({"IPA_CONFIG": str(file)}).anomalies.maintenance
    assert [window.segment[:3] for window in windows] == [("bravo", None, None), (None, None, "kite")]
