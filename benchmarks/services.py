"""Private servers for a benchmark, a virtual host and a database for each contestant, and what a process costs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import urllib.request
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from cli.services.mongodb import PrivateMongoDB
from cli.services.rabbitmq import PrivateRabbitMQ

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Services(msgspec.Struct, frozen=True):
    """A RabbitMQ node and a mongod of our own, and a directory for what processes write."""

    broker: PrivateRabbitMQ
    store: PrivateMongoDB
    directory: Path

    def make_vhost(self, name: str) -> str:
        """Make a virtual host. Returns: its URL."""
        self._manage("PUT", f"/api/vhosts/{name}", b"{}")
        rights = b'{"configure":".*","write":".*","read":".*"}'
        self._manage("PUT", f"/api/permissions/{name}/{self.broker.user}", rights)
        return self.broker.url + name

    def drop_vhost(self, name: str) -> None:
        """Forget a virtual host and all its queues."""
        self._manage("DELETE", f"/api/vhosts/{name}")

    def start(self, name: str, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a Python process of this project; its output goes to a log in the directory."""
        log = (self.directory / f"{name}.log").open("wb")
        with log:
            return subprocess.Popen(
                [sys.executable, *command], env=os.environ | dict(environment), stdout=log, stderr=log
            )

    def log_of(self, name: str) -> str:
        """The last lines a process wrote."""
        return (self.directory / f"{name}.log").read_text(errors="replace")[-2_000:]

    def _manage(self, method: str, path: str, body: bytes | None = None) -> None:
        request = urllib.request.Request(  # noqa: S310 - our own broker on loopback
            self.broker.management_url.rstrip("/") + path, data=body, method=method
        )
        secret = b64encode(f"{self.broker.user}:{self.broker.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {secret}")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310
            pass


@asynccontextmanager
async def private_services(*, cache_gb: float = 2.0) -> AsyncIterator[Services]:
    """Start both, and end both."""
    with tempfile.TemporaryDirectory(prefix="ipa-bench-") as folder:
        directory = Path(folder)
        async with (
            PrivateRabbitMQ(directory / "rabbitmq") as broker,
            PrivateMongoDB(directory / "mongodb", cache_gb=cache_gb) as store,
        ):
            yield Services(broker, store, directory)


def cpu_s(pid: int) -> float:
    """Processor time that a living process has used, user and system, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
