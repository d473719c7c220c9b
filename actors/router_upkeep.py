"""Keeps a router up to what the store and its files say: all of it at the start, and what may change all along."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

import structlog

from actors.pulse import Pulse, utc_now
from actors.router_advisor import RouterAdvisor
from actors.router_start import EvidenceMinute, History, learned_from
from actors.routing_rules import RulesFile
from actors.serving import RELIABILITY, Serving
from config.errors import ConfigError
from config.settings import Settings
from ml.routing.commitments import period_of
from ml.routing.reliability import Reliability
from ml.routing.rules import RuleSet
from storage.anomalies import open_anomalies
from storage.database import Database, Document, make_ready
from storage.errors import StoreError, StoreUnavailable
from storage.experiments import last_allocation
from storage.gateway_pauses import pauses_not_over
from storage.read_models.newest_attempts import read_newest_attempts
from storage.rollups import count_first_attempts, read_minutes
from storage.routing_overrides import override_in_force
from storage.routing_rules import keep_rules, last_rules

log = structlog.get_logger(__name__)

NEWEST_ATTEMPTS: Final = 20_000
"""Attempts read at the start: their retries say which gateways fail together. More would make the start slow. What is
heard while they are read counts twice, which is seconds' worth of days."""


RULES_S_MAX: Final = 5.0
"""How long the store may take to say the last rules, and to count what was promised; then rules hold without that."""

READ_S_MAX: Final = 60.0
"""How long the store may take to tell all of that; one that stands still says nothing, and facts wait meanwhile."""


class RouterUpkeep:
    """Reads the rules file and the store for a router.

    Args:
        advisor: the router.
        database: the store.
        settings: where the store is, and how much history is read.
        file: of the rules.
        pulse: where mistakes in it are told.
    """

    def __init__(
        self, advisor: RouterAdvisor, database: Database, settings: Settings, file: RulesFile, pulse: Pulse
    ) -> None:
        self._advisor = advisor
        self._database = database
        self._store = settings.store
        self._is_store_ready = False
        self._warm_start = timedelta(minutes=settings.routing.warm_start_minutes)
        self._file = file
        self._pulse = pulse
        self._serving = Serving(
            database, RELIABILITY, lambda stored: Reliability.loaded(stored.body, stored.about.version), look_s=0.0
        )
        self._mistake: ConfigError | None = None
        self._rules: RuleSet | None = None
        self._in_force: RuleSet | None = None
        self._refreshing = asyncio.Lock()  # of two answers of the store, the later one must be heeded last

    async def prepare(self) -> None:
        """Put the rules in force, before anything is answered; what was promised waits until it can be counted.

        Raises:
            StoreError: the rules file has a mistake, and the store, which knows the rules before, does not answer.
            ConfigError: the rules file has a mistake, and no rules were ever in force.
        """
        async with self._refreshing:
            await self._read_rules()
            self._put_rules_without_promises(utc_now())

    async def start(self) -> None:
        """Replace everything that was learned by what the store holds.

        What ``refresh`` finds meanwhile is newer than what was read here, and stays: it is no part of what is replaced.
        Raises: StoreError: the store does not answer; what was learned stays.
        """
        now = utc_now()
        try:
            async with asyncio.timeout(READ_S_MAX):
                history = await self._read_all(now)
        except TimeoutError:
            raise StoreUnavailable(f"MongoDB did not tell all within {READ_S_MAX:g} s") from None
        fresh = self._advisor.fresh_knowledge()
        known = await asyncio.to_thread(learned_from, history, fresh, now)  # seconds: payments are answered meanwhile
        self._advisor.take(known, utc_now())
        self._advisor.serve(self._serving.model)  # a newer one may have come in that time

    async def refresh(self) -> None:
        """Notice other rules, also while the store is away, an operator's word that nobody told of, and another model.

        Raises: StoreError: the store does not answer; what it would have said comes the next time.
        """
        async with self._refreshing:
            await self._read_rules()
            if self._in_force is not self._rules:  # also when the store did not answer the last time
                await self._put_rules_in_force()
            heard = self._advisor.overrides_heard
            self._advisor.heed_override(await override_in_force(self._database, utc_now()), heard, utc_now())
            heard = self._advisor.pauses_heard
            self._advisor.heed_pauses(await pauses_not_over(self._database, utc_now()), heard)
            if await self._serving.refresh():
                self._advisor.serve(self._serving.model)

    async def _read_all(self, now: datetime) -> History:
        if not self._is_store_ready:
            await make_ready(self._database, self._store)
            self._is_store_ready = True
        self._in_force = None  # the store answers: what counts for commitments is read anew
        await self.refresh()  # what operators said comes first: answers may begin before all the rest is read
        since = now - self._warm_start
        anomalies, allocation = await open_anomalies(self._database), await last_allocation(self._database)
        minutes = [_evidence_minute(document) async for document in read_minutes(self._database, since)]
        newest = await read_newest_attempts(self._database, NEWEST_ATTEMPTS)
        return History(minutes, anomalies, allocation, self._serving.model, newest)

    async def _read_rules(self) -> None:
        """Look at the file; while it has a mistake, the last rules that were in force stay, also over a restart."""
        await asyncio.to_thread(self._look_at_file)
        if self._rules is None and self._mistake is not None:
            try:
                async with asyncio.timeout(RULES_S_MAX):
                    self._rules = await last_rules(self._database)
            except TimeoutError:
                raise StoreUnavailable(f"MongoDB did not answer within {RULES_S_MAX:g} s") from None
            if self._rules is None:
                raise self._mistake

    def _look_at_file(self) -> None:
        """Heed it in the thread that reads it: nobody may be waiting for that any more, and it is told once only."""
        found = self._file.poll()
        if isinstance(found, RuleSet):
            self._rules, self._mistake = found, None
        elif found is not None:
            self._mistake = found
            log.error("rules_refused", reason=str(found))
            self._pulse.note_error(f"the routing rules have a mistake, those before stay in force: {found}")

    async def _put_rules_in_force(self) -> None:
        now, rules = utc_now(), self._rules or RuleSet()
        counts: dict[str, dict[str, int]] = {}
        try:
            async with asyncio.timeout(RULES_S_MAX):
                for per in dict.fromkeys(each.per for each in rules.commitments):
                    counts[per] = await count_first_attempts(self._database, period_of(now, per)[0])
        except (StoreError, TimeoutError) as error:
            self._put_rules_without_promises(now)
            reason = str(error) or f"MongoDB did not count first attempts within {RULES_S_MAX:g} s"
            log.warning("commitments_wait", reason=reason)
            self._pulse.note_error(f"commitments to gateways are not kept until they can be counted: {reason}")
            await keep_rules(self._database, rules, now)
            return
        self._advisor.put_rules_in_force(rules, counts, now)
        await keep_rules(self._database, rules, now)
        self._in_force = self._rules
        log.info("rules_in_force", version=rules.version, rules=len(rules.rules))

    def _put_rules_without_promises(self, now: datetime) -> None:
        """Who may take a payment holds at once; what was promised, when it can be counted."""
        self._advisor.put_rules_in_force(self._rules or RuleSet(), None, now)


def _evidence_minute(document: Document) -> EvidenceMinute:
    return EvidenceMinute(
        minute=document["minute"].timestamp(),
        gateway=document["gateway"],
        method=document["method"],
        issuer=document["issuer"],
        succeeded=document.get("succeeded", 0),
        failed=document.get("failed", 0) + document.get("reversed", 0),
    )
