"""An operator's pause stands above every policy, for exactly as long as it lasts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from actors.paused_gateways import PausedGateways
from messaging.contracts import GatewayPause
from ml.routing.eligibility import Eligibility

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ALL = Eligibility(candidates=("alpha", "bravo"), excluded=(("echo", "does not take upi"),))


def pause(**changes: object) -> GatewayPause:
    """A pause of alpha from now on."""
    fields = {
        "pause_id": "pau_1",
        "gateway": "alpha",
        "kind": "pause",
        "starts_at": NOW,
        "ends_at": NOW + timedelta(minutes=5),
        "who": "olga",
        "reason": "too many timeouts",
    }
    return GatewayPause(**(fields | changes))  # type: ignore[arg-type]


def test_a_paused_gateway_is_no_candidate_and_the_reason_is_told() -> None:
    """The others stay as they were."""
    may = PausedGateways([pause()]).without(ALL, NOW)
    assert may.candidates == ("bravo",)
    assert may.excluded == (
        *ALL.excluded,
        ("alpha", "paused by olga until 2026-01-01 12:05 UTC: too many timeouts"),
    )


def test_a_pause_holds_from_its_start_to_its_end() -> None:
    """A planned window has no effect before, and none from its end on."""
    paused = PausedGateways([pause(kind="maintenance", starts_at=NOW + timedelta(minutes=1))])
    held = [paused.without(ALL, NOW + timedelta(seconds=s)).candidates for s in (0, 59, 60, 299, 300)]
    assert held == [ALL.candidates, ALL.candidates, ("bravo",), ("bravo",), ALL.candidates]


def test_a_resumed_gateway_is_a_candidate_again() -> None:
    """A later version of a pause replaces it; an unknown one has no effect."""
    paused = PausedGateways([pause(ends_at=None)])
    paused.resume("pau_other")
    assert paused.without(ALL, NOW + timedelta(days=9)).candidates == ("bravo",)
    paused.pause(pause(gateway="bravo"))
    assert paused.without(ALL, NOW).candidates == ("alpha",)
    paused.resume("pau_1")
    assert paused.without(ALL, NOW) is ALL
