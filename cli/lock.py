"""One system per checkout: a lock that the kernel drops with its holder, and a note of who holds it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from cli.errors import AlreadyRunning


class StateDirectory:
    """The directory ``.ipa``, held by one supervisor at a time; used in a ``with`` statement.

    Args:
        path: made if it is not there, for its owner only.
        fresh: wipe what an earlier run left in it.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self._fresh = fresh
        self._file: IO[str] | None = None

    def __enter__(self) -> StateDirectory:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (self.path / "lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            note = file.read()
            file.close()
            raise AlreadyRunning(running_text(self.path, note)) from None
        self._file = file
        if self._fresh:
            self._wipe()
        self.logs.mkdir(exist_ok=True)
        self.note({})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.truncate(0)
        self._file.close()

    def note(self, facts: dict[str, Any]) -> None:
        """Write down who holds the directory, for the next one who asks."""
        assert self._file is not None
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid()} | facts))
        self._file.flush()

    def _wipe(self) -> None:
        for entry in self.path.iterdir():
            if entry.name == "lock":
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def running_text(path: Path, note: str) -> str:
    """Say who holds a directory, as far as it is known."""
    try:
        facts = json.loads(note)
    except ValueError:
        facts = {}
    lines = [f"A system runs already in {path} (pid {facts.get('pid', 'unknown')})."]
    lines += [f"    {name:10} {value}" for name, value in facts.get("urls", {}).items()]
    lines.append(f"Stop it with Ctrl-C in its terminal, or: kill {facts.get('pid', 'PID')}")
    return "\n".join(lines)
