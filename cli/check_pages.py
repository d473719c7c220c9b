"""Logs in through the real form and asks for every page."""

from __future__ import annotations

import html
import re

import aiohttp
import msgspec

from cli.running import RunningSystem
from web.routes import API, INCIDENTS, PAGES

PAGE_S_MAX = 10.0
TOKEN = re.compile(r'name="csrf"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="csrf"')
LIVE = re.compile(r'src="(/live/[^"]+)"')


class PageAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the login worked, and the status of each page; 0: no answer."""

    logged_in: bool
    statuses: dict[str, int]


async def visit_pages(system: RunningSystem) -> PageAnswers:
    """Ask for every page that takes no parameter, one payment, every REST resource, and the live charts."""
    base = system.place.web_url.rstrip("/")
    paths = [*PAGES, *([INCIDENTS] if system.control_port else []), *API]
    attempt = await system.database["attempts"].find_one({"status": "failed"}, {"_id": 1})
    if attempt is not None:
        paths += [f"/payments/{attempt['_id']}", f"/api/v1/payments/{attempt['_id']}"]
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an IP address are meant here
    timeout = aiohttp.ClientTimeout(total=PAGE_S_MAX)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout) as session:
        logged_in = await _log_in(session, base, system.settings.web.admin_name, system.secrets.web_password)
        statuses = {}
        for path in paths:
            statuses[path], text = await _get(session, base + path)
            if path == "/" and (live := LIVE.search(text)):
                statuses["/live/…"], _ = await _get(session, base + html.unescape(live[1]))
    return PageAnswers(logged_in=logged_in, statuses=statuses)


async def _log_in(session: aiohttp.ClientSession, base: str, name: str, password: str) -> bool:
    _, form = await _get(session, f"{base}/login")
    token = TOKEN.search(form)
    if token is None:
        return False
    fields = {"name": name, "password": password, "csrf": html.unescape(token[1] or token[2]), "next": "/"}
    try:
        async with session.post(f"{base}/login", data=fields, allow_redirects=False) as answer:
            return answer.status == 303
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    try:
        async with session.get(url, allow_redirects=False) as answer:
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return 0, ""
