"""Twenty faults under load: every worker, the broker and the store killed, links cut, stalled and slowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.harness import run_chaos

FAULTS = 20
SEED = 20261125


@pytest.mark.timeout(420)
async def test_twenty_faults_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """Each confirmed report is stored once; sums, failures, arms and the line agree; dead letters hold the poison."""
    tally = await run_chaos(tmp_path, faults=FAULTS, seed=SEED)
    assert tally.faults == FAULTS
    assert (tally.lost, tally.doubled) == (0, 0)
    assert tally.dead_letters == tally.dead_letters_expected > 0
    assert not tally.problems, "\n".join(tally.problems)
