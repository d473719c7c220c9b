"""What a person at the terminal sees: a line per step, a box, checks. Plain lines off a terminal, JSON for scripts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.status import Status
from rich.table import Table

NAME_WIDTH = 22


class Screen:
    """Prints the course of a start. Rich honours NO_COLOR; off a terminal there are neither colours nor boxes.

    Args:
        as_json: print one JSON object per line and nothing else.
        console: for tests.
    """

    def __init__(self, *, as_json: bool = False, console: Console | None = None) -> None:
        self._json = as_json
        self._console = console or Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self._status: Status | None = None
        self.began = time.monotonic()

    def waiting(self, text: str) -> None:
        """Show what is under way, on a terminal; an empty text ends it."""
        if self._json or not self._console.is_terminal:
            return
        if self._status is None and text:
            self._status = self._console.status(text)
            self._status.start()
        elif self._status is not None and text:
            self._status.update(text)
        elif self._status is not None:
            self._status.stop()
            self._status = None

    def step(self, name: str, seconds: float, detail: str = "") -> None:
        """One step is done."""
        if self._json:
            self._line({"event": "step", "name": name, "seconds": round(seconds, 2), "detail": detail})
            return
        self._print(f"[green]✓[/] {name:{NAME_WIDTH}} {seconds:5.1f} s  [dim]{escape(detail)}[/]")

    def note(self, text: str) -> None:
        """Something a person should know."""
        if self._json:
            self._line({"event": "note", "text": text})
        else:
            self._print(f"[yellow]![/] {escape(text)}")

    def line(self, text: str = "") -> None:
        """Plain text."""
        if not self._json:
            self._print(escape(text))

    def ready(self, rows: Mapping[str, str], watch: Sequence[str]) -> None:
        """The box: where to look, and what for."""
        if self._json:
            self._line({"event": "ready", "seconds": round(time.monotonic() - self.began, 2), **rows})
            return
        if not self._console.is_terminal:
            self._print("")
            for name, value in rows.items():
                self._print(f"  {name:{NAME_WIDTH}} {escape(value)}")
            for text in watch:
                self._print(f"  {escape(text)}")
            self._print("")
            return
        table = Table.grid(padding=(0, 2))
        for name, value in rows.items():
            table.add_row(f"[bold]{name}[/]", escape(value))
        table.add_row("", "")
        for text in watch:
            table.add_row("[bold]Watch[/]" if text == watch[0] else "", escape(text))
        self._print(Panel(table, title="Intelligent Payment Assistant", box=box.ROUNDED, expand=False))

    def check(self, passed: bool, claim: str, figure: str) -> None:
        """One check with its figure."""
        if self._json:
            self._line({"event": "check", "passed": passed, "claim": claim, "figure": figure})
            return
        mark = "[green]✓[/]" if passed else "[red]✗[/]"
        self._print(f"{mark} {escape(claim):58} {escape(figure)}")

    def result(self, facts: Mapping[str, Any]) -> None:
        """The last line: one flat JSON object, in every mode."""
        self.waiting("")
        self._line(facts)

    def _line(self, facts: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()

    def _print(self, what: Any) -> None:
        self._console.print(what)
