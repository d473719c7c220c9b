"""Which system a command speaks to."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.lock import StateDirectory
from cli.system import Place
from cli.target import note_place, running_place, target_settings
from config.errors import ConfigError

PLACE = Place(amqp_url="amqp://a:b@127.0.0.1:1/", mongo_url="mongodb://127.0.0.1:2/", web_port=3, dashboard_port=4)


def test_named_server_wins_over_a_running_demo(tmp_path: Path) -> None:
    """A URL in the environment is used, whatever runs in this directory."""
    with StateDirectory(tmp_path / "state") as state:
        note_place(state.path, PLACE)
        settings = target_settings({"IPA_AMQP_URL": "amqp://mine/"}, state.path)
    assert settings.broker.url == "amqp://mine/"


def test_running_demo_is_found(tmp_path: Path) -> None:
    """Without a URL, the demo that runs in this directory is used, its store as well."""
    with StateDirectory(tmp_path / "state") as state:
        note_place(state.path, PLACE)
        settings = target_settings({}, state.path)
    assert (settings.broker.url, settings.store.url) == (PLACE.amqp_url, PLACE.mongo_url)


def test_ended_demo_is_not_taken_for_a_running_one(tmp_path: Path) -> None:
    """What an ended demo left behind is no system: by now anybody may listen on its ports."""
    with StateDirectory(tmp_path / "state") as state:
        note_place(state.path, PLACE)
    assert running_place(tmp_path / "state") is None
    with pytest.raises(ConfigError, match="IPA_AMQP_URL: names no RabbitMQ"):
        target_settings({}, tmp_path / "state")


def test_place_is_private(tmp_path: Path) -> None:
    """The file with the broker's password is for its owner only."""
    note_place(tmp_path, PLACE)
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())
