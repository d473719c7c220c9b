"""The door under coverage-guided fuzzing, for a few seconds; ``make fuzz`` goes on longer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNS = 15_000


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="needs atheris, which has no wheel for this Python or processor"
)
def test_no_bytes_break_the_door() -> None:
    """Mutated bytes and mutated fields: taken whole, or refused with a reason; never a crash."""
    command = [sys.executable, "-m", "tests.fuzz.door", f"-runs={RUNS}", "-seed=7", "-max_len=512"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert f"Done {RUNS} runs" in done.stderr
