"""The state directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.errors import AlreadyRunning
from cli.lock import StateDirectory


def test_second_holder_is_told_who_holds_it(tmp_path: Path) -> None:
    """A second system in the same directory is refused with process id and addresses of the first, and code 75."""
    with StateDirectory(tmp_path / "state") as first:
        first.note({"urls": {"Web pages": "http://127.0.0.1:8080/"}})
        with pytest.raises(AlreadyRunning) as refused, StateDirectory(tmp_path / "state"):
            pass
    assert (refused.value.exit_code, f"pid {os.getpid()}" in str(refused.value)) == (75, True)
    assert "http://127.0.0.1:8080/" in str(refused.value)


def test_directory_is_free_again_after_its_holder(tmp_path: Path) -> None:
    """Leaving the block frees the directory, and what was stored in it stays."""
    with StateDirectory(tmp_path / "state") as first:
        (first.path / "kept").write_text("data", encoding="utf-8")
    with StateDirectory(tmp_path / "state") as second:
        assert (second.path / "kept").read_text(encoding="utf-8") == "data"


def test_fresh_wipes_everything_else(tmp_path: Path) -> None:
    """--fresh removes files and directories of an earlier run, and does not follow links out of the directory."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    with StateDirectory(tmp_path / "state") as first:
        (first.path / "mongodb").mkdir()
        (first.path / "mongodb" / "data").touch()
        (first.path / "link").symlink_to(outside)
    with StateDirectory(tmp_path / "state", fresh=True) as second:
        assert sorted(entry.name for entry in second.path.iterdir()) == ["lock", "logs"]
    assert (outside / "precious").exists()


def test_fresh_never_wipes_what_another_holds(tmp_path: Path) -> None:
    """--fresh against a running system is refused before anything is removed."""
    with StateDirectory(tmp_path / "state") as first:
        (first.path / "mongodb").mkdir()
        with pytest.raises(AlreadyRunning), StateDirectory(tmp_path / "state", fresh=True):
            pass
        assert (first.path / "mongodb").is_dir()


def test_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    """Nobody else can look into the directory: it holds passwords and payments."""
    with StateDirectory(tmp_path / "state") as state:
        assert state.path.stat().st_mode & 0o077 == 0
