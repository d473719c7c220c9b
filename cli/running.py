"""A running system: its servers, workers and pages, started side by side and ended in reverse order."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from cli.errors import CliError, ServiceFailed
from cli.lock import StateDirectory
from cli.screen import Screen
from cli.services.mongodb import PrivateMongoDB
from cli.services.ports import free_port_near, free_ports
from cli.services.process import write_private
from cli.services.rabbitmq import PrivateRabbitMQ
from cli.supervisor import Program, Supervisor
from cli.system import UNHURRIED, Place, Secrets, child_environment, kept_secrets, page_programs, worker_programs
from cli.target import note_place
from config.errors import ConfigError
from config.settings import load_settings, masked_url
from messaging.connection import Connection
from storage.database import Database, close, connect

SERVICE_RESTARTS_MAX = 5
CONTROL_VARIABLE = "IPA_WEB__DEMO_CONTROL_URL"
"""Tells the web where the demo's traffic takes incidents; emptied outside the demo, whatever the environment says."""

REACH_S_MAX = 10.0
"""How long a server named in the environment may take to answer."""


def require_urls(environment: Mapping[str, str] | None = None) -> None:
    """Refuse to go on with a server that nobody named: one found on a default port may be anybody's.

    Raises: ConfigError: a URL is named neither in the environment nor in the file of IPA_CONFIG.
    """
    environment = os.environ if environment is None else environment
    named, shipped = load_settings(environment), load_settings({})
    for variable, long_name, given, default in (
        ("IPA_AMQP_URL", "IPA_BROKER__URL", named.broker.url, shipped.broker.url),
        ("IPA_MONGO_URL", "IPA_STORE__URL", named.store.url, shipped.store.url),
    ):
        variables = {variable, long_name, f"{variable}_FILE", f"{long_name}_FILE"}
        if given == default and not variables & environment.keys():
            raise ConfigError(
                variable, f"must name your server, like {default}; or use `ipa demo`, which brings its own"
            )


