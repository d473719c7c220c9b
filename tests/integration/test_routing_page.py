"""The page Routing says which time each figure is of, and what each missing one lacks."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from ml.experiments.intervals import Interval
from ml.routing.hindsight.report import Hindsight, Missing, Sum
from ml.routing.hindsight.uplift import Side, Uplift, UpliftMoney
from storage.read_models.routing_hindsight import RoutingHindsight
from tests.integration.test_web import (
    Web,
    database_of,
    operator,  # noqa: F401
    stranger,  # noqa: F401
)
from tests.web_documents import fill
from web.hindsight import HindsightReads

KNOWN = Interval(12.0, 4.0, 20.0)
FEW = "what was paid at the best gateways says, weighed by amount, as much as 640 payments, at least 1,000 are needed"
NONE_EXPLORED = "7 decisions explored, at least 100 are needed"
ORDERS = "amounts differ so much that they say as much as 120 orders, 300 are needed"


def known_in_payments_only(now: datetime) -> RoutingHindsight:
    """Regret and uplift are known in payments and not in money; what exploring cost in neither."""
    regret = {"decisions": 5_000, "effective": 2_100.0, "payments": KNOWN}
    spend = {"decisions": 7, "effective": 7.0, "why_not": NONE_EXPLORED}
    side = Side(orders=900, customers=900, paid=800)
    money = UpliftMoney(currency="INR", routed=side, control=side, why_not=ORDERS)
    found = Hindsight(
        regret=Missing(
            total=Sum(currency=None, **regret), by_currency=[Sum(currency="INR", why_no_amount=FEW, **regret)]
        ),
        spend=Missing(total=Sum(currency=None, **spend), by_currency=[Sum(currency="INR", **spend)]),
        uplift=Uplift(routed=side, control=side, unknown=0, success=Interval(0.02, 0.01, 0.03), money=[money]),
        judged=5_000,
        unknown=0,
        left_out={},
        compared=0.9,
    )
    return RoutingHindsight(
        since=now - timedelta(days=1),
        until=now,
        seen_since=now - timedelta(hours=3),
        as_of=now,
        complete=True,
        decisions_max=30_000,
        left_out={},
        found=found,
    )


def words_of(page: str) -> str:
    """The text of a page, without its marks."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


async def test_what_money_lacks_stands_where_it_is_missing(
    operator: Web,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each figure that is not known says what is missing, also where the same is known in payments."""
    now = datetime.now(UTC)
    monkeypatch.setattr(HindsightReads, "at_hand", lambda self, name: known_in_payments_only(now))
    page = await (await operator.get("/routing")).text()
    hindsight = page.split('data-part="hindsight"')[1].split("</section>")[0]
    row = words_of(hindsight.split("<tbody>")[1].split("</tbody>")[0])
    assert row == (
        f"INR 5,000 not enough data yet {FEW} not enough data yet as for payments, above not enough data yet {ORDERS}"
    )
    cards = words_of(hindsight.split('<div class="scroll"')[0])
    assert "+12.0 payments +4.0 to +20.0" in cards
    assert f"not enough data yet {NONE_EXPLORED.capitalize()}." in cards


async def test_without_a_control_slice_money_lacks_what_payments_lack(
    operator: Web,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is told of any currency then, and that is not for want of orders in it."""
    known = known_in_payments_only(datetime.now(UTC))
    nobody = Side(orders=0, customers=0, paid=0)
    uplift = Uplift(routed=nobody, control=nobody, unknown=0, why_not="no control slice: one can be set aside")
    known = msgspec.structs.replace(known, found=msgspec.structs.replace(known.found, uplift=uplift))
    monkeypatch.setattr(HindsightReads, "at_hand", lambda self, name: known)
    page = words_of(await (await operator.get("/routing")).text())
    assert "No control slice: one can be set aside." in page
    assert page.count("not enough data yet as for payments, above") == 2
    assert "no order in this currency" not in page


@pytest.mark.parametrize("path", ["/", "/failures", "/routing"])
async def test_pages_with_live_charts_say_which_time_is_whose(operator: Web, path: str) -> None:  # noqa: F811
    """The chosen range is that of the charts; tables have their own, and only where both are one it is told once."""
    await fill(database_of(operator), datetime.now(UTC), attempts=30)
    hour = words_of(await (await operator.get(f"{path}?range=1h")).text())
    assert re.search(r"figures, unless they say otherwise: last 15 minutes; charts of whole minutes: last hour", hour)
    quarter = words_of(await (await operator.get(f"{path}?range=15m")).text())
    assert "charts of whole minutes" not in quarter
    assert "last 15 minutes" in quarter


async def test_every_card_of_the_routing_page_names_its_time(operator: Web) -> None:  # noqa: F811
    """What was expected, who decided and hindsight look back differently far, and say so in their titles."""
    await fill(database_of(operator), datetime.now(UTC), attempts=30)
    page = await (await operator.get("/routing?range=1h")).text()
    titles = {words_of(f"<h2{title}") for title in re.findall(r"<h2(.*?)</h2>", page, flags=re.DOTALL)}
    assert {
        "Expected and observed last 15 minutes",
        "Who decided last 15 minutes",
        "What learning costs last 15 minutes",
        "In hindsight last 24 hours",
        "Latest decisions whenever they were made",
    } <= titles
