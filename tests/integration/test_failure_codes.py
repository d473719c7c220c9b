"""What operators say about failure codes, on a real broker and a real store."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import yaml

from actors import failure_training
from actors.failure_training import ROWS_MIN, train_failure_text
from actors.serving import FAILURE_TEXT
from actors.trainer import jobs, train
from config.settings import Settings
from messaging.contracts import AttemptReported, FailureCodeCorrected
from ml.failures.codes import load_phrases
from ml.failures.text_model import TextModel
from ml.lack import TooFewData
from storage.audit import AuditQuery, read_audit
from storage.database import Database, close, connect, declare
from storage.failure_codes import list_code_changes, list_code_rows
from storage.models import model_in_force
from storage.read_models.failure_codes import read_open_codes
from tests.conftest import eventually
from tests.factories import report
from tests.integration.line import head_of_line, running, say
from tests.recount import failure_rollups, failures_recounted

MEANS = {"X-01": "insufficient_funds", "X-02": "expired_card", "X-03": "issuer_unavailable"}
"""What three codes of the new gateway mean; nobody can tell from their words."""


def with_gateway(settings: Settings, name: str, path: Path) -> Settings:
    """The same settings with one gateway more."""
    listed = yaml.safe_load(Path("config/gateways.yaml").read_text(encoding="utf-8"))
    listed["gateways"].append(listed["gateways"][0] | {"name": name, "title": name})
    path.write_text(yaml.safe_dump(listed), encoding="utf-8")
    return msgspec.structs.replace(settings, gateways=msgspec.structs.replace(settings.gateways, path=str(path)))


def failures(first: int, count: int) -> list[AttemptReported]:
    """Failures at the new gateway, its three codes in turn."""
    now = datetime.now(UTC)
    common = {"gateway": "newpay", "status": "failed", "failure_message": "zq 7731", "attempted_at": now}
    return [report(n, failure_code=list(MEANS)[n % 3], occurred_at=now, **common) for n in range(first, first + count)]


def correction(number: int, code: str, category: str, message: str | None = None) -> FailureCodeCorrected:
    """An operator's word."""
    return FailureCodeCorrected(
        event_id=f"cor_{number}",
        corrected_at=datetime.now(UTC),
        corrected_by="meera",
        gateway="newpay",
        category=category,
        failure_code=code,
        failure_message=message,
        reason="their documentation",
    )


async def test_three_corrections_make_a_new_gateway_understood(settings: Settings, tmp_path: Path) -> None:
    """Nobody knows the codes of a new gateway; after three corrections old and new failures are classified right."""
    settings = with_gateway(settings, "newpay", tmp_path / "gateways.yaml")
    database = await connect(settings.store)
    await declare(database, settings.store)
    async with head_of_line(settings) as channel, running(settings, "ingestor", "failure_classifier"):
        await say(channel, failures(0, 30))

        async def count(query: dict[str, object]) -> int:
            return await database["failures"].count_documents({"withdrawn": False} | query)

        async def unknown() -> bool:
            return await count({"category": "unknown"}) == 30

        await eventually(unknown, within_s=60)
        open_codes = await read_open_codes(database, datetime.now(UTC))
        assert {code.failure_code: code.failures for code in open_codes.codes} == dict.fromkeys(MEANS, 10)
        assert (open_codes.failures, open_codes.failures_from_tables) == (30, 0)

        await say(channel, [correction(n, code, category) for n, (code, category) in enumerate(MEANS.items())])
        await say(channel, failures(30, 30))

        async def right() -> bool:
            return await count({"evidence": "code_table"}) == 60

        await eventually(right, within_s=60)
        await say(channel, [correction(0, "X-01", MEANS["X-01"])])  # delivered again
        await say(channel, failures(60, 1))

        async def last() -> bool:
            return await count({}) == 61

        await eventually(last)
    found = Counter([(each["failure_code"], each["category"]) async for each in database["failures"].find()])
    assert found == {("X-01", MEANS["X-01"]): 21, ("X-02", MEANS["X-02"]): 20, ("X-03", MEANS["X-03"]): 20}
    assert await failure_rollups(database) == await failures_recounted(database)
    assert [(row.failure_code, row.version) for row in await list_code_rows(database)] == [(c, 1) for c in MEANS]
    assert sum(change.reclassified for change in await list_code_changes(database)) in range(30, 61)
    page = await read_audit(database, AuditQuery(what="failure_code.corrected"))
    assert sorted((entry.who, entry.details["category"]) for entry in page) == sorted(
        ("meera", category) for category in MEANS.values()
    )
    assert (await read_open_codes(database, datetime.now(UTC))).codes == []
    await close(database)


async def test_a_text_model_is_learned_from_corrections(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few corrections teach nothing; enough make a version that knows their words, and it is put in force."""
    phrases = load_phrases()[::25]
    monkeypatch.setattr(failure_training, "load_phrases", lambda: phrases)
    monkeypatch.setattr(failure_training, "shipped_rows", lambda: [*phrases])
    assert FAILURE_TEXT in {job.kind for job in jobs(settings)}
    job = next(job for job in jobs(settings) if job.kind == FAILURE_TEXT)
    now = datetime.now(UTC)
    assert await train_failure_text(database, settings, None, now) == TooFewData(0, ROWS_MIN)
    said = [f"zorp {word} blorbed" for word in ("gleep", "fleep", "kleep", "sneep", "dreep", "bleep", "tweep", "cheep")]
    rows = [
        {"_id": f"newpay|z{n}", "gateway": "newpay", "failure_code": f"z{n}", "failure_message": message,
         "category": "duplicate_transaction", "version": 1, "changed_at": now, "changed_by": "meera", "reason": ""}
        for n, message in enumerate(said)
    ]  # fmt: skip
    await database["failure_codes"].insert_many(rows)

    first = await train(job, database, settings, now)
    again = await train(job, database, settings, now)

    assert first.is_promoted, first.summary
    assert not again.is_promoted
    stored = await model_in_force(database, FAILURE_TEXT)
    assert stored is not None
    model = TextModel.loaded(stored.body)
    likely = model.probabilities([("", "zorp mreep blorbed")])[0]
    assert model.categories[likely.argmax()] == "duplicate_transaction"
    metrics = stored.about.metrics
    assert metrics["accuracy_corrections"] == 1.0 > metrics["accuracy_corrections_without"]
