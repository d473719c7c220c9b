"""What stops a command, with its exit code after sysexits.h.

CliError
├── MissingPart      69  something must be installed first; carries the exact commands
├── ServiceFailed    69  a private server or a process did not come up; carries the end of its log
├── AlreadyRunning   75  another demo holds this checkout
└── InputRefused     65  the file that was given does not fit
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

EXIT_DATA = 65
EXIT_UNAVAILABLE = 69
EXIT_TEMPORARY = 75
EXIT_CONFIG = 78

LOG_LINES_SHOWN = 12
"""How much of a log is repeated on the screen when a process fails."""


class CliError(Exception):
    """The root: a command cannot go on. The text is for a person, the code for a script."""

    exit_code = EXIT_UNAVAILABLE


class MissingPart(CliError):
    """Something is not installed.

    Args:
        what: the part, in words.
        commands: the commands that install it, ready to be pasted.
    """

    def __init__(self, what: str, commands: Sequence[str]) -> None:
        self.what = what
        self.commands = tuple(commands)
        super().__init__("\n".join([f"{what} is missing. Install it with:", *(f"    {line}" for line in commands)]))


class ServiceFailed(CliError):
    """A process did not come up, or did not stay up.

    Args:
        name: the process.
        problem: what was seen.
        log: its log file; the last lines are shown.
    """

    def __init__(self, name: str, problem: str, log: Path | None = None) -> None:
        self.name = name
        self.problem = problem
        self.log = log
        lines = [f"{name}: {problem}"]
        if log is not None and (end := log_end(log)):
            lines += [f"the end of {log}:", *(f"    {line}" for line in end)]
        super().__init__("\n".join(lines))


class AlreadyRunning(CliError):
    """Another process holds the lock of this checkout."""

    exit_code = EXIT_TEMPORARY


class InputRefused(CliError):
    """The input file, or rows of it, do not fit."""

    exit_code = EXIT_DATA


def log_end(log: Path, lines: int = LOG_LINES_SHOWN) -> list[str]:
    """The last lines of a log; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
