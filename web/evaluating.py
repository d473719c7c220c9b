"""Judges a routing policy in the process beside the web's own: it computes for seconds, and pages must not wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Final

import msgspec
from aiohttp import web

from config.settings import StoreSettings
from ml.routing.evaluation.candidate import Candidate, JudgedPolicy
from ml.routing.evaluation.evaluation import Evaluation, evaluate
from storage.read_models.logged_decisions import read_decision_log
from web.beside import Beside, opened
from web.keys import BESIDE, EVALUATOR, SETTINGS

DECISIONS_MAX: Final = 30_000
"""Decisions looked at on the page, the newest; some ten seconds of work. The command line looks at more."""

TAUGHT: Final = timedelta(days=1)
"""So long before the judged time a candidate may only learn."""


class JudgedLog(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate would have achieved, and what it was judged on.

    Attributes:
        since: decisions from this moment on were judged.
        complete: False: there were more decisions than are looked at here, and these are the newest.
        left_out: how many decisions were not judged, by the reason.
    """

    since: datetime
    complete: bool
    left_out: dict[str, int]
    evaluation: Evaluation


class Busy(Exception):
    """Another evaluation is under way."""


class Evaluator:
    """Judges one candidate at a time.

    Args:
        settings: where the decisions are.
        beside: computes.
    """

    def __init__(self, settings: StoreSettings, beside: Beside) -> None:
        self._settings = settings
        self._beside = beside
        self._under_way: Future[bytes] | None = None

    async def judge(self, candidate: Candidate, since: datetime, until: datetime) -> JudgedLog:
        """Judge a candidate on the decisions of a time.

        Raises:
            Busy: another one is being judged.
            CandidateRefused: it cannot be.
            StoreUnavailable: MongoDB does not answer, or the process ended.
        """
        JudgedPolicy(candidate)  # refuses here what the other process would
        if self._under_way is not None and not self._under_way.done():
            raise Busy
        self._under_way = self._beside.begin(_judged, self._settings, candidate, since, until)
        return msgspec.msgpack.decode(await self._beside.done(self._under_way), type=JudgedLog)


def _judged(settings: StoreSettings, candidate: Candidate, since: datetime, until: datetime) -> bytes:
    """Read and judge, in the process for it. Returns: JudgedLog as msgpack, which is small whatever was read."""
    return asyncio.run(_read_and_judged(settings, candidate, since, until))


async def _read_and_judged(settings: StoreSettings, candidate: Candidate, since: datetime, until: datetime) -> bytes:
    async with opened(settings) as database:
        log = await read_decision_log(database, since - TAUGHT, until, limit=DECISIONS_MAX)
    found = evaluate(log.decisions, JudgedPolicy(candidate), judge_from=since.timestamp())
    return msgspec.msgpack.encode(
        JudgedLog(since=since, complete=log.complete, left_out=log.left_out, evaluation=found)
    )


async def evaluator(app: web.Application) -> AsyncIterator[None]:
    """Give an application its evaluator; it needs the process beside it."""
    app[EVALUATOR] = Evaluator(app[SETTINGS].store, app[BESIDE])
    yield
