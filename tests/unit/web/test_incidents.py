"""The demo's page for breaking something: what the form becomes, and what counts as the system's answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from aiohttp import web

from config.errors import ConfigError
from config.settings import load_settings
from messaging.contracts import Anomaly, Segment
from simulator.detection import GRACE_S as GRACE_S_OF_JUDGE
from simulator.world import facts
from simulator.world.incidents import AnyIncident
from simulator.world.plan import PlannedIncident
from tests import factories
from web.demo_traffic import TrueIncident
from web.pages.incidents import GRACE_S, KINDS, SHOWN_MAX, Kind, Wish, ordered, reactions
from web.routes import FREE_RESOURCES, INCIDENTS, add_routes

BEGAN = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """A moment of the run."""
    return BEGAN + timedelta(seconds=seconds)


def incident(starts: float = 0, **changed: object) -> TrueIncident:
    """An outage of bravo for a minute."""
    fields = {
        "incident_id": "inc_0_0",
        "kind": "outage",
        "signal": "success_rate",
        "anomaly": True,
        "starts_at": after(starts),
        "ends_at": after(starts + 60),
        "gateway": "bravo",
    }
    return msgspec.convert(fields | changed, TrueIncident)


def anomaly(detected: float, **segment: str) -> Anomaly:
    """A part of the traffic was called unwell."""
    return factories.anomaly(
        after(detected), anomaly_id=f"ano_{detected:g}", segment=Segment(**segment), severity="major"
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_on_offer_is_one_that_the_world_takes(kind: Kind) -> None:
    """With the parts that it needs chosen, each fits the world; what is called harmless is no anomaly."""
    chosen = {"gateway": facts.GATEWAYS[0], "method": facts.METHODS[0], "issuer": facts.ISSUER_NAMES[0]}
    wish = Wish(kind=kind.name, minutes="2", **{part: chosen[part] for part in kind.needs})
    told, lasts_s = ordered(wish)
    planned = PlannedIncident(msgspec.convert(told | {"starts_s": 0, "lasts_s": lasts_s}, AnyIncident), 0)
    assert (planned.incident.lasts_s, planned.incident.anomaly) == (120, not kind.harmless)


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        (Wish(kind="earthquake"), "Choose what shall happen."),
        (Wish(minutes="31"), "Minutes must be a number from 1 to 30."),
        (Wish(minutes="0.5"), "Minutes must be"),
        (Wish(minutes="soon"), "Minutes must be"),
        (Wish(minutes="nan"), "Minutes must be"),
        (Wish(kind="issuer_down"), "needs one issuer: choose it."),
        (Wish(kind="maintenance"), "needs one gateway: choose it."),
        (Wish(kind="volume_drop", gateway="bravo"), "cannot be limited to one gateway: choose all there."),
    ],
)
def test_a_form_that_makes_no_sense_is_refused_in_words(wish: Wish, problem: str) -> None:
    """The text says what to change."""
    with pytest.raises(ValueError, match=problem):
        ordered(wish)


def test_an_answer_lies_in_the_time_and_in_the_segment() -> None:
    """Raised while it lasted or shortly after, in an overlapping segment; first raised first."""
    said = [
        anomaly(9, gateway="bravo"),
        anomaly(4, issuer="kite_bank"),
        anomaly(5, gateway="alpha"),
        anomaly(-1, gateway="bravo"),
        anomaly(90, gateway="bravo"),
        anomaly(90.1, gateway="bravo"),
    ]
    (row,) = reactions([incident()], said, after(30))
    assert [found.anomaly_id for found in row.anomalies] == ["ano_4", "ano_9", "ano_90"]
    assert (row.is_running, row.is_watched) == (True, True)


def test_grace_is_that_of_the_judge() -> None:
    """The page and the account of a run call the same things noticed."""
    assert GRACE_S == GRACE_S_OF_JUDGE


def test_newest_first_and_bounded() -> None:
    """A long run shows the latest incidents only; what no worker watches is marked."""
    many = [incident(number, signal="weather") for number in range(SHOWN_MAX + 5)]
    rows = reactions(many, [], after(1_000))
    assert len(rows) == SHOWN_MAX
    assert rows[0].incident.starts_at == after(SHOWN_MAX + 4)
    assert {(row.is_running, row.is_watched) for row in rows} == {(False, False)}


def test_the_page_is_there_on_demand_only_and_never_for_strangers() -> None:
    """Without being asked for, the application has no such address; with it, it needs a login like any other."""
    without, with_page = web.Application(), web.Application()
    add_routes(without)
    add_routes(with_page, with_incidents=True)
    known = [{resource.canonical for resource in app.router.resources()} for app in (without, with_page)]
    assert known[1] - known[0] == {INCIDENTS}
    assert INCIDENTS not in FREE_RESOURCES


@pytest.mark.parametrize("url", ["http://example.com:80", "http://127.0.0.1:1/path", "http://127.0.0.1", "file:///etc"])
def test_the_door_is_on_this_machine_only(url: str) -> None:
    """The web never asks another host on the word of a setting."""
    with pytest.raises(ConfigError, match="demo_control_url"):
        load_settings({"IPA_WEB__DEMO_CONTROL_URL": url})
    assert load_settings({"IPA_WEB__DEMO_CONTROL_URL": ""}).web.demo_control_url is None
