"""The ladder from a URL to the command that installs what is missing."""

from __future__ import annotations

import pytest

from cli.doctor import Choice, Diagnosis, Finding, choose
from cli.errors import EXIT_CONFIG, MissingPart
from cli.running import require_urls
from config.errors import ConfigError


def finding(name: str, state: str, **more: object) -> Finding:
    """One thing that was looked for."""
    facts = {"detail": f"{name} detail", "use": "demo"} | more
    return Finding(name=name, state=state, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "program", "docker", "rung"),
    [
        ("found", "found", "found", "url"),
        ("missing", "found", "found", None),
        (None, "found", "found", "private"),
        (None, "missing", "found", "docker"),
        (None, "missing", "absent", None),
    ],
)
def test_ladder(url: str | None, program: str, docker: str, rung: str | None) -> None:
    """A URL wins; then a private node, then docker. A URL that does not answer is never replaced by something else."""
    reached = finding("IPA_AMQP_URL", url) if url else None
    program_found = finding("rabbitmq program", program, commands=("apt-get install -y rabbitmq-server",))
    choice = choose("rabbitmq", "IPA_AMQP_URL", reached, program_found, finding("docker", docker))
    assert choice.rung == rung
    if rung is None and url is None:
        assert choice.reason == "apt-get install -y rabbitmq-server"


@pytest.mark.parametrize(("rungs", "can_run"), [(("url", "private"), True), (("private", "docker"), False)])
def test_demo_needs_no_docker(rungs: tuple[str, str], can_run: bool) -> None:
    """The demo runs on URLs and private nodes; containers are a way of their own."""
    choices = [Choice(service=name, rung=rung, reason="") for name, rung in zip("ab", rungs, strict=True)]
    assert Diagnosis(findings=[finding("python", "found")], choices=choices).demo_can_run is can_run


def test_missing_part_carries_the_exact_commands() -> None:
    """What is missing is said with commands that can be pasted, one a line, and with exit code 69."""
    missing = MissingPart("rabbitmq-server", ["apt-get update", "apt-get install -y rabbitmq-server"])
    assert str(missing).splitlines()[1:] == ["    apt-get update", "    apt-get install -y rabbitmq-server"]
    assert missing.exit_code == 69


def test_up_never_takes_an_unnamed_server() -> None:
    """Without URLs `ipa up` refuses, instead of talking to whatever listens on the default ports."""
    with pytest.raises(ConfigError, match="IPA_AMQP_URL: must name your server"):
        require_urls({})
    with pytest.raises(ConfigError, match="IPA_MONGO_URL: must name your server"):
        require_urls({"IPA_AMQP_URL": "amqp://guest:guest@127.0.0.1:5672/"})
    require_urls({"IPA_AMQP_URL": "amqp://a:b@broker/", "IPA_MONGO_URL": "mongodb://store/?replicaSet=rs0"})
    assert EXIT_CONFIG == 78
