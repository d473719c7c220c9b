"""The supervisor, on processes of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli import supervisor as supervisor_module
from cli.errors import ServiceFailed
from cli.services.process import TETHER, bound_log, end_leftover, remember
from cli.supervisor import Program, Supervisor

SLEEPER = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)


async def at_once(_pid: int) -> bool:
    """Ready as soon as it is asked."""
    return True


def program(name: str, code: str, **more: object) -> Program:
    """A program that runs some Python."""
    facts = {"ready": at_once, "environment": dict(os.environ)} | more
    return Program(name=name, command=(sys.executable, "-c", code), **facts)  # type: ignore[arg-type]


def runs(pid: int) -> bool:
    """Tell whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(claim: object, within_s: float = 10) -> None:
    """Wait until a function says yes."""
    end = time.monotonic() + within_s
    while not claim():  # type: ignore[operator]
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.02)


@pytest.fixture
def said() -> list[str]:
    """What the supervisor told the person."""
    return []


@pytest.fixture
async def supervisor(tmp_path: Path, said: list[str]) -> AsyncIterator[Supervisor]:
    """A supervisor that leaves nothing behind."""
    made = Supervisor(tmp_path, said.append)
    yield made
    made.kill_all()


async def test_killed_process_is_started_again_and_it_is_said(supervisor: Supervisor, said: list[str]) -> None:
    """A process that was killed with -9 runs again under a new id, and the person is told what happened."""
    await supervisor.start(program("worker", SLEEPER))
    before = supervisor.pid("worker")
    assert before is not None
    os.kill(before, signal.SIGKILL)
    await until(lambda: supervisor.pid("worker") not in {before, None})
    assert supervisor.restarts == 1
    assert len(said) == 1
    assert "worker died (killed by signal 9), starting it again in 0.5 s" in said[0]


async def test_process_that_keeps_dying_stays_down(
    supervisor: Supervisor, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate of restarts is bounded: after RESTARTS_MAX of them the process is left down, and it is said."""
    monkeypatch.setattr(supervisor_module, "BACKOFF_S_FIRST", 0.001)
    monkeypatch.setattr(supervisor_module, "BACKOFF_S_MAX", 0.002)
    monkeypatch.setattr(supervisor_module, "RESTARTS_MAX", 2)
    await supervisor.start(program("worker", "raise SystemExit(3)"))
    await until(lambda: any("stays down" in line for line in said))
    assert (supervisor.restarts, supervisor.pid("worker")) == (2, None)


async def test_failed_start_shows_the_end_of_the_log(supervisor: Supervisor, tmp_path: Path) -> None:
    """A process that ends before it is ready is an error that carries its exit status and its last words."""

    async def never(_pid: int) -> bool:
        return False

    with pytest.raises(ServiceFailed) as failed:
        await supervisor.start(program("web", "import sys; print('port is taken'); sys.exit(7)", ready=never))
    assert (failed.value.name, failed.value.exit_code) == ("web", 69)
    assert "status 7" in str(failed.value)
    assert "port is taken" in str(failed.value)


async def test_start_that_takes_too_long_is_an_error(supervisor: Supervisor) -> None:
    """A process that lives and is never ready is given up after its own time."""

    async def never(_pid: int) -> bool:
        return False

    with pytest.raises(ServiceFailed, match="not ready after 0 s"):
        await supervisor.start(program("web", SLEEPER, ready=never, ready_s_max=0.2))


async def test_all_end_in_reverse_order(supervisor: Supervisor, tmp_path: Path) -> None:
    """stop_all ends the last started process first, each by SIGTERM, and waits for it."""
    order = tmp_path / "order"
    farewell = (
        "import signal, sys, time\n"
        "def bye(*_):\n    open({order!r}, 'a').write({name!r}); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, bye)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    for name in "abc":
        await supervisor.start(program(name, farewell.format(order=str(order), name=name)))
        await until(lambda name=name: "up" in (tmp_path / f"{name}.log").read_text(encoding="utf-8"))
    await supervisor.stop_all()
    assert order.read_text(encoding="utf-8") == "cba"


async def test_deaf_process_is_killed_with_its_children(
    supervisor: Supervisor, said: list[str], tmp_path: Path
) -> None:
    """A process that ignores SIGTERM is killed after the patience, together with what it had started."""
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]).pid); {STUBBORN}"
    await supervisor.start(program("deaf", code))
    log = tmp_path / "deaf.log"
    await until(lambda: "deaf" in log.read_text(encoding="utf-8"))
    parent, child = supervisor.pid("deaf"), int(log.read_text(encoding="utf-8").split()[0])
    assert parent is not None
    await supervisor.stop("deaf", patience_s=0.2)
    await until(lambda: not runs(child))
    assert not runs(parent)
    assert said == ["deaf did not end within 0 s and was killed"]


async def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    """When the supervisor itself is killed with -9, Linux ends what it had started."""
    code = (
        "import subprocess, sys, os, time\n"
        f"tethered = [sys.executable, {str(TETHER)!r}, str(os.getpid()), sys.executable, '-c', {SLEEPER!r}]\n"
        "child = subprocess.Popen(tethered)\n"
        "print(child.pid, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:  # noqa: ASYNC220
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        await until(lambda: b"tether" not in Path(f"/proc/{child}/cmdline").read_bytes())
        parent.kill()
    await until(lambda: not runs(child))


async def test_leftover_is_ended_only_if_it_is_ours(tmp_path: Path) -> None:
    """A remembered process is ended when its command line names our directory, and left alone when it does not."""
    with subprocess.Popen([sys.executable, "-c", SLEEPER, "/somewhere/ours"]) as process:  # noqa: ASYNC220
        command = Path(f"/proc/{process.pid}/cmdline")
        await until(lambda: b"/somewhere/ours" in command.read_bytes())
        remember(tmp_path / "pid", process.pid)
        end_leftover(tmp_path / "pid", "/somewhere/else")
        assert process.poll() is None
        end_leftover(tmp_path / "pid", "/somewhere/ours", patience_s=0.5)
        assert process.wait(timeout=5) == -signal.SIGTERM


def test_logs_are_bounded(tmp_path: Path) -> None:
    """A log that has grown too large is moved aside at the next start, over the one moved before."""
    log = tmp_path / "worker.log"
    for text in ("first" * 10, "second" * 10):
        log.write_text(text, encoding="utf-8")
        bound_log(log, bytes_max=20)
    assert (log.exists(), (tmp_path / "worker.log.1").read_text(encoding="utf-8")) == (False, "second" * 10)
