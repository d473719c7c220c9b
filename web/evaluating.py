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
from ml.routing.policies import PolicySettings
from ml.routing.worth import Fees
from storage.read_models.judged_policy import Books, JudgedLog, JudgedTime, judge_stored
from web.beside import Beside, opened
from web.keys import BESIDE, EVALUATOR, GATEWAYS, SETTINGS

DECISIONS_MAX: Final = 30_000
"""Decisions looked at on the page, the newest; some ten seconds of work. The command line looks at more."""

TAUGHT: Final = timedelta(days=1)
"""So long before the judged time a candidate may only learn."""


class Busy(Exception):
    """Another evaluation is under way."""


class Evaluator:
    """Judges one candidate at a time.

    Args:
        settings: where the decisions are.
        beside: computes.
        books: fees of every gateway, and settings of the router.
    """

    def __init__(self, settings: StoreSettings, beside: Beside, books: Books) -> None:
        self._settings = settings
        self._beside = beside
        self._books = books
        self._under_way: Future[bytes] | None = None

    async def judge(self, candidate: Candidate, since: datetime, until: datetime) -> JudgedLog:
        """Judge a candidate on the decisions of a time.

        Raises:
            Busy: another one is being judged.
            CandidateRefused: it cannot be.
            StoreUnavailable: MongoDB does not answer, or the process ended.
        """
        JudgedPolicy(candidate, router=self._books.router, gateways=self._books.fees)  # refuses what cannot be meant
        if self._under_way is not None and not self._under_way.done():
            raise Busy
        self._under_way = self._beside.begin(_judged, self._settings, candidate, self._books, since, until)
        return msgspec.msgpack.decode(await self._beside.done(self._under_way), type=JudgedLog)


def _judged(settings: StoreSettings, candidate: Candidate, books: Books, since: datetime, until: datetime) -> bytes:
    """Read and judge, in the process for it. Returns: JudgedLog as msgpack, which is small whatever was read."""

    async def work() -> JudgedLog:
        async with opened(settings) as database:
            time = JudgedTime(since=since, until=until, taught=TAUGHT)
            return await judge_stored(database, candidate, books, time, limit=DECISIONS_MAX)

    return msgspec.msgpack.encode(asyncio.run(work()))


async def evaluator(app: web.Application) -> AsyncIterator[None]:
    """Give an application its evaluator; it needs the process beside it."""
    fees = {name: Fees(**msgspec.structs.asdict(gateway.fee)) for name, gateway in app[GATEWAYS].items()}
    router = msgspec.convert(app[SETTINGS].routing, PolicySettings, from_attributes=True)
    books = Books(fees=fees, router=router)
    app[EVALUATOR] = Evaluator(app[SETTINGS].store, app[BESIDE], books)
    yield
