"""The page that judges a routing policy on the decisions that are stored, before a single payment goes its way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from ml.routing.evaluation.candidate import Candidate, CandidateRefused
from ml.routing.evaluation.estimators import Estimates
from ml.routing.policies import POLICIES
from web.api.policies import BUSY
from web.evaluating import Busy, JudgedLog
from web.keys import EVALUATOR, GATEWAYS
from web.pages.reading import success_cost_of
from web.rendering import page

DAYS: Final = (1, 7, 14, 31)
ORDER_CHARS_MAX: Final = 1_000


async def policies(request: web.Request) -> web.Response:
    """The form, and below it what was asked for."""
    names = [*request.app[GATEWAYS]]
    policy = request.query.get("policy", "")
    order = request.query.get("order", "")[:ORDER_CHARS_MAX]
    asked = request.query.get("days", "7")
    days = int(asked) if asked in map(str, DAYS) else 7
    found, problem, status = None, None, 200
    if policy:
        found, problem, status = await _judged(request, policy, _split(order), days)
    context = {
        "policies": list(POLICIES),
        "gateways": names,
        "asked": {"policy": policy or "best_fixed", "order": order or ", ".join(names), "days": days},
        "day_choices": DAYS,
        "found": found,
        "has_answer": found is not None and isinstance(found.evaluation.result, Estimates),
        "problem": problem,
        "frontier": await success_cost_of(request),
    }
    return page(request, "policies.html", context, status=status)


async def _judged(
    request: web.Request, policy: str, order: list[str], days: int
) -> tuple[JudgedLog | None, str | None, int]:
    """What was found, or the problem in words, and the status that belongs to it."""
    known = request.app[GATEWAYS]
    unknown = [name for name in order if name not in known]
    if policy == "fixed_order" and (unknown or not order):
        return None, f"There is no such gateway in the order; known are {', '.join(known)}.", 400
    candidate = Candidate(policy=policy, parameters={"order": order} if policy == "fixed_order" and order else {})
    now = datetime.now(UTC)
    try:
        return await request.app[EVALUATOR].judge(candidate, now - timedelta(days=days), now), None, 200
    except CandidateRefused:
        return None, f"There is no such policy; known are {', '.join(POLICIES)}.", 400
    except Busy:
        return None, BUSY, 409


def _split(order: str) -> list[str]:
    """The names in a list that a person wrote, each once.

    >>> _split(" alpha, bravo,,alpha ")
    ['alpha', 'bravo']
    """
    return list(dict.fromkeys(name.strip() for name in order.split(",") if name.strip()))
