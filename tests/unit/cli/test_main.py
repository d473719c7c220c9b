"""The ``ipa`` command as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.__main__ import ipa, main
from cli.lock import StateDirectory
from cli.running import RunningSystem
from cli.screen import Screen
from cli.system import Place, child_environment, kept_secrets
from config.settings import load_settings
from messaging.topology import queue_names


def status_of(arguments: list[str]) -> object:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_topology_lists_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`ipa topology --json` has a row for each stage, in the order of the line."""
    assert status_of(["topology", "--json"]) in {0, None}
    assert tuple(row["queue"] for row in json.loads(capsys.readouterr().out)) == queue_names()


def test_config_hides_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`ipa config` shows what is in force, and no password."""
    monkeypatch.setenv("IPA_AMQP_URL", "amqp://checkout:hidden-one@broker:5672/")
    monkeypatch.setenv("IPA_WEB__ADMIN_PASSWORD", "hidden-two")
    assert status_of(["config"]) in {0, None}
    text = capsys.readouterr().out
    assert "amqp://checkout:***@broker:5672/" in text
    assert "hidden" not in text


def test_wrong_setting_is_said_without_a_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong variable is one line that names it, and exit code 78."""
    monkeypatch.setenv("IPA_WEB__PORT", "many")
    assert status_of(["config"]) == 78
    assert capsys.readouterr().err.startswith("IPA_WEB__PORT: ")


def test_check_needs_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    """`ipa demo --check` without --exit-after is refused before anything starts, with exit code 2."""
    assert status_of(["demo", "--check"]) == 2
    assert "--exit-after" in capsys.readouterr().err


def test_every_command_says_what_it_does() -> None:
    """Every command has a help text of its own."""
    for name, command in ipa.commands.items():
        assert command.help, name


def test_children_get_settings_that_load(tmp_path: Path) -> None:
    """The environment of the processes is one that the settings accept, and carries place and secrets."""
    known = kept_secrets(tmp_path / "secrets.json")
    place = Place(amqp_url="amqp://a:b@h/", mongo_url="mongodb://h/?replicaSet=rs0", web_port=8081, dashboard_port=5007)
    settings = load_settings(child_environment(place, known, {}))
    assert (settings.broker.url, settings.store.url) == (place.amqp_url, place.mongo_url)
    assert (settings.web.port, settings.dashboard.port) == (8081, 5007)
    assert (settings.web.admin_password, settings.dashboard.secret) == (known.web_password, known.dashboard_secret)


def test_system_without_traffic_has_no_page_for_breaking_it(tmp_path: Path) -> None:
    """`ipa up` never tells the web of a control door, whatever its own environment says."""
    door = tmp_path / "door"
    door.write_text("http://127.0.0.1:9")
    environment = {
        "IPA_AMQP_URL": "amqp://a:b@h/",
        "IPA_MONGO_URL": "mongodb://h/?replicaSet=rs0",
        "IPA_WEB__DEMO_CONTROL_URL": "http://127.0.0.1:9",
        "IPA_WEB__DEMO_CONTROL_URL_FILE": str(door),
    }
    with StateDirectory(tmp_path / "state") as state:
        system = RunningSystem(state, Screen(), private=False, environment=environment)
        system._prepare()
        assert system.control_port is None
        assert load_settings(system.environment()).web.demo_control_url is None


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    """The second start finds the secrets of the first, in a file that only its owner can read."""
    file = tmp_path / "secrets.json"
    assert kept_secrets(file) == kept_secrets(file)
    assert file.stat().st_mode & 0o077 == 0
