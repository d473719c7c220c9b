"""Puts the router advisor together with its loop and with what keeps it up to the store and its files."""

from __future__ import annotations

import msgspec
import numpy as np

from actors.pulse import Pulse
from actors.responder import Responder
from actors.router_advisor import RouterAdvisor
from actors.router_hearing import RouterHearing
from actors.router_upkeep import RouterUpkeep
from actors.routing_rules import RulesFile
from config.errors import ConfigError
from config.gateways import load_gateways
from config.settings import Settings, resolved
from ml.routing.eligibility import GatewayTerms
from ml.routing.policies import POLICIES, PolicySettings
from ml.routing.worth import Fees
from storage.database import Database


def wire_router(settings: Settings, database: Database, pulse: Pulse) -> Responder:
    """Make the router advisor and its loop, which starts from the store, or without one.

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
    upkeep = RouterUpkeep(advisor, database, settings, RulesFile(resolved(chosen.rules_path), terms), pulse)
    return Responder(advisor, RouterHearing(advisor, upkeep, pulse), database, settings.runner, pulse)


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
