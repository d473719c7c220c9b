"""The container files say the same as the code: commands, variables, ports, packages."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import load_settings
from messaging.topology import queue_names
from web.dashboard.sessions import PREFIX

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
VARIABLE = re.compile(r"\$\{(\w+)([^}]*)\}")


def filled(text: str) -> str:
    """A value with its variables put in, long enough for a secret."""
    return VARIABLE.sub("s" * 40, text)


def test_compose_file_fits_its_published_schema() -> None:
    """docker-compose.yml is valid by the Compose specification."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_process_of_the_system_has_a_service() -> None:
    """There is one service for each worker, the trainer, the pages, the charts, the traffic and both servers."""
    others = ["trainer", "web", "dashboard", "simulator", "rabbitmq", "mongodb"]
    assert sorted(SERVICES) == sorted([*queue_names(), *others])


@pytest.mark.parametrize("name", sorted(OURS))
def test_commands_are_those_of_the_code(name: str) -> None:
    """Every command starts a module that exists, and a worker is started and checked by its own name."""
    python, dash_m, module, *arguments = OURS[name]["command"]
    assert (python, dash_m) == ("python", "-m")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert importlib.util.find_spec(f"{module}.__main__") is not None
    if name in (*queue_names(), "trainer"):
        assert (module, arguments) == ("actors", [name])
        assert OURS[name]["healthcheck"]["test"] == ["CMD", "python", "-m", "actors", "health", name]


def test_simulator_understands_its_options() -> None:
    """The traffic's options are options that it has."""
    help_text = subprocess.run(
        [sys.executable, "-m", "simulator", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    given = [word for word in SERVICES["simulator"]["command"] if word.startswith("--")]
    assert given
    assert all(option in help_text for option in given)


@pytest.mark.parametrize("name", sorted(OURS))
def test_variables_are_settings_that_load(name: str) -> None:
    """Every variable of a service is a setting, and its value is one that the setting takes."""
    environment = {key: filled(str(value)) for key, value in OURS[name]["environment"].items()}
    settings = load_settings(environment)
    assert (settings.broker.url, settings.store.url) == (environment["IPA_AMQP_URL"], environment["IPA_MONGO_URL"])
    assert settings.broker.url.endswith("@rabbitmq:5672/")


def test_ports_fit_together() -> None:
    """The pages listen on the port that is published and checked, and look for the charts where they are."""
    web, dashboard = (load_settings({k: filled(str(v)) for k, v in SERVICES[n]["environment"].items()})
                      for n in ("web", "dashboard"))  # fmt: skip
    assert SERVICES["web"]["ports"] == [f"127.0.0.1:{web.web.port}:{web.web.port}"]
    assert (web.dashboard.host, web.dashboard.port) == ("dashboard", dashboard.dashboard.port)
    assert (web.web.host, dashboard.dashboard.host) == ("0.0.0.0", "0.0.0.0")  # noqa: S104
    # The charts refuse WebSockets from other origins than the pages', so they have to know that address.
    assert (dashboard.web.host, dashboard.web.port) == (web.web.host, web.web.port)
    assert f"http://127.0.0.1:{web.web.port}/readyz" in SERVICES["web"]["healthcheck"]["test"][-1]
    livez = f"http://127.0.0.1:{dashboard.dashboard.port}{PREFIX}/livez"
    assert livez in SERVICES["dashboard"]["healthcheck"]["test"][-1]


def test_no_secret_is_published() -> None:
    """No password stands in the file, each is required from outside, and nothing listens beyond this machine."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for name, rest in VARIABLE.findall(text):
        assert rest.startswith(":?"), f"{name} must be required, without a default"
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        for key, value in service.get("environment", {}).items():
            if any(word in key for word in ("PASS", "SECRET")):
                assert VARIABLE.fullmatch(value.split("}")[0] + "}"), f"{name} {key}"
    assert "ports" not in SERVICES["mongodb"]


def test_every_variable_is_made_by_make_env(tmp_path: Path) -> None:
    """deploy/make-env writes exactly the variables that the file requires, long enough, for its owner only."""
    (tmp_path / "deploy").mkdir()
    script = tmp_path / "deploy" / "make-env"
    script.write_bytes((ROOT / "deploy" / "make-env").read_bytes())
    for _ in range(2):  # the second run keeps the first one's secrets
        subprocess.run(["bash", str(script)], check=True, capture_output=True)
    made = tmp_path / ".env"
    values = dict(line.split("=", 1) for line in made.read_text(encoding="utf-8").splitlines())
    required = {name for name, _ in VARIABLE.findall((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))}
    assert set(values) == required
    assert all(value.isalnum() for value in values.values())
    assert len(values["IPA_DASHBOARD_SECRET"]) >= 32
    assert made.stat().st_mode & 0o077 == 0


def test_everyone_waits_for_healthy_servers() -> None:
    """Every service has a health check, and starts only when those it needs are healthy."""
    for name, service in SERVICES.items():
        assert service["healthcheck"]["test"], name
        for needed, terms in service.get("depends_on", {}).items():
            assert (needed in SERVICES, terms["condition"]) == (True, "service_healthy")
    for name in queue_names():
        assert set(SERVICES[name]["depends_on"]) == {"rabbitmq", "mongodb"}
    assert SERVICES["rabbitmq"]["hostname"] == "rabbitmq"


def test_profiles() -> None:
    """The profile core is everything but the traffic; demo is everything."""
    assert [name for name, service in SERVICES.items() if "demo" not in service["profiles"]] == []
    assert [name for name, service in SERVICES.items() if "core" not in service["profiles"]] == ["simulator"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_processes_have_no_more_rights_than_they_need(name: str) -> None:
    """Our containers have no capabilities, a read-only root, and no way to gain rights."""
    service = OURS[name]
    assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
    assert "no-new-privileges:true" in service["security_opt"]


def test_image_holds_every_package_and_is_not_root() -> None:
    """The Dockerfile copies every package of setup.cfg, .dockerignore lets them through, and the user is not root."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = {name.rstrip("*") for name in setup["options.packages.find"]["include"].split()}
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {line.split()[1] for line in lines if line.startswith("COPY ") and not line.startswith("COPY --from")}
    assert packages <= copied
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    }
    assert packages | {"setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= let_through
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users[-1].isdigit()
    assert int(users[-1]) > 0
    assert next(line for line in lines if line.startswith("FROM ")).startswith("FROM python:3.13-slim")


def test_ci_runs_what_a_person_runs() -> None:
    """.ci/run is executable and calls `make test` and nothing else."""
    file = ROOT / ".ci" / "run"
    assert os.access(file, os.X_OK)
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not line.startswith(("set ", "cd "))] == ["make test"]


def test_make_lists_its_commands() -> None:
    """`make` alone lists every command with what it does."""
    listed = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "test", "lint", "unit", "chaos", "bench-%", "clean"):
        assert re.search(rf"^  make {re.escape(target)} +\S", listed, re.MULTILINE), target
