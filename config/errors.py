"""What can be wrong with a configuration file, said with file and line."""

from __future__ import annotations

from pathlib import Path


class ConfigError(Exception):
    """A configuration is wrong: where, what, and how to mend it.

    Args:
        source: the file, or the environment variable.
        problem: what is wrong and what would be right.
        line: the line in the file, counted from 1; None when there is none.
    """

    def __init__(self, source: Path | str, problem: str, *, line: int | None = None) -> None:
        self.source = str(source)
        self.problem = problem
        self.line = line
        super().__init__(f"{source}:{line}: {problem}" if line else f"{source}: {problem}")
