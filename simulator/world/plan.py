"""The incidents of one run, prepared for asking "what is happening now?" millions of times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from simulator.world import facts
from simulator.world.draws import Floats
from simulator.world.failures import category_shares
from simulator.world.incidents import (
    CardTesting,
    FailureMixChange,
    Incident,
    LatencyBrownout,
    Maintenance,
    ReversalWave,
    SuccessKinds,
    VolumeKinds,
    default_categories,
)

LOOK_S: Final = 0.25
"""What is happening is looked up again after this long, world seconds: incidents start at most this late."""

FAR: Final = float("inf")


class PlannedIncident:
    """One incident with its names turned into the codes of ``facts``.

    Args:
        incident: what happens.
        place: its place in the plan.
    Raises: ValueError: it names something that is not in this world.
    """

    def __init__(self, incident: Incident, place: int) -> None:
        self.incident = incident
        self.place = place
        self.lowers_success = isinstance(incident, SuccessKinds)
        self.gateway = place_of(incident.gateway, facts.GATEWAYS, "gateway")
        self.method = place_of(incident.method, facts.METHODS, "method")
        self.issuer = place_of(incident.issuer, facts.ISSUER_NAMES, "issuer")
        self.network = place_of(incident.network, facts.NETWORKS, "network")
        self.shares: Floats | None = None
        if isinstance(incident, FailureMixChange | SuccessKinds):
            given = getattr(incident, "categories", {})
            self.shares = category_shares(given or default_categories(incident))
        if isinstance(incident, VolumeKinds | CardTesting) and incident.gateway is not None:
            raise ValueError("an order does not know its gateway yet, so a change of volume cannot name one")
        if isinstance(incident, Maintenance) and incident.gateway is None:
            raise ValueError("maintenance is of one gateway; name it")
        if incident.repeats_every_s is not None and incident.repeats_every_s < incident.lasts_s:
            raise ValueError("it would repeat before it is over; make repeats_every_s at least lasts_s")

    def touches(self, gateway: int, method: int, issuer: int, network: int) -> bool:
        """Tell whether an attempt lies in its segment."""
        return (
            self.gateway in (None, gateway)
            and self.method in (None, method)
            and self.issuer in (None, issuer)
            and self.network in (None, network)
        )


def place_of(name: str | None, names: Sequence[str], what: str) -> int | None:
    """The code of a name; None stays None.

    Raises: ValueError: there is no such name.
    """
    if name is None:
        return None
    if name not in names:
        raise ValueError(f"there is no {what} {name!r}; there are: {', '.join(names)}")
    return names.index(name)


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about one occurrence of one incident, with absolute times."""

    incident_id: str
    kind: str
    signal: str
    anomaly: bool
    starts_at: datetime
    ends_at: datetime
    gateway: str | None = None
    method: str | None = None
    issuer: str | None = None
    network: str | None = None
    note: str = ""


class IncidentPlan:
    """The incidents of one run.

    Args:
        incidents: what happens; times count from ``began_at``.
        began_at: start of the run, seconds since epoch, in the world's time.
    Raises: ValueError: an incident does not fit this world.
    """

    def __init__(self, incidents: Sequence[Incident], began_at: float) -> None:
        self.began_at = began_at
        self.planned = [PlannedIncident(incident, place) for place, incident in enumerate(incidents)]
        self._active: list[PlannedIncident] = []
        self._looked_at = -FAR

    def add(self, incident: Incident) -> str:
        """Let something more happen. Returns: how labels call it.

        Raises: ValueError: it does not fit this world.
        """
        self.planned.append(PlannedIncident(incident, len(self.planned)))
        self._looked_at = -FAR
        return f"inc_{len(self.planned) - 1}"

    def active(self, now: float) -> list[PlannedIncident]:
        """What is happening at a moment of the world's time, in the order of the plan."""
        elapsed = now - self.began_at
        look = elapsed // LOOK_S
        if look != self._looked_at:
            self._active = [one for one in self.planned if one.incident.occurrence(look * LOOK_S) is not None]
            self._looked_at = look
        return self._active

    def volume_factor(self, now: float, method: int, issuer: int) -> float:
        """How many times the usual volume of a part of the traffic comes now."""
        factor = 1.0
        for one in self.active(now):
            if isinstance(one.incident, VolumeKinds) and one.method in (None, method) and one.issuer in (None, issuer):
                factor *= one.incident.factor
        return factor

    def volume_factor_max(self, since: float, until: float) -> float:
        """A factor that the volume does not exceed between two moments (seconds since epoch)."""
        factor, testers = 1.0, 0.0
        for one in self.planned:
            if one.incident.happens_between(since - self.began_at, until - self.began_at):
                if isinstance(one.incident, VolumeKinds):
                    factor *= max(1.0, one.incident.factor)
                elif isinstance(one.incident, CardTesting):
                    testers += one.incident.orders_factor
        return factor + testers

    def latency_factor(self, active: Sequence[PlannedIncident]) -> float:
        """How many times as long an answer takes, given the incidents that touch it."""
        factor = 1.0
        for one in active:
            if isinstance(one.incident, LatencyBrownout):
                factor *= one.incident.factor
        return factor

    def reversal_share(self, active: Sequence[PlannedIncident]) -> float:
        """The share of successes taken back because of the incidents that touch them."""
        shares = [one.incident.share for one in active if isinstance(one.incident, ReversalWave)]
        return max(shares, default=0.0)

    def closed_gateways(self, now: float) -> list[int]:
        """Gateways under announced maintenance."""
        return [
            one.gateway for one in self.active(now) if isinstance(one.incident, Maintenance) and one.gateway is not None
        ]

    def labels(self, until: float, *, offset_s: float = 0.0, speed: float = 1.0) -> list[Label]:
        """The truth about everything that started before ``until``, by start.

        Args:
            until: seconds since epoch, in the world's time.
            offset_s: added to ``began_at`` to get from the world's time to the clock on the wall.
            speed: the world's seconds in one second on the wall.
        """
        began = self.began_at + offset_s
        labels = []
        for one in self.planned:
            for count, (start, end) in enumerate(one.incident.occurrences(until - self.began_at)):
                labels.append(
                    Label(
                        incident_id=f"inc_{one.place}_{count}",
                        kind=str(one.incident.__struct_config__.tag),
                        signal=one.incident.signal,
                        anomaly=one.incident.anomaly,
                        starts_at=datetime.fromtimestamp(began + start / speed, UTC),
                        ends_at=datetime.fromtimestamp(began + end / speed, UTC),
                        gateway=one.incident.gateway,
                        method=one.incident.method,
                        issuer=one.incident.issuer,
                        network=one.incident.network,
                        note=one.incident.note,
                    )
                )
        return sorted(labels, key=lambda label: (label.starts_at, label.incident_id))
