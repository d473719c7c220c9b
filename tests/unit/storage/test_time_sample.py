"""Stretches of time that stand for all of it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from storage.read_models.time_sample import STRETCHES, TimeSample

START = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_every_moment_of_a_part_is_as_likely_to_be_in_its_stretch(share: float) -> None:
    """Also the beginnings and ends of parts, where the clock strikes and jobs run."""
    sample = TimeSample(since=START, until=START + timedelta(hours=24), share=share)
    part, covered = timedelta(hours=24) / STRETCHES, np.zeros(100)
    for bound in (each["attempted_at"] for each in sample.match()["$or"]):
        start, end = (100 * ((bound[which] - START) / part) for which in ("$gte", "$lt"))
        for place in range(math.ceil(start - 0.5), math.ceil(end - 0.5)):  # of hundredths, those whose middle is in it
            covered[place % 100] += 1 / STRETCHES
    assert abs(covered.reshape(10, 10).mean(axis=1) - share).max() < 0.02
