"""What the terminal shows."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from cli.screen import Screen


def shown(*, terminal: bool, **environment: str) -> str:
    """What one start looks like."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, highlight=False, _environ=environment)
    screen = Screen(console=console)
    screen.step("RabbitMQ", 7.04, "amqp://ipa:***@127.0.0.1:5673/")
    screen.ready({"Web pages": "http://127.0.0.1:8080/"}, ["at 60 s gateway 'bravo' starts failing"])
    screen.check(False, "no attempt was lost", "3 lost")
    return text.getvalue()


def test_plain_lines_off_a_terminal() -> None:
    """Off a terminal there are neither colours nor boxes, and every address is there."""
    text = shown(terminal=False)
    assert ("\x1b" in text, "╭" in text) == (False, False)
    for part in ("✓ RabbitMQ", "7.0 s", "http://127.0.0.1:8080/", "bravo", "✗ no attempt was lost"):
        assert part in text


def test_box_and_colours_on_a_terminal() -> None:
    """On a terminal the addresses stand in a box, and marks have colours."""
    text = shown(terminal=True, TERM="xterm-256color")
    assert ("\x1b[32m✓" in text, "╭" in text) == (True, True)


def test_no_colour_is_honoured() -> None:
    """NO_COLOR takes the colours away, even on a terminal."""
    text = shown(terminal=True, TERM="xterm-256color", NO_COLOR="1")
    assert "\x1b[32m" not in text


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json every line is an object, and nothing else is printed."""
    screen = Screen(as_json=True)
    screen.waiting("starting")
    screen.step("RabbitMQ", 7.04)
    screen.line("for people")
    screen.note("worker died")
    screen.check(True, "no attempt was lost", "0 lost")
    screen.result({"ok": True})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("event", "result") for line in lines] == ["step", "note", "check", "result"]
