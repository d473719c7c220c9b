"""Free loopback ports, kept from one start to the next where that is possible."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from cli.errors import ServiceFailed

FIRST, LAST = 20_000, 31_999
"""Below Linux's ephemeral range, so that no outgoing connection takes a port between the choice and the use."""

TRIES_MAX = 500


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Choose several different free ports.

    Raises: ServiceFailed: there are none.
    """
    found: list[int] = []
    with ExitStack() as held:
        for _ in range(TRIES_MAX):
            if len(found) == count:
                return found
            probe = held.enter_context(socket.socket())
            port = FIRST + secrets.randbelow(LAST - FIRST + 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
    raise ServiceFailed("ports", f"no {count} free ports between {FIRST} and {LAST} on 127.0.0.1")


def free_port_near(preferred: int, *, tries: int = 20) -> int:
    """The preferred port, else one of the next few, else any free one: people remember 8080."""
    for port in range(preferred, min(preferred + tries, 65_536)):
        if is_free(port):
            return port
    return free_ports(1)[0]


def kept_ports(file: Path, names: Sequence[str]) -> dict[str, int]:
    """The ports of last time when all of them are still free, else new ones; written to ``file``."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(file.read_text(encoding="utf-8"))
        ports = {name: int(known[name]) for name in names}
        if all(is_free(port) for port in ports.values()):
            return ports
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    file.write_text(json.dumps(ports), encoding="utf-8")
    return ports
