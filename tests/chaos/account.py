"""The account after chaos: what was confirmed against what is stored, summed, said down the line, and put aside."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec

from config.settings import Settings
from messaging.codec import Decoder
from messaging.connection import Connection
from messaging.contracts import AttemptReported, AttemptsRecorded
from messaging.dead_letters import list_dead_letters
from messaging.line import declare_queue
from messaging.topology import Queue, dead_queue, queue_names, stage_named
from ml.experiments.assignment import assign
from ml.experiments.units import COUNT_NAMES
from storage.database import Database
from storage.experiments import arm_counts, last_allocation
from tests.chaos.load import CARD, Load
from tests.recount import attempt_rollups, attempts_recounted, failure_rollups, failures_recounted

WITNESS = "witness"
"""A durable queue that hears every batch of attempts, as one more consumer down the line."""


class Tally(msgspec.Struct, kw_only=True):
    """What is left to say. ``problems`` is empty when all agree."""

    faults: int = 0
    sent: int = 0
    lost: int = 0
    doubled: int = 0
    dead_letters_expected: int = 0
    dead_letters: int = 0
    problems: list[str] = []


async def bind_witness(settings: Settings) -> None:
    """Let the witness hear from now on."""
    connection = await Connection.open(settings.broker.url, name="witness", wait_s_max=10)
    channel = await connection.channel()
    await declare_queue(channel, Queue(WITNESS, (AttemptsRecorded,), {"x-queue-type": "quorum"}))
    await connection.close()


async def settled(settings: Settings, database: Database, load: Load) -> bool:
    """Everything is stored, queues and outbox are empty, every batch is consumed; else says what is not."""
    connection = await Connection.open(settings.broker.url, name="counting", wait_s_max=30)
    try:
        channel = await connection.channel()
        ready = {queue: await channel.count_ready(queue) for queue in queue_names()}
    finally:
        await connection.close()
    entries = await database["outbox"].count_documents({"stage": "ingestor"})
    standing = {
        "attempts": (await database["attempts"].count_documents({}), len(load.events)),
        "unpublished": (await database["outbox"].count_documents({"published_at": None}), 0),
    } | {queue: (count, 0) for queue, count in ready.items()}
    for stage in ("failure_classifier", "experiment_allocator"):
        consumed = await database["consumed"].count_documents({"_id": {"$regex": f"^{stage}\\|attempts"}})
        standing[f"consumed by {stage}"] = (consumed, entries)
    wrong = {name: pair for name, pair in standing.items() if pair[0] != pair[1]}
    if wrong:
        print("not settled:", wrong, flush=True)
    return not wrong


async def account(settings: Settings, database: Database, load: Load) -> Tally:
    """Compare everything."""
    tally = Tally(sent=load.published)
    await _attempts(database, load, tally)
    await _sums(database, tally)
    await _arms(database, tally)
    await _witnessed(settings, database, tally)
    await _dead_letters(settings, load, tally)
    await _cards(database, tally)
    return tally


async def _attempts(database: Database, load: Load, tally: Tally) -> None:
    stored: set[str] = set()
    async for document in database["attempts"].find():
        name = document["_id"]
        stored.add(name)
        events = Counter(entry["event_id"] for entry in document["history"])
        expected = load.events.get(name, set())
        tally.lost += len(expected - events.keys())
        tally.doubled += sum(count - 1 for count in events.values()) + len(events.keys() - expected)
        if name in load.last and document["status"] != load.last[name].status:
            tally.problems.append(f"{name} stands as {document['status']}, not {load.last[name].status}")
    for name in load.events.keys() - stored:
        tally.lost += len(load.events[name])
    if tally.lost or tally.doubled:
        tally.problems.append(f"{tally.lost} reports lost, {tally.doubled} doubled")


async def _sums(database: Database, tally: Tally) -> None:
    for name, stored, recounted in (
        ("attempt sums", await attempt_rollups(database), await attempts_recounted(database)),
        ("failure sums", await failure_rollups(database), await failures_recounted(database)),
    ):
        if stored != recounted:
            tally.problems.append(f"{name} differ from a recount: {(stored - recounted) + (recounted - stored)}")
    failed = set(await database["attempts"].distinct("_id", {"status": "failed"}))
    classified = set(await database["failures"].distinct("_id", {"withdrawn": False}))
    if failed != classified:
        tally.problems.append(f"{len(failed ^ classified)} attempts failed and are not classified, or the reverse")


async def _arms(database: Database, tally: Tally) -> None:
    """The counts of each arm equal a recount of the attempts that were routed by us."""
    published = await last_allocation(database)
    if published is None:
        tally.problems.append("no allocation was published")
        return
    allocation = published.allocation()
    phases = {experiment.name: experiment.phase for experiment in published.experiments}
    recount: Counter[tuple[str, str, str]] = Counter()
    query = {"decision_id": {"$ne": None}, "attempted_at": {"$gte": published.published_at}}
    async for document in database["attempts"].find(query):
        payment = msgspec.convert({"event_id": "evt_1", "attempt_id": document["_id"]} | document, AttemptReported)
        arm = assign(allocation, payment, document["attempted_at"])
        if arm is not None:
            recount[phases[arm.experiment], arm.experiment, arm.arm] += 1
    place = COUNT_NAMES.index("attempts")
    counted = {key: counts[place] for key, counts in (await arm_counts(database)).items()}
    if dict(recount) != counted:
        tally.problems.append(f"arms count {counted}, a recount says {dict(recount)}")


async def _witnessed(settings: Settings, database: Database, tally: Tally) -> None:
    """What was said down the line, each batch once, adds up to the attempts as they stand."""
    effects: Counter[tuple[str, str]] = Counter()
    seen: set[str] = set()
    decoder = Decoder([AttemptsRecorded], from_outside=False)
    connection = await Connection.open(settings.broker.url, name="witness", wait_s_max=30)
    channel = await connection.channel()
    left = await channel.count_ready(WITNESS)
    consumer = await channel.consume(WITNESS, prefetch=1_000)
    while left > 0:
        async with asyncio.timeout(30):
            taken = await consumer.take(min(left, 500), 50)
        left -= len(taken)
        for delivery in taken:
            batch: Any = decoder.decode(delivery)
            if batch.batch_id not in seen:
                seen.add(batch.batch_id)
                for attempt in batch.attempts:
                    effects[attempt.attempt_id, attempt.status] += 1
                    if attempt.status_previous is not None:
                        effects[attempt.attempt_id, attempt.status_previous] -= 1
        channel.acknowledge(taken[-1].tag, multiple=True)
    await connection.close()
    stands = Counter({(one["_id"], one["status"]): 1 async for one in database["attempts"].find({}, {"status": 1})})
    said = Counter({key: count for key, count in effects.items() if count})
    if said != stands:
        tally.problems.append(f"down the line was said {(said - stands)} too much and {(stands - said)} too little")


async def _dead_letters(settings: Settings, load: Load, tally: Tally) -> None:
    found: set[str] = set()
    for name in queue_names():
        if dead_queue(stage_named(name)) is None:
            continue
        letters = await list_dead_letters(settings.broker.url, name, limit=100_000)
        found |= {f"{'' if name == 'ingestor' else name + ':'}{letter.message_id}" for letter in letters}
    tally.dead_letters_expected, tally.dead_letters = len(load.poison), len(found)
    if found != load.poison:
        tally.problems.append(f"dead letters: unexpected {found - load.poison}, missing {load.poison - found}")


async def _cards(database: Database, tally: Tally) -> None:
    """A card number is in no collection."""
    for name in await database.list_collection_names():
        async for document in database[name].find():
            if CARD in str(document):
                tally.problems.append(f"a card number lies in {name}")
