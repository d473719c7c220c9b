"""The page that judges a routing policy on the decisions that are stored, before a single payment goes its way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from ml.routing.evaluation.candidate import CandidateRefused
from ml.routing.evaluation.estimators import Estimates
from ml.routing.policies import POLICIES
from storage.read_models.judged_policy import JudgedLog
from web.api.policies import BUSY, candidate_of
from web.evaluating import Busy
from web.keys import EVALUATOR, GATEWAYS, SETTINGS
from web.pages.reading import success_cost_of
from web.rendering import page

DAYS: Final = (1, 7, 14, 31)
ORDER_CHARS_MAX: Final = 1_000
MARGIN_CHARS_MAX: Final = 12
IN_FORCE: Final = "in_force"


async def policies(request: web.Request) -> web.Response:
    """The form, and below it what was asked for."""
    names = [*request.app[GATEWAYS]]
    policy = request.query.get("policy", "")
    order = request.query.get("order", "")[:ORDER_CHARS_MAX]
    asked = request.query.get("days", "7")
    days = int(asked) if asked in map(str, DAYS) else 7
    margin = request.query.get("margin", "")[:MARGIN_CHARS_MAX].strip()
    found, problem, status = None, None, 200
    if policy:
        found, problem, status = await _judged(request, policy, _split(order), days, margin)
    usual = request.app[SETTINGS].routing.margin_share
    context = {
        "policies": list(POLICIES),
        "gateways": names,
        "asked": {
            "policy": policy or "best_fixed",
            "order": order or ", ".join(names),
            "days": days,
            "margin": margin,
            "ruled": request.query.get("rules") == IN_FORCE,
        },
        "margin_usual": usual,
        "day_choices": DAYS,
        "found": found,
        "has_answer": found is not None and isinstance(found.evaluation.result, Estimates),
        "problem": problem,
        "frontier": await success_cost_of(request),
    }
    return page(request, "policies.html", context, status=status)


async def _judged(
    request: web.Request, policy: str, order: list[str], days: int, margin: str
) -> tuple[JudgedLog | None, str | None, int]:
    """What was found, or the problem in words, and the status that belongs to it."""
    share = _share(margin) if margin else None
    if margin and share is None:
        return None, f"What a success earns is a number of percent above 0, at most 100, not {margin!r}.", 400
    ruled = request.query.get("rules") == IN_FORCE
    candidate = candidate_of(policy, order if policy == "fixed_order" else [], share, rules_in_force=ruled)
    now = datetime.now(UTC)
    try:
        return await request.app[EVALUATOR].judge(candidate, now - timedelta(days=days), now), None, 200
    except CandidateRefused as refused:
        problem = str(refused)
        return None, f"{problem[:1].upper()}{problem[1:]}.", 400
    except Busy:
        return None, BUSY, 409


def _split(order: str) -> list[str]:
    """The names in a list that a person wrote, each once.

    >>> _split(" alpha, bravo,,alpha ")
    ['alpha', 'bravo']
    """
    return list(dict.fromkeys(name.strip() for name in order.split(",") if name.strip()))


def _share(percent: str) -> float | None:
    """A share from percent that a person wrote; None: it is none.

    >>> _share("2.5"), _share("2,5 %"), _share("0"), _share("nan"), _share("much")
    (0.025, 0.025, None, None, None)
    """
    try:
        share = float(percent.rstrip("% ").replace(",", ".")) / 100
    except ValueError:
        return None
    return share if 0 < share <= 1 else None
