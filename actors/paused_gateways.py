"""Which gateways an operator wants no payment at: paused now, or under planned maintenance."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from actors.recent import Recent
from messaging.contracts import GatewayPause
from ml.routing.eligibility import Eligibility

PAUSES_MAX: Final = 1_000
"""Pauses and planned windows heeded at most."""


class PausedGateways:
    """The pauses that are not taken back. An operator's word stands above every policy: even a gateway that is the
    only one left gets no payment while it is paused.

    Args:
        pauses: those known at the start.
    """

    def __init__(self, pauses: Iterable[GatewayPause] = ()) -> None:
        self._pauses: Recent[str, GatewayPause] = Recent(PAUSES_MAX)
        for pause in pauses:
            self.pause(pause)

    def pause(self, pause: GatewayPause) -> None:
        """Heed a pause, or a new version of one."""
        self._pauses.put(pause.pause_id, pause)

    def resume(self, pause_id: str) -> None:
        """Forget a pause; one that is not known has no effect."""
        self._pauses.pop(pause_id)

    def without(self, may: Eligibility, now: datetime) -> Eligibility:
        """Take the paused gateways out of the candidates, each with the reason."""
        paused = {pause.gateway: pause for pause in self._pauses.values() if is_in_force(pause, now)}
        out = [(name, _in_words(paused[name])) for name in may.candidates if name in paused]
        if not out:
            return may
        return Eligibility(
            candidates=tuple(name for name in may.candidates if name not in paused),
            excluded=(*may.excluded, *out),
        )


def is_in_force(pause: GatewayPause, now: datetime) -> bool:
    """Tell whether a pause holds at a moment."""
    return pause.starts_at <= now and (pause.ends_at is None or now < pause.ends_at)


def _in_words(pause: GatewayPause) -> str:
    until = "until it is resumed" if pause.ends_at is None else f"until {pause.ends_at:%Y-%m-%d %H:%M} UTC"
    what = "under maintenance" if pause.kind == "maintenance" else "paused"
    return f"{what} by {pause.who} {until}: {pause.reason}"[:500]
