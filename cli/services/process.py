"""One child process in a group of its own, with a log file, that ends when its parent does."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TETHER = Path(__file__).with_name("tether.py")

LOG_BYTES_MAX = 5_000_000
"""A log larger than this is moved to NAME.log.1 at the next start, so at most two of them are kept."""

POLL_S = 0.03


class Child:
    """A started process. Not bound to an event loop, so a test fixture may start it in one and stop it in another.

    Start it from a thread that lives on (the main thread): Linux ends tethered children with the thread that made them.

    Args:
        name: for messages.
        command: program and arguments.
        environment: the whole environment of the child.
        log: file that gets its output; appended to.
        directory: working directory; None: ours.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        bound_log(log)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                start_new_session=True,
            )
        self.started_at = time.monotonic()

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status; negative: the signal; None: it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        if self.returncode is None:
            self._process.send_signal(number)

    async def wait(self, timeout_s: float) -> bool:
        """Wait until it ended; False: it still runs after that time."""
        deadline = time.monotonic() + timeout_s
        while self.returncode is None:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def stop(self, patience_s: float = 10) -> bool:
        """SIGTERM, wait, then SIGKILL to the whole group; True: it left by itself."""
        self.signal(signal.SIGTERM)
        try:
            gentle = await self.wait(patience_s)
        finally:  # also when the waiting itself is cancelled
            self.kill()
        return gentle

    def kill(self) -> None:
        """SIGKILL to the whole group, and reap it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def bound_log(log: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Move a log that has grown too large aside, over the one moved before."""
    with suppress(OSError):
        if log.stat().st_size > bytes_max:
            log.replace(log.with_name(f"{log.name}.1"))


def end_leftover(pid_file: Path, marker: str, patience_s: float = 20) -> None:
    """End the server that a killed supervisor left behind in the same directory, if there still is one.

    Args:
        pid_file: written by ``remember``.
        marker: what the command line of that server must contain; a process that has merely the same id is left alone.
    """
    try:
        pid = int(pid_file.read_text(encoding="utf-8"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    if marker.encode() not in command:
        return
    deadline = time.monotonic() + patience_s
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, signal.SIGTERM)
        while time.monotonic() < deadline and Path(f"/proc/{pid}/cmdline").read_bytes():
            time.sleep(POLL_S)
        os.kill(pid, signal.SIGKILL)


def remember(pid_file: Path, pid: int) -> None:
    """Write down a process id for ``end_leftover``."""
    pid_file.write_text(str(pid), encoding="utf-8")


def secret_file(path: Path, *, bytes_random: int = 24) -> str:
    """Read a secret kept in a file, or make one; the file is for its owner only."""
    with suppress(OSError):
        if text := path.read_text(encoding="utf-8").strip():
            return text
    text = secrets.token_urlsafe(bytes_random)
    write_private(path, text)
    return text


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
