"""The Isolation Forest's contamination rate as it was chosen by measurement: how the choice is stored, and read."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from ml.anomalies.tuning import Choice, TradeOff
from storage.database import Database
from storage.models import TrainedModel, model_in_force

KIND: Final = "anomaly_contamination"


def trained_of(choice: Choice, *, now_used: float, began: datetime, now: datetime) -> TrainedModel:
    """A choice as a model version, with what it rests on.

    It is better than the rate now in use if on streams that nothing was chosen on it finds no fewer incidents and tells
    no more false alerts, and one of the two is better.
    """
    after = choice.held_back[0]
    before = next((one for one in choice.held_back if one.contamination == now_used), after)
    gained, spared = after.found - before.found, before.false_alerts - after.false_alerts
    note = (
        f"{after.contamination:g} finds {_words(after)} on streams it was not chosen on; "
        f"the rate in use, {now_used:g}, {_words(before)}"
    )
    return TrainedModel(
        kind=KIND,
        body=msgspec.json.encode(choice),
        format="json",
        window_from=began,
        window_to=now,
        metrics={
            "contamination": after.contamination,
            "recall": after.recall,
            "false_alerts_a_day": after.false_a_day,
            "recall_of_rate_in_use": before.recall,
            "false_alerts_a_day_of_rate_in_use": before.false_a_day,
        },
        better=gained >= 0 and spared >= 0 and gained + spared > 0,
        note=note,
    )


async def contamination_in_force(database: Database, default: float) -> float:
    """The rate that was chosen and put in force last; ``default``: none was.

    Raises: StoreUnavailable, StoreRefused: the store does not answer, or holds something else than was stored.
    """
    stored = await model_in_force(database, KIND)
    return default if stored is None else msgspec.json.decode(stored.body, type=Choice).contamination


def _words(one: TradeOff) -> str:
    delay = "" if one.delay_s is None else f", median delay {one.delay_s:.0f} s"
    return f"{one.found} of {one.incidents} with {one.false_alerts} false alerts in {one.days:.2f} days{delay}"
