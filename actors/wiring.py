"""Puts each worker together with its shelf and its start from the store; the one place that knows all of them.

A worker's own modules are imported when it is made: a process runs one worker, and the libraries of the others would
cost it a second or two of start. (A little longer than other modules, because knowing all of them is its only job.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

from actors.pulse import Pulse, utc_now
from actors.runner import Wiring
from actors.serving import ANOMALY_FOREST, FAILURE_TEXT, Serving
from actors.shelves import AnomalyShelf, AttemptShelf, FailureShelf, ShopperShelf
from config.errors import ConfigError
from config.gateways import load_gateways
from config.settings import Settings, resolved
from messaging.contracts import Message
from messaging.topology import stage_named
from storage.anomalies import open_anomalies, recent_anomalies
from storage.database import Database, Document
from storage.gateway_pauses import pauses_not_over
from storage.rollups import read_sums, slot_of, slots_of

if TYPE_CHECKING:
    from actors.retry_responder import RetryResponder
    from ml.anomalies.history import HistoryCell
    from ml.failures.classifier import FailureModel
    from storage.models import StoredModel

W = TypeVar("W")

BATCHES_AT_ONCE: Final = 2
"""Batches of the ingestor under way at once: while one is being stored, the next one is decoded."""


def wire(stage: str, settings: Settings, database: Database, instance: str) -> Wiring:
    """Make one worker of the line, except the router advisor, whose loop is another.

    Raises: ConfigError: a configuration file does not fit. KeyError: no such stage.
    """
    makers: dict[str, Callable[[Settings, Database, str], Wiring]] = {
        "ingestor": _ingestor,
        "failure_classifier": _failure_classifier,
        "anomaly_watcher": _anomaly_watcher,
        "experiment_allocator": _experiment_allocator,
        "shopper_watcher": _shopper_watcher,
    }
    return makers[stage](settings, database, instance)


def _ingestor(settings: Settings, database: Database, instance: str) -> Wiring:
    from actors.ingestor import Ingestor

    path = resolved(settings.gateways.path)
    ingestor = Ingestor(load_gateways(path), source=f"config/{path.name}")
    return Wiring(
        stage=stage_named("ingestor"),
        shelves=tuple(AttemptShelf(database, slot=slot) for slot in slots_of(instance, BATCHES_AT_ONCE)),
        handle=lambda messages, now, known, batch_id: ingestor.handle(messages, now, known, batch_id=batch_id),
        tick=_nothing,
        start=_no_memory,
    )


def _failure_classifier(settings: Settings, database: Database, instance: str) -> Wiring:
    from actors.failure_classifier import FailureClassifier
    from ml.failures.classifier import FailureModel
    from ml.failures.text_model import TextModel

    confidence_min = settings.failures.confidence_min
    classifier = FailureClassifier(FailureModel.shipped(confidence_min))

    def load(stored: StoredModel) -> FailureModel:
        return FailureModel.shipped(confidence_min, text_model=TextModel.loaded(stored.body))

    serving = Serving(database, FAILURE_TEXT, load)

    async def refresh() -> None:
        if await serving.refresh():
            classifier.model = serving.model or FailureModel.shipped(confidence_min)

    return Wiring(
        stage=stage_named("failure_classifier"),
        shelves=(FailureShelf(database, slot=slot_of(instance), refresh=refresh),),
        handle=lambda messages, now, known, _: classifier.handle(messages, now, known),
        tick=_nothing,
        start=_no_memory,
    )


def _anomaly_watcher(settings: Settings, database: Database, instance: str) -> Wiring:
    from actors.anomaly_tuning import contamination_in_force
    from actors.anomaly_watcher import AnomalyWatcher
    from ml.anomalies.forest import Forest

    usual = msgspec.structs.asdict(settings.anomalies)
    chosen = {"contamination": settings.anomalies.contamination}
    worker = _Restarted(lambda: AnomalyWatcher(**(usual | chosen)))
    serving = Serving(database, ANOMALY_FOREST, lambda stored: Forest.loaded(stored.body))

    def fitting() -> Forest | None:
        """The trained forest, unless it was fitted for another rate than the one chosen since."""
        forest = serving.model
        return forest if forest is not None and forest.contamination == chosen["contamination"] else None

    async def refresh() -> None:
        if await serving.refresh():
            worker.now.take_forest(fitting())

    async def start() -> None:
        now = utc_now()
        await serving.refresh()
        chosen["contamination"] = await contamination_in_force(database, settings.anomalies.contamination)
        since = now - timedelta(minutes=settings.anomalies.baseline_minutes)
        cells = [history_cell(document) async for document in read_sums(database, since)]
        known = await open_anomalies(database) + await recent_anomalies(database, since)
        worker.renew().warm_start(cells, known, now, pauses=await pauses_not_over(database, now))
        worker.now.take_forest(fitting())

    return Wiring(
        stage=stage_named("anomaly_watcher"),
        shelves=(AnomalyShelf(database, refresh=refresh),),
        handle=lambda messages, now, known, _: worker.now.handle(messages, now, known),
        tick=lambda now: worker.now.tick(now),
        start=start,
    )


def _experiment_allocator(settings: Settings, database: Database, instance: str) -> Wiring:
    from actors.experiment_allocator import ExperimentAllocator, Memory
    from actors.experiment_shelf import ExperimentShelf
    from actors.experiments_file import ExperimentsFile
    from ml.routing.policies import ARM_PARAMETERS, POLICIES
    from storage.experiments import (
        arm_counts,
        arm_sums,
        last_allocations,
        last_definition,
        ledger_revision,
        rollouts,
        units_at_last_points,
        waiting_units,
    )

    chosen = settings.experiments
    gateways = load_gateways(resolved(settings.gateways.path))

    def fee(gateway: str, status: str, amount_minor: int) -> int:
        known = gateways.get(gateway)
        return 0 if known is None else known.fee.of(status, amount_minor)

    worker = _Restarted(
        lambda: ExperimentAllocator(
            alpha=chosen.alpha, orders_expected=chosen.orders_expected, report_s=chosen.report_s, fee=fee
        )
    )
    file = ExperimentsFile(
        resolved(chosen.path),
        POLICIES,
        default_policy=settings.routing.default_policy,
        parameters=ARM_PARAMETERS,
        gateways=gateways,
    )
    looked: list[datetime] = []

    shelf = ExperimentShelf(database)

    async def start() -> None:
        shelf.revision = await ledger_revision(database)  # first: what is written after it is a conflict, not a loss
        memory = Memory(
            defined=await last_definition(database),
            allocations=await last_allocations(database),
            rollouts=await rollouts(database),
            waiting=await waiting_units(database),
            counts=await arm_counts(database),
            sums=await arm_sums(database),
            points=await units_at_last_points(database),
        )
        worker.renew().warm_start(memory)

    def source(now: datetime) -> Iterator[Message | str]:
        if looked and (now - looked[-1]).total_seconds() < chosen.reload_s:
            return
        looked[:] = [now]
        found = file.poll(now)
        if isinstance(found, ConfigError):
            yield str(found)
        elif found is not None:
            yield found

    return Wiring(
        stage=stage_named("experiment_allocator"),
        shelves=(shelf,),
        handle=lambda messages, now, known, _: worker.now.handle(messages, now, known),
        tick=lambda now: worker.now.tick(now),
        start=start,
        source=source,
    )


def _shopper_watcher(settings: Settings, database: Database, instance: str) -> Wiring:
    from actors.shopper_watcher import ShopperWatcher

    watcher = ShopperWatcher()
    return Wiring(
        stage=stage_named("shopper_watcher"),
        shelves=(ShopperShelf(database),),
        handle=lambda messages, now, known, _: watcher.handle(messages, now, known),
        tick=_nothing,
        start=_no_memory,
    )


def wire_retry(settings: Settings, database: Database, pulse: Pulse) -> RetryResponder:
    """Make the retry advisor and its loop.

    Raises: ConfigError: the gateways file does not fit.
    """
    from actors.retry_advisor import RetryAdvisor
    from actors.retry_responder import RetryResponder

    def model() -> FailureModel:
        from ml.failures.classifier import FailureModel

        return FailureModel.shipped(settings.failures.confidence_min)

    gateways = load_gateways(resolved(settings.gateways.path))
    return RetryResponder(RetryAdvisor(model), gateways, database, settings.runner, pulse)


class _Restarted(Generic[W]):
    """A worker whose memory is thrown away and read from the store again, at start and when it fell behind."""

    def __init__(self, make: Callable[[], W]) -> None:
        self._make = make
        self.now = make()

    def renew(self) -> W:
        """Replace it by a new one without memory."""
        self.now = self._make()
        return self.now


def history_cell(document: Document) -> HistoryCell:
    """Some minutes of one gateway, method and issuer."""
    from ml.anomalies.history import HistoryCell

    return HistoryCell(
        at=document["since"].timestamp(),
        seconds=document["seconds"],
        gateway=document["gateway"],
        method=document["method"],
        issuer=document["issuer"],
        succeeded=document.get("succeeded", 0),
        failed=document.get("failed", 0),
        orders=document.get("first_attempts", 0),
        latency_histogram={bucket: count for bucket, count in enumerate(document["latency"]) if count},
    )


def _nothing(_: datetime) -> Iterator[Message]:
    return iter(())


async def _no_memory() -> None:
    """For workers that remember nothing between batches."""
