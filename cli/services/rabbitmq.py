"""A private RabbitMQ node: its own directory, ports, cookie, password and port mapper; needs no root."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType

import pika
import pika.exceptions

from cli.errors import MissingPart, ServiceFailed
from cli.services.ports import kept_ports
from cli.services.process import Child, end_leftover, remember, secret_file, write_private

PLACES = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/usr/local/sbin/rabbitmq-server")
"""Not /usr/sbin/rabbitmq-server of Debian and Ubuntu: that one changes to another user and directory."""

PLUGINS = ("rabbitmq_management", "rabbitmq_prometheus", "rabbitmq_consistent_hash_exchange")
PORTS = ("amqp", "management", "prometheus", "distribution", "epmd")
USER = "ipa"
STARTS_MAX = 3
NO_BUSY_WAIT = "+sbwt none +sbwtdcpu none +sbwtdio none"
"""Erlang's schedulers spin while they wait for work; on two cores that takes time from everything beside the broker."""


def install_commands() -> tuple[str, ...]:
    """The commands that install RabbitMQ on Debian and Ubuntu, for this user."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return (f"{sudo}apt-get update", f"{sudo}apt-get install -y --no-install-recommends rabbitmq-server")


def find_rabbitmq_server() -> Path:
    """Find the server's own start script.

    Raises: MissingPart: there is none.
    """
    on_path = shutil.which("rabbitmq-server")
    packaged = sorted(map(str, Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server")))
    for place in (*PLACES, *packaged, *([on_path] if on_path else [])):
        script = Path(place)
        wrapper = script.resolve().name == "rabbitmq-script-wrapper"
        if script.is_file() and not wrapper and b"script-wrapper" not in script.read_bytes():
            return script
    raise MissingPart("rabbitmq-server (the RabbitMQ message broker)", install_commands())


def find_epmd() -> Path:
    """Find Erlang's port mapper, which comes with Erlang.

    Raises: MissingPart: there is none.
    """
    places = [shutil.which("epmd"), *sorted(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")))]
    for place in places:
        if place and Path(place).is_file():
            return Path(place)
    raise MissingPart("epmd (a part of Erlang, which RabbitMQ runs on)", install_commands())


class PrivateRabbitMQ:
    """A RabbitMQ node of our own on free loopback ports; nothing outside ``directory`` is touched.

    Args:
        directory: data, log, ports, cookie and password are kept here; the next start finds them again.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.log = self.directory / "rabbitmq.log"
        self.user = USER
        self.password = ""
        self._pid_file = self.directory / "pid"
        self.ports: dict[str, int] = dict.fromkeys(PORTS, 0)
        self._epmd: Child | None = None
        self._node: Child | None = None

    @property
    def url(self) -> str:
        """Where it is, with user and password, ready for IPA_AMQP_URL."""
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.ports['amqp']}/"

    @property
    def management_url(self) -> str:
        """The page for people; log in with ``user`` and ``password``."""
        return f"http://127.0.0.1:{self.ports['management']}/"

    @property
    def pid(self) -> int | None:
        """Process id of the node; None: it does not run."""
        return self._node.pid if self._node and self._node.returncode is None else None

    async def __aenter__(self) -> PrivateRabbitMQ:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def prepare(self) -> tuple[Path, Path]:
        """Choose ports and password, so that ``url`` is known before the server is up; returns its two programs.

        Raises: MissingPart: RabbitMQ is not installed.
        """
        programs = find_rabbitmq_server(), find_epmd()
        self.directory.mkdir(parents=True, exist_ok=True)
        end_leftover(self._pid_file, str(self.directory))
        self.password = secret_file(self.directory / "password")
        self.ports = kept_ports(self.directory / "ports.json", PORTS)
        return programs

    async def start(self, timeout_s: float = 90) -> None:
        """Start it and wait until an AMQP handshake succeeds.

        Raises:
            MissingPart: RabbitMQ is not installed.
            ServiceFailed: it did not come up.
        """
        if self.pid is not None:
            return
        for started in range(1, STARTS_MAX + 1):
            script, epmd = self.prepare()
            self._write_files()
            log_before = self.log.stat().st_size if self.log.exists() else 0
            try:
                self._spawn(script, epmd)
                await self._ready(time.monotonic() + timeout_s)
            except ServiceFailed:
                self.kill()
                text = self.log.read_bytes()[log_before:]
                if started == STARTS_MAX or (b"eaddrinuse" not in text and b"ddress already in use" not in text):
                    raise
            except BaseException:
                self.kill()
                raise
            else:
                return

    async def stop(self) -> None:
        """End it in an orderly way; neither the node nor its port mapper is left."""
        try:
            if self._node is not None:
                await self._node.stop(patience_s=20)
        finally:
            self.kill()

    async def died(self) -> None:
        """Return when it does not run any more."""
        if self._node is not None:
            await self._node.wait(math.inf)

    def kill(self) -> None:
        """Kill it with -9, as a power cut would."""
        for child in (self._node, self._epmd):
            if child is not None:
                child.kill()
        self._node = self._epmd = None

    async def restart(self) -> None:
        """Stop it if it runs, and start it on the same ports with the same data."""
        await self.stop()
        await self.start()

    def _write_files(self) -> None:
        ports = self.ports
        lines = [
            f"listeners.tcp.default = 127.0.0.1:{ports['amqp']}",
            "management.tcp.ip = 127.0.0.1",
            f"management.tcp.port = {ports['management']}",
            "prometheus.tcp.ip = 127.0.0.1",
            f"prometheus.tcp.port = {ports['prometheus']}",
            f"default_user = {self.user}",
            f"default_pass = {self.password}",
            "log.console = true",
            "log.console.level = info",
            "log.connection.level = warning",
            "log.file = false",
        ]
        write_private(self.directory / "rabbitmq.conf", "\n".join(lines) + "\n")
        (self.directory / "enabled_plugins").write_text(f"[{','.join(PLUGINS)}].\n", encoding="utf-8")

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on this node; it takes a second or two. Returns: what it printed.

        Raises: ServiceFailed: it said no.
        """
        command = [str(find_rabbitmq_server().with_name("rabbitmqctl")), *arguments]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise ServiceFailed("rabbitmqctl", done.stderr.strip()[-300:] or f"exit {done.returncode}", self.log)
        return done.stdout

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_"))}
        place = str(self.directory)
        return kept | {
            "HOME": place,
            "RABBITMQ_NODENAME": "ipa@localhost",
            "RABBITMQ_BASE": place,
            "RABBITMQ_MNESIA_BASE": f"{place}/mnesia",
            "RABBITMQ_LOG_BASE": f"{place}/log",
            "RABBITMQ_CONFIG_FILE": f"{place}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{place}/enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(self.ports["distribution"]),
            "ERL_EPMD_PORT": str(self.ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {{127,0,0,1}} {NO_BUSY_WAIT}",
            # The script then becomes the Erlang machine instead of keeping a shell in between: one process to end.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _spawn(self, script: Path, epmd: Path) -> None:
        environment = self._environment()
        command = [str(epmd), "-address", "127.0.0.1", "-port", str(self.ports["epmd"])]
        self._epmd = Child("epmd", command, environment, self.log, self.directory)
        self._node = Child("rabbitmq", [str(script)], environment, self.log, self.directory)
        remember(self._pid_file, self._node.pid)

    async def _ready(self, deadline: float) -> None:
        """Wait for an AMQP handshake: an open port says too little."""
        assert self._node is not None
        assert self._epmd is not None
        while time.monotonic() < deadline:
            for child in (self._node, self._epmd):
                if (status := child.returncode) is not None:
                    raise ServiceFailed(child.name, f"ended with status {status} while starting", self.log)
            if await asyncio.to_thread(_shakes_hands, self.url):
                return
            await asyncio.sleep(0.1)
        raise ServiceFailed("rabbitmq", "no AMQP handshake in time", self.log)


def _shakes_hands(url: str) -> bool:
    parameters = pika.URLParameters(f"{url}?socket_timeout=2&stack_timeout=3&connection_attempts=1")
    try:
        pika.BlockingConnection(parameters).close()
    except (pika.exceptions.AMQPError, OSError):
        return False
    return True
