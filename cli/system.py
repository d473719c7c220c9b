"""The processes of the system: their commands, their environment, and how to see that each is ready."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import aiohttp
import msgspec

from cli.services.process import write_private
from cli.supervisor import Program, ReadyCheck
from messaging.topology import queue_names
from storage.database import Database
from storage.heartbeats import read_heartbeats
from web.dashboard.sessions import PREFIX

WEB = "web"
DASHBOARD = "dashboard"
SIMULATOR = "simulator"
TRAINER = "trainer"
UNHURRIED = frozenset({TRAINER, "shopper_watcher", "retry_advisor"})
"""What no payment and no chart waits for: these start when the others are up, so that the first chart comes sooner."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Seven processes share the machine; each one spreading its linear algebra over all cores makes all of them slower."""

ASK_S_MAX = 2.0


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What only the processes of one checkout know."""

    web_password: str
    dashboard_secret: str


def kept_secrets(file: Path) -> Secrets:
    """Read the secrets of this checkout, or make them; the file is for its owner only."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(file.read_bytes(), type=Secrets)
    made = Secrets(web_password=secrets.token_urlsafe(9), dashboard_secret=secrets.token_urlsafe(48))
    write_private(file, msgspec.json.encode(made).decode())
    return made


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is."""

    amqp_url: str
    mongo_url: str
    web_port: int
    dashboard_port: int

    @property
    def web_url(self) -> str:
        """The web pages."""
        return f"http://127.0.0.1:{self.web_port}/"

    @property
    def dashboard_livez(self) -> str:
        """Where the dashboard process says that it lives, and how many sums its charts know."""
        return f"http://127.0.0.1:{self.dashboard_port}{PREFIX}/livez"


def child_environment(place: Place, known: Secrets, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every process: ours, with the place and the secrets put in."""
    return {
        **ONE_THREAD,
        **(os.environ if base is None else base),
        "PYTHONUNBUFFERED": "1",
        "IPA_AMQP_URL": place.amqp_url,
        "IPA_MONGO_URL": place.mongo_url,
        "IPA_WEB__PORT": str(place.web_port),
        "IPA_WEB__ADMIN_PASSWORD": known.web_password,
        "IPA_DASHBOARD__PORT": str(place.dashboard_port),
        "IPA_DASHBOARD__SECRET": known.dashboard_secret,
    }


def worker_programs(environment: Mapping[str, str], database: Callable[[], Database | None]) -> list[Program]:
    """The workers in the order of the line, then the trainer; ready when their heartbeat stands in the store."""
    return [
        Program(
            name=stage,
            command=(sys.executable, "-m", "actors", stage),
            environment=environment,
            ready=_heartbeat(database, stage),
        )
        for stage in (*queue_names(), TRAINER)
    ]


def page_programs(environment: Mapping[str, str], place: Place) -> list[Program]:
    """The dashboard and the web pages; ready when they answer."""
    return [
        Program(
            name=DASHBOARD,
            command=(sys.executable, "-m", "web.dashboard"),
            environment=environment,
            ready=_answers(place.dashboard_livez),
        ),
        Program(
            name=WEB,
            command=(sys.executable, "-m", "web"),
            environment=environment,
            ready=_answers(f"{place.web_url}livez"),
        ),
    ]


async def get_json(url: str) -> tuple[int, object]:
    """Ask for JSON; (0, None) when nobody answers, (status, None) when it is no JSON."""
    try:
        timeout = aiohttp.ClientTimeout(total=ASK_S_MAX)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            try:
                return answer.status, json.loads(await answer.text())
            except ValueError:
                return answer.status, None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return 0, None


def _answers(url: str) -> ReadyCheck:
    async def ready(_pid: int) -> bool:
        status, _ = await get_json(url)
        return status == 200

    return ready


def _heartbeat(database: Callable[[], Database | None], stage: str) -> ReadyCheck:
    async def ready(pid: int) -> bool:
        store = database()
        if store is None:
            return False
        return any(beat.stage == stage and beat.pid == pid for beat in await read_heartbeats(store))

    return ready
