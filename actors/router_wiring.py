"""Puts the router advisor together with its loop and with what it reads from the store and from files."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import msgspec
import numpy as np
import structlog

from actors.pulse import Pulse, utc_now
from actors.responder import Responder
from actors.router_advisor import EvidenceMinute, RouterAdvisor
from actors.routing_rules import RulesFile
from actors.serving import RELIABILITY, Serving
from config.errors import ConfigError
from config.gateways import load_gateways
from config.settings import RoutingSettings, Settings, resolved
from ml.routing.commitments import period_of
from ml.routing.eligibility import GatewayTerms
from ml.routing.policies import POLICIES, PolicySettings
from ml.routing.reliability import Reliability
from ml.routing.rules import RuleSet
from ml.routing.worth import Fees
from storage.anomalies import open_anomalies
from storage.database import Database, Document
from storage.errors import StoreError
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


def wire_router(settings: Settings, database: Database, pulse: Pulse) -> Responder:
    """Make the router advisor and its loop, which starts from the store.

    Raises: ConfigError: the gateways file or the default policy does not fit.
    """
    chosen = settings.routing
    if chosen.default_policy not in POLICIES:
        raise ConfigError(
            "routing.default_policy", f"{chosen.default_policy!r} is no policy; known: {', '.join(POLICIES)}"
        )
    terms = gateway_terms(settings)
    advisor = RouterAdvisor(
        terms,
        msgspec.convert(chosen, PolicySettings, from_attributes=True),
        default_policy=chosen.default_policy,
        generator=np.random.default_rng(),  # seeded by the machine: two replicas must not explore in step
        rise_max=chosen.moved_share_max,
    )
    upkeep = _Upkeep(advisor, database, chosen, RulesFile(resolved(chosen.rules_path), terms), pulse)
    return Responder(advisor, upkeep.start, upkeep.refresh, database, settings.runner, pulse)


def gateway_terms(settings: Settings) -> dict[str, GatewayTerms]:
    """What each gateway takes and costs, as routing sees it.

    Raises: ConfigError: the gateways file does not fit.
    """
    return {
        gateway.name: GatewayTerms(
            methods=frozenset(gateway.methods),
            currencies=frozenset(gateway.currencies),
            countries=frozenset(gateway.countries),
            fees=Fees(**msgspec.structs.asdict(gateway.fee)),
        )
        for gateway in load_gateways(resolved(settings.gateways.path)).values()
    }


class _Upkeep:
    """Keeps a router up to what the store and its files say."""

    def __init__(
        self, advisor: RouterAdvisor, database: Database, chosen: RoutingSettings, file: RulesFile, pulse: Pulse
    ) -> None:
        self._advisor = advisor
        self._database = database
        self._warm_start = timedelta(minutes=chosen.warm_start_minutes)
        self._file = file
        self._pulse = pulse
        self._serving = Serving(
            database, RELIABILITY, lambda stored: Reliability.loaded(stored.body, stored.about.version), look_s=0.0
        )
        self._rules: RuleSet | None = None
        self._in_force: RuleSet | None = None

    async def start(self) -> None:
        """Replace everything that was learned by what the store holds.

        Raises: ConfigError: the rules file has a mistake, and no rules were ever in force.
        """
        now = utc_now()
        await self._read_rules()
        await self._serving.refresh()
        minutes = [
            _evidence_minute(document) async for document in read_minutes(self._database, now - self._warm_start)
        ]
        anomalies, allocation = await open_anomalies(self._database), await last_allocation(self._database)
        pauses, override = await pauses_not_over(self._database, now), await override_in_force(self._database, now)
        newest = await read_newest_attempts(self._database, NEWEST_ATTEMPTS)
        known = minutes, anomalies, allocation, now, pauses, override, self._serving.model, newest
        await asyncio.to_thread(self._advisor.warm_start, *known)  # seconds of it: payments are answered meanwhile
        self._advisor.serve(self._serving.model)  # a newer one may have come in that time
        await self._put_rules_in_force()

    async def refresh(self) -> None:
        """Notice other rules, also while the store is away, an operator's word that nobody told of, and another model.

        Raises: StoreError: the store does not answer; what it would have said comes the next time.
        """
        await self._read_rules()
        if self._in_force is not self._rules:  # also when the store did not answer the last time
            await self._put_rules_in_force()
        held = self._advisor.override_held(utc_now())
        self._advisor.heed_override(await override_in_force(self._database, utc_now()), held, utc_now())
        heard = self._advisor.pauses_heard
        self._advisor.heed_pauses(await pauses_not_over(self._database, utc_now()), heard)
        if await self._serving.refresh():
            self._advisor.serve(self._serving.model)

    async def _read_rules(self) -> None:
        """Look at the file; while it has a mistake, the last rules that were in force stay, also over a restart."""
        found = await asyncio.to_thread(self._file.poll)
        if isinstance(found, RuleSet):
            self._rules = found
        elif found is not None:
            log.error("rules_refused", reason=str(found))
            self._pulse.note_error(f"the routing rules have a mistake, those before stay in force: {found}")
            if self._rules is None:
                self._rules = await last_rules(self._database)
            if self._rules is None:
                raise found

    async def _put_rules_in_force(self) -> None:
        now, rules = utc_now(), self._rules or RuleSet()
        counts: dict[str, dict[str, int]] = {}
        try:
            for per in dict.fromkeys(each.per for each in rules.commitments):
                counts[per] = await count_first_attempts(self._database, period_of(now, per)[0])
        except StoreError:  # who may take a payment holds at once; what was promised, when it can be counted
            self._advisor.put_rules_in_force(msgspec.structs.replace(rules, commitments=[]), {}, now)
            raise
        self._advisor.put_rules_in_force(rules, counts, now)
        await keep_rules(self._database, rules, now)
        self._in_force = self._rules
        log.info("rules_in_force", version=rules.version, rules=len(rules.rules))


def _evidence_minute(document: Document) -> EvidenceMinute:
    return EvidenceMinute(
        minute=document["minute"].timestamp(),
        gateway=document["gateway"],
        method=document["method"],
        issuer=document["issuer"],
        succeeded=document.get("succeeded", 0),
        failed=document.get("failed", 0) + document.get("reversed", 0),
    )
