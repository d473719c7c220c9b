"""The model store: every trained model as data, with its version, training window, metrics, checksum and standing.

A model is a candidate when it is trained, and serves once it is promoted; the one that served before is retired and
stays, so that a promotion can be taken back. At most one version of a kind is in force.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from bson import Binary
from pymongo import DESCENDING
from pymongo.asynchronous.client_session import AsyncClientSession

from storage.database import Database, Document
from storage.errors import StoreConflict, StoreRefused, translated

BODY_BYTES_MAX: Final = 15_000_000
"""A document may hold 16 MiB; a model that needs more is not one to load into every worker."""

VERSIONS_KEPT: Final = 20
"""Versions of one kind kept beside the one in force; the oldest are deleted first."""

TERMS_KEPT: Final = 50
"""Times that one version served, the newest, for as often as promotions are taken back."""

Status = Literal["candidate", "in_force", "retired"]
Format = Literal["json", "npz", "skops"]
"""How the body is written. Never pickle: whoever can write to the store must not be able to run code in a worker."""


class TrainedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a training hands in.

    Attributes:
        kind: what the model is for, such as ``reliability``; versions count up within a kind.
        body: the model as data.
        format: how ``body`` is written.
        window_from: start of the data it was trained on.
        window_to: end of the data it was trained on.
        metrics: how well it did on later data, by name; also what the model in force did there.
        better: whether it did better there than the model in force; only then it is promoted by itself.
        note: in words, why it is better or not.
    """

    kind: str
    body: bytes
    format: Format
    window_from: datetime
    window_to: datetime
    metrics: dict[str, float]
    better: bool
    note: str = ""


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A stored model without its body."""

    kind: str
    version: int
    status: Status
    trained_at: datetime
    window_from: datetime
    window_to: datetime
    metrics: dict[str, float]
    format: Format
    sha256: str
    note: str = ""
    in_force_since: datetime | None = None
    retired_at: datetime | None = None
    reason: str = ""


class StoredModel(msgspec.Struct, frozen=True, kw_only=True):
    """A stored model with its body, whose checksum was verified."""

    about: ModelVersion
    body: bytes


async def add_candidate(database: Database, model: TrainedModel, now: datetime) -> ModelVersion:
    """Store a trained model as the next version of its kind.

    Raises: StoreRefused: the body is too large. StoreConflict: another trainer took the same version; try again.
    """
    if len(model.body) > BODY_BYTES_MAX:
        raise StoreRefused(f"a model of {len(model.body)} bytes is too large, {BODY_BYTES_MAX} are allowed")
    with translated():
        last = await database["models"].find_one(
            {"kind": model.kind}, {"version": True}, sort=[("version", DESCENDING)]
        )
        version = 1 if last is None else last["version"] + 1
        document: Document = {
            "_id": f"{model.kind}:{version}",
            "kind": model.kind,
            "version": version,
            "status": "candidate",
            "trained_at": now,
            "window_from": model.window_from,
            "window_to": model.window_to,
            "metrics": model.metrics,
            "format": model.format,
            "sha256": hashlib.sha256(model.body).hexdigest(),
            "note": model.note[:500],
            "body": Binary(model.body),
        }
        await database["models"].insert_one(document)
        await _drop_oldest(database, model.kind)
        return _about(document)


async def promote(database: Database, kind: str, version: int, *, reason: str, now: datetime) -> ModelVersion:
    """Put a version in force, and retire the one that was; all or nothing.

    Raises: StoreRefused: there is no such version. StoreConflict: another promotion was faster.
    """
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            return await _put_in_force(database, kind, version, reason, now, session)


async def roll_back(database: Database, kind: str, *, reason: str, now: datetime) -> ModelVersion:
    """Put the version in force again that was before the present one.

    Raises: StoreRefused: none was. StoreConflict: another promotion was faster.
    """
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            before = await database["models"].find_one(
                {"kind": kind, "status": "retired"}, {"body": False}, sort=[("retired_at", DESCENDING)], session=session
            )
            if before is None:
                raise StoreRefused(f"no version of {kind!r} served before the present one")
            return await _put_in_force(database, kind, before["version"], reason, now, session)


async def model_in_force(database: Database, kind: str) -> StoredModel | None:
    """Read the version of a kind that is in force, with its body; None: none is.

    Raises: StoreRefused: the body is not the one that was stored.
    """
    return await _read(database, {"kind": kind, "status": "in_force"})


async def model_version(database: Database, kind: str, version: int) -> StoredModel | None:
    """Read one version with its body; None: there is none.

    Raises: StoreRefused: the body is not the one that was stored.
    """
    return await _read(database, {"kind": kind, "version": version})


async def model_that_served(database: Database, kind: str, at: datetime) -> StoredModel | None:
    """Read the version of a kind that was in force then, with its body.

    None: none is known to have been. A version may have been deleted since, or have served before its terms were kept;
    of one without any, only the last is known.

    Raises: StoreRefused: the body is not the one that was stored.
    """
    over = [{"until": None}, {"until": {"$gt": at}}]
    told = {"served": {"$elemMatch": {"since": {"$lte": at}, "$or": over}}}
    retired = [{"status": "in_force"}, {"status": "retired", "retired_at": {"$gt": at}}]
    untold = {"served": {"$exists": False}, "in_force_since": {"$lte": at}, "$or": retired}
    return await _read(database, {"kind": kind, "$or": [told, untold]})


async def version_in_force(database: Database, kind: str) -> int | None:
    """The version that is in force, without its body: what a worker asks now and then to notice a newer one."""
    with translated():
        found = await database["models"].find_one({"kind": kind, "status": "in_force"}, {"version": True})
    return None if found is None else int(found["version"])


async def list_models(database: Database, kind: str | None = None, *, limit: int = 100) -> list[ModelVersion]:
    """List versions without their bodies, by kind, the newest first."""
    query = {} if kind is None else {"kind": kind}
    with translated():
        cursor = database["models"].find(query, {"body": False}).sort([("kind", 1), ("version", -1)]).limit(limit)
        return [_about(document) async for document in cursor]


async def _read(database: Database, query: dict[str, Any]) -> StoredModel | None:
    with translated():
        found = await database["models"].find_one(query)
    if found is None:
        return None
    body = bytes(found.pop("body"))
    if hashlib.sha256(body).hexdigest() != found["sha256"]:
        raise StoreRefused(f"model {found['_id']} is not what was stored: its checksum differs; train it again")
    return StoredModel(about=_about(found), body=body)


async def _put_in_force(  # six things that a promotion consists of
    database: Database, kind: str, version: int, reason: str, now: datetime, session: AsyncClientSession
) -> ModelVersion:
    models = database["models"]
    wanted = await models.find_one({"kind": kind, "version": version}, {"body": False}, session=session)
    if wanted is None:
        raise StoreRefused(f"{kind!r} has no version {version}; `ipa train list` shows those that exist")
    if wanted["status"] != "in_force":
        in_force = models.find({"kind": kind, "status": "in_force"}, {"body": False}, session=session)
        for before in await in_force.to_list():
            ended = [term | {"until": term["until"] or now} for term in _terms(before)]
            retirement = {"status": "retired", "retired_at": now, "served": ended}
            await models.update_one({"_id": before["_id"]}, {"$set": retirement}, session=session)
        change = {"status": "in_force", "in_force_since": now, "retired_at": None, "reason": reason[:500]}
        terms = [*_terms(wanted), {"since": now, "until": None}][-TERMS_KEPT:]
        done = await models.update_one({"_id": wanted["_id"]}, {"$set": change | {"served": terms}}, session=session)
        if not done.matched_count:
            raise StoreConflict(f"version {version} of {kind!r} was deleted meanwhile")
        wanted |= change
    return _about(wanted)


def _terms(document: Document) -> list[Document]:
    """The times that a version served, oldest first; of one that was stored before they were kept, the last."""
    since = document.get("in_force_since")
    last = [] if since is None else [{"since": since, "until": document.get("retired_at")}]
    return list(document.get("served", last))


async def _drop_oldest(database: Database, kind: str) -> None:
    """Keep the number of versions within its bound; the one in force and the one to roll back to always stay."""
    cursor = database["models"].find(
        {"kind": kind, "status": {"$ne": "in_force"}}, {"retired_at": True, "version": True}
    )
    spare = await cursor.sort("version", DESCENDING).to_list()
    served = [each for each in spare if each.get("retired_at")]
    last_served = max(served, key=lambda each: each["retired_at"])["_id"] if served else None
    surplus = [each["_id"] for each in spare[VERSIONS_KEPT:] if each["_id"] != last_served]
    if surplus:
        await database["models"].delete_many({"_id": {"$in": surplus}})


def _about(document: Document) -> ModelVersion:
    known = {name: value for name, value in document.items() if name in ModelVersion.__struct_fields__}
    return ModelVersion(**known)
