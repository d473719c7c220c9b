"""Looks at what this machine has for the demo, the tests and the containers, and how to get what is missing.

The ladder for the broker and for the store, each: a URL in the environment, then a private local node, then docker
compose, then the exact commands that install what is missing. A server found on a default port is only mentioned.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
import pika
import pika.exceptions
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from cli.errors import MissingPart
from cli.services.mongodb import find_mongod
from cli.services.ports import is_free
from cli.services.rabbitmq import find_epmd, find_rabbitmq_server
from config.settings import masked_url

PYTHON_MIN = (3, 11)
ASK_S_MAX = 5
COMPOSE = "docker compose --profile demo up --build"

State = Literal["found", "missing", "absent"]
"""absent: not there, and not needed either."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked for."""

    name: str
    state: State
    detail: str
    use: str
    commands: tuple[str, ...] = ()


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The rung of the ladder that a demo would take for one service; None: there is none."""

    service: str
    rung: str | None
    reason: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found, and what follows."""

    findings: list[Finding]
    choices: list[Choice]

    @property
    def demo_can_run(self) -> bool:
        """True when Python is new enough and both services can be had without docker."""
        python = next(finding for finding in self.findings if finding.name == "python")
        return python.state == "found" and all(choice.rung in {"url", "private"} for choice in self.choices)


def diagnose(environment: Mapping[str, str]) -> Diagnosis:
    """Look at this machine; takes a few seconds when a URL does not answer."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    docker = _docker()
    findings = [_python()]
    choices = []
    for service, variable, port, find, ask in (
        ("rabbitmq", "IPA_AMQP_URL", 5672, _find_rabbitmq, _ask_broker),
        ("mongodb", "IPA_MONGO_URL", 27017, _find_mongod, _ask_store),
    ):
        url = environment.get(variable)
        reached = _reached(variable, url, ask) if url else None
        program = _program(service, find)
        findings += [reached] if reached else []
        findings += [program, _default_port(service, port, variable, url)]
        choices.append(choose(service, variable, reached, program, docker))
    findings.append(docker)
    chromium = shutil.which("chromium")
    findings.append(
        Finding(
            name="chromium",
            state="found" if chromium else "absent",
            detail=chromium or "not installed",
            use="browser tests (`make test` installs it)",
            commands=() if chromium else (f"{sudo}apt-get install -y --no-install-recommends chromium",),
        )
    )
    return Diagnosis(findings=findings, choices=choices)


def choose(service: str, variable: str, reached: Finding | None, program: Finding, docker: Finding) -> Choice:
    """Climb the ladder for one service."""
    if reached is not None:
        rung = "url" if reached.state == "found" else None
        return Choice(
            service=service, rung=rung, reason=f"{variable} is set, so nothing else is tried: {reached.detail}"
        )
    if program.state == "found":
        return Choice(
            service=service, rung="private", reason=f"{variable} is not set; a private node from {program.detail}"
        )
    if docker.state == "found":
        return Choice(
            service=service, rung="docker", reason=f"no {variable}, no local program; docker is there: {COMPOSE}"
        )
    return Choice(service=service, rung=None, reason="; ".join(program.commands))


def _python() -> Finding:
    ok = sys.version_info >= PYTHON_MIN
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        name="python",
        state="found" if ok else "missing",
        detail=f"{version} at {sys.executable}",
        use="everything; 3.11 or newer",
        commands=() if ok else ("apt-get install -y python3 python3-venv",),
    )


def _find_rabbitmq() -> str:
    script = find_rabbitmq_server()
    find_epmd()
    folder = next((part for part in script.resolve().parts if part.startswith("rabbitmq_server-")), "")
    return f"{script} {folder.removeprefix('rabbitmq_server-')}".strip()


def _find_mongod() -> str:
    mongod = find_mongod()
    try:
        told = _told([str(mongod), "--version"])
    except OSError as error:
        raise MissingPart(
            f"a mongod that runs here ({mongod}: {error})", ("pip install --force-reinstall …",)
        ) from None
    return f"{mongod} {told.removeprefix('db version ')}"


def _program(service: str, find: Callable[[], str]) -> Finding:
    try:
        return Finding(name=f"{service} program", state="found", detail=find(), use="a private node for demo and tests")
    except MissingPart as missing:
        return Finding(
            name=f"{service} program",
            state="missing",
            detail=f"{missing.what}: not installed",
            use="a private node for demo and tests",
            commands=missing.commands,
        )


def _reached(variable: str, url: str, ask: Callable[[str], str]) -> Finding:
    try:
        answer = ask(url)
    except (pika.exceptions.AMQPError, PyMongoError, OSError, ValueError) as error:
        problem = str(error) or type(error).__name__
        if password := urlsplit(url).password:
            problem = problem.replace(password, "***")
        return Finding(
            name=variable,
            state="missing",
            detail=f"{masked_url(url)} does not answer: {problem.splitlines()[0][:200]}",
            use="your own server",
            commands=(f"start that server, mend {variable}, or: unset {variable}",),
        )
    return Finding(name=variable, state="found", detail=f"{masked_url(url)} answers: {answer}", use="your own server")


def _ask_broker(url: str) -> str:
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = ASK_S_MAX
    parameters.connection_attempts = 1
    connection = pika.BlockingConnection(parameters)
    with connection.channel():
        pass
    connection.close()
    return "an AMQP handshake and a channel"


def _ask_store(url: str) -> str:
    with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=ASK_S_MAX * 1000) as client:
        hello = client.admin.command("hello")
        version = client.server_info()["version"]
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise ValueError("it is no replica set, and transactions need one")
    return f"MongoDB {version}"


def _default_port(service: str, port: int, variable: str, url: str | None) -> Finding:
    free = is_free(port)
    named = bool(url) and f":{port}" in urlsplit(url or "").netloc
    detail = "nobody listens" if free else "somebody listens"
    if not free and not named:
        detail += f"; it is left alone, since nobody said it is ours (to use it, set {variable})"
    return Finding(
        name=f"port {port}", state="absent" if free else "found", detail=detail, use=f"{service}'s default port"
    )


def _docker() -> Finding:
    use = f"the same system in containers: {COMPOSE}"
    program = shutil.which("docker")
    if program is None:
        return Finding(name="docker", state="absent", detail="not installed", use=use)
    try:
        told = _told([program, "info", "--format", "{{.ServerVersion}}"])
    except OSError as error:
        return Finding(
            name="docker", state="absent", detail=f"{program}, but its daemon does not answer ({error})", use=use
        )
    return Finding(name="docker", state="found", detail=f"{program} {told}", use=use)


def _told(command: list[str]) -> str:
    """The first line that a program prints.

    Raises: OSError: it cannot be run, fails, or hangs.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=ASK_S_MAX,
            check=True,
            cwd=Path("/"),
            stdin=subprocess.DEVNULL,
        )
    except subprocess.SubprocessError as error:
        raise OSError(type(error).__name__) from None
    return next(iter(done.stdout.splitlines()), "")
