"""Tries to get in: without a login, with old or forged ones, from other sites, beyond one's role, with bad bytes."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from yarl import URL

import web.middlewares
from storage.users import User, add_user
from tests.integration.test_web import Web, database_of, log_in, operator, stranger, token_in  # noqa: F401  fixtures
from web.api.topics import OPERATIONS
from web.keys import EXECUTOR
from web.passwords import hash_password
from web.routes import PAGES

HOSTILE_FILES = (
    "/static/../app.py",
    "/static/%2e%2e/app.py",
    "/static/..%2fapp.py",
    "/static/....//app.py",
    "/static//etc/passwd",
    "/static/%00",
)


def cookie_of(client: Web) -> str:
    """The token of the login."""
    return client.session.cookie_jar.filter_cookies(client.make_url("/"))["ipa_session"].value


def use_cookie(client: Web, value: str) -> None:
    """Come with another token."""
    client.session.cookie_jar.clear()
    client.session.cookie_jar.update_cookies({"ipa_session": value}, URL(str(client.make_url("/"))))


async def as_role(client: Web, role: str) -> str:
    """Log in as somebody with a role; returns the form token of that login."""
    app: Any = client.app
    password_hash = await hash_password(app[EXECUTOR], "a long enough password")
    user = User(name=f"{role}1", password_hash=password_hash, created_at=datetime.now(UTC), role=role)  # type: ignore[arg-type]
    await add_user(database_of(client), user)
    client.session.cookie_jar.clear()
    assert (await log_in(client, f"{role}1", "a long enough password")).status == 303
    return token_in(await (await client.get("/account")).text())


async def test_a_stolen_cookie_dies_with_its_time(operator: Web) -> None:  # noqa: F811
    """A cookie whose login has expired opens nothing, although the browser still sends it."""
    token = cookie_of(operator)
    past = datetime.now(UTC) - timedelta(seconds=1)
    await database_of(operator)["web_sessions"].update_many({}, {"$set": {"expires_at": past}})
    use_cookie(operator, token)
    assert (await operator.get("/api/v1/overview")).status == 401
    assert (await operator.get("/", allow_redirects=False)).status == 303
    assert (await operator.get("/live/overview")).status == 401


async def test_a_made_up_cookie_opens_nothing(stranger: Web) -> None:  # noqa: F811
    """Whatever stands in the cookie is looked up by its digest only."""
    for forged in ("", "x", "a" * 5_000, '{"$ne":null}', "' or 1=1", "\x01", "ipa_session"):
        cookie = f"ipa_session={URL.build(path=forged).raw_path}"
        assert (await stranger.get("/api/v1/overview", headers={"Cookie": cookie})).status == 401, forged


async def test_the_digest_is_no_key(operator: Web) -> None:  # noqa: F811
    """Whoever reads the store cannot log in with what stands there."""
    stored = await database_of(operator)["web_sessions"].find_one()
    assert stored is not None
    use_cookie(operator, stored["_id"])
    assert (await operator.get("/api/v1/overview")).status == 401


async def test_other_sites_can_send_nothing(operator: Web) -> None:  # noqa: F811
    """A form or a script of another site has the cookie but not the token: 403, and nothing happens."""
    people = database_of(operator)["users"]
    before = await people.count_documents({})
    form = {"name": "mallory", "role": "admin", "password": "a long enough password"}
    for fields in (form, form | {"csrf": ""}, form | {"csrf": "0" * 64}):
        assert (await operator.post("/act/post_users", data=fields)).status == 403
    for headers in ({}, {"X-CSRF-Token": "0" * 64}):
        assert (await operator.post("/api/v1/users", json=form, headers=headers)).status == 403
    assert await people.count_documents({}) == before


async def test_a_socket_needs_login_and_own_origin(operator: Web) -> None:  # noqa: F811
    """Another origin, or none, gets no socket with the login; nobody gets one without."""
    base = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "eA=="}
    for origin in ("https://evil.example", "null", "", f"http://{operator.host}.evil.example:{operator.port}"):
        answer = await operator.get("/live/overview/ws", headers=base | {"Origin": origin})
        assert answer.status == 403, origin
    operator.session.cookie_jar.clear()
    own = f"http://{operator.host}:{operator.port}"
    assert (await operator.get("/live/overview/ws", headers=base | {"Origin": own})).status == 401


async def test_no_path_leaves_the_static_folder(stranger: Web) -> None:  # noqa: F811
    """No spelling of .. serves a file that is not for everybody."""
    for path in HOSTILE_FILES:
        url = URL(f"http://{stranger.host}:{stranger.port}{path}", encoded=True)
        answer = await stranger.session.get(url, allow_redirects=False)
        assert answer.status in (303, 400, 403, 404), path
        assert "import" not in await answer.text()


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_nobody_does_more_than_the_role_allows(operator: Web, role: str) -> None:  # noqa: F811
    """Every write beyond the role is 403, by form and by REST, before anything that was sent is looked at."""
    from web.permissions import MAY

    csrf = await as_role(operator, role)
    beyond = [row for row in OPERATIONS if row.permission not in MAY[role]]  # type: ignore[index]
    assert beyond
    for row in beyond:
        path = re.sub(r"\{\w+\}", "x", row.path)
        answer = await operator.request(row.method, path, json={}, headers={"X-CSRF-Token": csrf})
        assert answer.status == 403, row.path
        if row.writes:
            assert (await operator.post(f"/act/{row.name}", data={"csrf": csrf})).status == 403, row.path
    if role == "viewer":
        statuses = {path: (await operator.get(path)).status for path in PAGES}
        refused = {path for path, status in statuses.items() if status != 200}
        assert {statuses[path] for path in refused} == {403}
        assert {"/audit", "/people", "/settings"} <= refused
        shown = await (await operator.get("/gateways")).text()
        assert "/act/" not in shown


async def test_a_large_or_slow_body_is_cut_off(operator: Web, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """More than 64 kB is 413; a body that trickles in holds its connection for a bounded time."""
    assert (await operator.post("/act/post_users", data={"csrf": "x" * 70_000})).status == 413
    monkeypatch.setattr(web.middlewares, "REQUEST_S_MAX", 0.3)
    reader, writer = await asyncio.open_connection(operator.host, operator.port)
    head = f"POST /login HTTP/1.1\r\nHost: {operator.host}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    writer.write(f"{head}Content-Length: 1000\r\n\r\nname=o".encode())
    answer = await asyncio.wait_for(reader.read(200), 10)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 504 ")


async def test_deep_and_broken_json_is_refused(operator: Web) -> None:  # noqa: F811
    """Nesting, lone surrogates, huge numbers, NaN and wrong types end in 4xx with a problem document."""
    csrf = token_in(await (await operator.get("/account")).text())
    headers = {"X-CSRF-Token": csrf, "Content-Type": "application/json"}
    bodies = [
        b"[" * 30_000,
        b'{"name":"\\ud800"}',
        b'{"days":1e999}',
        b'{"days":NaN}',
        b"\xff\xfe",
        b"null",
        b"",
        b'"x"',
    ]
    bodies += [
        b'{"name":{"$ne":null},"scopes":["read"]}',
        b'{"name":"x","scopes":["read"],"days":99999999999999999999}',
    ]
    for body in bodies:
        answer = await operator.post("/api/v1/tokens", data=body, headers=headers)
        assert (answer.status in (400, 422), answer.content_type) == (True, "application/problem+json"), body[:40]


async def test_the_page_after_a_form_is_one_of_ours(operator: Web) -> None:  # noqa: F811
    """`next` cannot lead to another site, and what was said about it is text."""
    csrf = token_in(await (await operator.get("/account")).text())
    fields = {"csrf": csrf, "name": "robot", "role": "viewer", "password": "a long enough password"}
    answer = await operator.post(
        "/act/post_users", data=fields | {"next": "//evil.example/x", "done": "<script>1"}, allow_redirects=False
    )
    assert answer.headers["Location"] == "/?done=%3Cscript%3E1"
    shown = await (await operator.get(answer.headers["Location"])).text()
    assert "<script>1" not in shown
