"""Choosing the Isolation Forest's rate: what counts as found, as false, and as better."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from actors.anomaly_tuning import trained_of
from ml.anomalies.forest import FEATURES
from ml.anomalies.tuning import LabelledMinutes, TradeOff, choose, trade_offs, tune

SEGMENTS = 30
WARM, JUDGED = 60, 240


def minutes(seed: int, *, trouble: float = 8.0, **changes: Any) -> LabelledMinutes:
    """Five hours of thirty segments; in the third hour, segment 3 is unusual for thirty minutes."""
    rng = np.random.default_rng(seed)
    at = np.repeat(np.arange(1, WARM + JUDGED + 1) * 60.0, SEGMENTS)
    place = np.tile(np.arange(SEGMENTS), WARM + JUDGED)
    rows = rng.normal(size=(len(at), FEATURES))
    incident = np.where((place == 3) & (at > 9_000) & (at <= 10_800), 0, -1)
    rows[incident == 0] += trouble
    made = LabelledMinutes(
        at=at, place=place, rows=rows, incident=incident, spoilt=np.zeros(len(at), dtype=bool),
        starts=np.array([9_000.0]), judge_from=WARM * 60.0, needed=25.0,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def test_strong_trouble_is_found_within_minutes_and_nothing_else() -> None:
    """At a low rate, minutes far out of the cloud add up to one alert in the right place; ordinary ones to none."""
    low, *_ = trade_offs([minutes(1)], [0.001])
    assert (low.incidents, low.found, low.false_alerts) == (1, 1, 0)
    assert low.delay_s is not None
    assert 60 <= low.delay_s <= 600
    assert low.days == pytest.approx(JUDGED / 1440)


def test_unlabelled_trouble_is_false() -> None:
    """The same minutes without their label are a false alert, and shortly after an incident they are neither."""
    unlabelled = minutes(1)
    nothing = np.full(len(unlabelled.at), -1)
    (wrong,) = trade_offs([minutes(1, incident=nothing, starts=np.zeros(0))], [0.001])
    assert wrong.false_alerts >= 1
    assert (wrong.incidents, wrong.recall) == (0, 0.0)
    (excused,) = trade_offs(
        [minutes(1, incident=nothing, starts=np.zeros(0), spoilt=unlabelled.incident == 0)], [0.001]
    )
    assert excused.false_alerts == 0


def test_too_few_ordinary_minutes_are_refused() -> None:
    """A forest is not fitted to a handful of minutes."""
    with pytest.raises(ValueError, match="ordinary minutes before the incidents"):
        trade_offs([minutes(1, judge_from=600.0)], [0.001])


def off(rate: float, found: int, false: int, delay_s: float | None = 100.0) -> TradeOff:
    """What a rate came to."""
    return TradeOff(contamination=rate, incidents=10, found=found, false_alerts=false, days=1.0, delay_s=delay_s)


def test_fewest_false_alerts_come_first_then_most_found_then_soonest() -> None:
    """The order of what matters."""
    assert choose([off(0.1, 10, 3), off(0.01, 5, 0), off(0.001, 7, 0)]).contamination == 0.001
    assert choose([off(0.1, 7, 0, 50.0), off(0.01, 7, 0, 90.0)]).contamination == 0.1
    assert choose([off(0.02, 0, 0, None), off(0.01, 0, 0, None)]).contamination == 0.01


def test_a_choice_serves_only_if_it_is_better_where_nothing_was_chosen() -> None:
    """The held-back streams decide, not the ones that the rate was chosen on."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    choice = tune([minutes(1), minutes(2)], [minutes(3)], now_used=0.064)
    assert {one.contamination for one in choice.held_back} == {choice.contamination, 0.064}
    for found, false, better in ((8, 0, True), (7, 0, True), (7, 1, False), (6, 0, False), (9, 2, False)):
        held = [off(choice.contamination, found, false), off(0.064, 7, 1)]
        made = trained_of(msgspec.structs.replace(choice, held_back=held), now_used=0.064, began=now, now=now)
        assert made.better is better, (found, false)
        assert f"{found} of 10" in made.note
    same = msgspec.structs.replace(choice, held_back=[off(choice.contamination, 9, 0)])
    assert not trained_of(same, now_used=choice.contamination, began=now, now=now).better
