"""The reliability model of the router, fitted anew to the payments of the last weeks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from actors.reliability_serving import KIND
from config.settings import Settings
from messaging.contracts import RecordedAttempt
from ml.lack import TooFewData
from ml.routing.reliability import UNKNOWN, Reliability, Traits, band_of
from ml.routing.reliability_training import Payment, fitted
from storage.database import Database
from storage.models import StoredModel, TrainedModel
from storage.read_models.first_attempts import read_first_attempts

log = structlog.get_logger(__name__)


async def train_reliability(
    database: Database, settings: Settings, in_force: StoredModel | None, now: datetime
) -> TrainedModel | TooFewData:
    """Fit to the first attempts of the last weeks, those that the router itself learns from.

    Later attempts of an order are made because an earlier one failed, so they would make second choices look bad.
    """
    since = now - timedelta(days=settings.routing.train_days)
    history = [_payment(attempt) async for attempt in read_first_attempts(database, since, now)]
    serving = None
    if in_force is not None:
        try:
            serving = Reliability.loaded(in_force.body, in_force.about.version)
        except ValueError as error:
            log.warning("model_unusable", kind=KIND, version=in_force.about.version, reason=str(error))
    found = await asyncio.to_thread(fitted, history, serving)
    if isinstance(found, TooFewData):
        return found
    return TrainedModel(
        kind=KIND,
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
