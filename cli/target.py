"""Which system a command speaks to: the one that the settings name, else the demo that runs in this directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from cli.services.process import write_private
from cli.system import Place
from config.errors import ConfigError
from config.settings import Settings, load_settings

STATE = Path(".ipa")
PLACE_FILE = "place.json"


def target_settings(environment: Mapping[str, str] | None = None, state: Path = STATE) -> Settings:
    """The settings of the system to speak to; a server on a default port that nobody named is never taken.

    Raises: ConfigError: the settings name no broker, and no demo runs here.
    """
    known = dict(os.environ if environment is None else environment)
    settings = load_settings(known)
    names = ("IPA_AMQP_URL", "IPA_BROKER__URL", "IPA_AMQP_URL_FILE", "IPA_BROKER__URL_FILE")
    if settings.broker.url != load_settings({}).broker.url or any(name in known for name in names):
        return settings
    place = running_place(state)
    if place is None:
        raise ConfigError(
            "IPA_AMQP_URL",
            "names no RabbitMQ, and no demo runs in this directory; set it, or start `make demo` beside this",
        )
    return load_settings(known | {"IPA_AMQP_URL": place.amqp_url, "IPA_MONGO_URL": place.mongo_url})


def note_place(state: Path, place: Place) -> None:
    """Write down where the system is that runs in this directory, for its owner only."""
    write_private(state / PLACE_FILE, msgspec.json.encode(place).decode())


def running_place(state: Path) -> Place | None:
    """Where the system is that runs in this directory; None: none runs."""
    with suppress(OSError, msgspec.DecodeError), (state / "lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return msgspec.json.decode((state / PLACE_FILE).read_bytes(), type=Place)
    return None
