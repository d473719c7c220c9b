"""The reliability model of the router, fitted anew to the payments of the last weeks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from actors.serving import RELIABILITY, loaded_or_none
from config.settings import Settings
from messaging.contracts import RecordedAttempt
from ml.lack import TooFewData
from ml.routing.reliability import UNKNOWN, Reliability, Traits, band_of
from ml.routing.reliability_training import Payment, fitted
from storage.database import Database
from storage.models import StoredModel, TrainedModel
from storage.read_models.first_attempts import read_first_attempts


async def train_reliability(
    database: Database, settings: Settings, in_force: StoredModel | None, now: datetime
) -> TrainedModel | TooFewData:
    """Fit to the first attempts of the last weeks, those that the router itself learns from.

    Later attempts of an order are made because an earlier one failed, so they would make second choices look bad.
    """
    since = now - timedelta(days=settings.routing.train_days)
    history = [_payment(attempt) async for attempt in read_first_attempts(database, since, now)]
    serving = loaded_or_none(in_force, lambda stored: Reliability.loaded(stored.body, stored.about.version))
    found = await asyncio.to_thread(fitted, history, serving)
    if isinstance(found, TooFewData):
        return found
    return TrainedModel(
        kind=RELIABILITY,
        body=found.body(),
        format="json",
        window_from=min((datetime.fromtimestamp(payment.at, UTC) for payment in history), default=since),
        window_to=datetime.fromtimestamp(found.taught_until, UTC),
        metrics=found.metrics,
        better=found.better,
        note=found.note,
    )


def _payment(attempt: RecordedAttempt) -> Payment:
    traits = Traits(
        method=attempt.method,
        issuer=attempt.issuer,
        network=attempt.network or UNKNOWN,
        country=attempt.country or UNKNOWN,
        currency=attempt.currency,
        bin=attempt.bin or UNKNOWN,
        band=band_of(attempt.amount_minor),
    )
    return Payment(attempt.attempted_at.timestamp(), attempt.gateway, traits, attempt.status == "succeeded")