class RunningSystem:
    """Everything but the traffic.

    Args:
        state: the directory that holds data, logs and secrets.
        screen: told about each step.
        private: this is the demo: start private servers where the environment names none, and have a port at which
            incidents can be triggered; False: the environment must name both servers.
        environment: of this process.
    """

    def __init__(
        self, state: StateDirectory, screen: Screen, *, private: bool, environment: Mapping[str, str] | None = None
    ) -> None:
        self._state = state
        self._screen = screen
        self._environment = dict(os.environ if environment is None else environment)
        self.settings = load_settings(self._environment)
        self.secrets = self._kept_secrets()
        self.supervisor = Supervisor(state.logs, screen.note)
        own_broker = private and not self._named("IPA_AMQP_URL", "IPA_BROKER__URL")
        own_store = private and not self._named("IPA_MONGO_URL", "IPA_STORE__URL")
        self.broker = PrivateRabbitMQ(state.path / "rabbitmq") if own_broker else None
        self.store = PrivateMongoDB(state.path / "mongodb") if own_store else None
        self._private = private
        self.control_port: int | None = None
        self._database: Database | None = None
        self._watches: list[asyncio.Task[None]] = []
        self._place: Place | None = None

    @property
    def place(self) -> Place:
        """Where everything is; known once ``start`` began."""
        assert self._place is not None
        return self._place

    @property
    def database(self) -> Database:
        """The store; there once ``start`` has ended."""
        assert self._database is not None
        return self._database

    async def start(self) -> None:
        """Start everything side by side; returns when all that payments and charts need is ready.

        Raises: CliError, MessagingError, StoreError: something did not come up; call ``stop`` all the same.
        """
        self._prepare()
        environment = self.environment()
        self._screen.waiting("starting RabbitMQ, MongoDB, the workers, the dashboard and the web pages")
        store = asyncio.create_task(self._start_store())
        broker = asyncio.create_task(self._start_broker())
        # Python takes a second or two to import; meanwhile the servers come up, and everybody waits for them by itself.
        programs = [*worker_programs(environment, self._later_database), *page_programs(environment, self.place)]
        first = [program for program in programs if program.name not in UNHURRIED]
        for program in first:
            self.supervisor.spawn(program)
        note_place(self._state.path, self.place)
        await _all(broker, store, *(self._ready(program, broker, store) for program in first))
        self._screen.waiting("")
        for program in programs:
            if program.name in UNHURRIED:
                self.supervisor.spawn(program)
                self._watches.append(asyncio.create_task(self._ready_later(program)))

    async def stop(self) -> None:
        """End everything in reverse order; no process is left."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self.supervisor.stop_all()
        if self._database is not None:
            await close(self._database)
            self._database = None
        await asyncio.gather(*(service.stop() for service in (self.broker, self.store) if service is not None))

    def kill(self) -> None:
        """End everything at once."""
        self.supervisor.kill_all()
        for service in (self.broker, self.store):
            if service is not None:
                service.kill()

    def environment(self) -> dict[str, str]:
        """What every process of the system is given."""
        known = child_environment(self.place, self.secrets, self._environment)
        known.pop(f"{CONTROL_VARIABLE}_FILE", None)
        return known | {CONTROL_VARIABLE: f"http://127.0.0.1:{self.control_port}" if self.control_port else ""}

    def urls(self) -> dict[str, str]:
        """What a person may want to open, and the login."""
        rows = {
            "Web pages": self.place.web_url,
            "Dashboard": f"{self.place.web_url} (the live charts are on the first page)",
        }
        if self.broker is not None:
            rows["RabbitMQ management"] = f"{self.broker.management_url} ({self.broker.user} / {self.broker.password})"
        rows["Login"] = f"{self.settings.web.admin_name} / {self.secrets.web_password}"
        return rows

    def _named(self, *variables: str) -> bool:
        return any(name in self._environment or f"{name}_FILE" in self._environment for name in variables)

    def _kept_secrets(self) -> Secrets:
        """Secrets that the settings name win over those that were made here."""
        file = self._state.path / "secrets.json"
        kept = kept_secrets(file)
        known = msgspec.structs.replace(
            kept,
            web_password=self.settings.web.admin_password or kept.web_password,
            dashboard_secret=self.settings.dashboard.secret or kept.dashboard_secret,
        )
        if known != kept:
            write_private(file, msgspec.json.encode(known).decode())
        return known

    def _prepare(self) -> None:
        """Choose all ports before anything starts."""
        for service in (self.broker, self.store):
            if service is not None:
                service.prepare()
        if self._private:
            (self.control_port,) = free_ports(1)
        web, dashboard = self.settings.web.port, self.settings.dashboard.port
        self._place = Place(
            amqp_url=self.broker.url if self.broker else self.settings.broker.url,
            mongo_url=self.store.url if self.store else self.settings.store.url,
            web_port=free_port_near(web or 8080) if self._private or not web else web,
            dashboard_port=free_port_near(dashboard or 5006) if self._private or not dashboard else dashboard,
        )

    async def _start_broker(self) -> None:
        began = time.monotonic()
        if self.broker is None:
            connection = await Connection.open(self.place.amqp_url, name="ipa", wait_s_max=REACH_S_MAX)
            await connection.close()
        else:
            await self.broker.start()
            if self.broker.url != self.place.amqp_url:
                raise ServiceFailed("rabbitmq", "another program took its port meanwhile; please start again")
            self._watches.append(asyncio.create_task(self._watch("RabbitMQ", self.broker)))
        self._screen.step("RabbitMQ", time.monotonic() - began, masked_url(self.place.amqp_url))

    async def _start_store(self) -> None:
        began = time.monotonic()
        if self.store is not None:
            await self.store.start()
            if self.store.url != self.place.mongo_url:
                raise ServiceFailed("mongodb", "another program took its port meanwhile; please start again")
            self._watches.append(asyncio.create_task(self._watch("MongoDB", self.store)))
        settings = msgspec.structs.replace(
            self.settings.store, url=self.place.mongo_url, connect_wait_s_max=REACH_S_MAX
        )
        self._database = await connect(settings)
        self._screen.step("MongoDB", time.monotonic() - began, masked_url(self.place.mongo_url))

    def _later_database(self) -> Database | None:
        return self._database

    async def _ready(self, program: Program, *needed: asyncio.Task[None]) -> None:
        """Wait for a program; when a server failed, its own error is the one to tell."""
        await asyncio.gather(*(asyncio.shield(one) for one in needed))
        seconds = await self.supervisor.ready(program)
        self._screen.step(program.name, seconds)

    async def _ready_later(self, program: Program) -> None:
        """Say when a program is ready that nobody waits for, or why it is not."""
        try:
            await self._ready(program)
        except CliError as error:
            self._screen.note(str(error))

    async def _watch(self, name: str, service: PrivateRabbitMQ | PrivateMongoDB) -> None:
        """Start a private server again when it dies; its port and data stay."""
        for _ in range(SERVICE_RESTARTS_MAX):
            await service.died()
            self._screen.note(f"{name} died, starting it again; see {service.log}")
            with suppress(CliError):
                await service.restart()
        self._screen.note(f"{name} died {SERVICE_RESTARTS_MAX} times; it is not started again")


async def _all(*steps: Awaitable[Any]) -> None:
    """Wait for all; at the first error the others are cancelled and that error is raised alone."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
