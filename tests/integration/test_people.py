"""People and tokens: through the page, through REST, and with the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.test_web import PASSWORD, Web, database_of, log_in, operator, stranger, token_in  # noqa: F401
from web.keys import SETTINGS

ROOT = Path(__file__).parents[2]
LONG = "correct horse battery"


async def form_token(client: Web) -> str:
    """The form token of the login."""
    return token_in(await (await client.get("/account")).text())


async def enter(client: Web, name: str, password: str) -> int:
    """Log in as somebody else; returns the status of the login."""
    client.session.cookie_jar.clear()
    return (await log_in(client, name, password)).status


async def act(client: Web, operation: str, **fields: str) -> tuple[int, str]:
    """Send a form; returns the status and where it leads."""
    data = {"csrf": await form_token(client), "next": "/account"} | fields
    answer = await client.post(f"/act/{operation}", data=data, allow_redirects=False)
    return answer.status, answer.headers.get("Location", "")


async def test_a_person_comes_changes_and_goes(operator: Web) -> None:  # noqa: F811
    """Added, logged in, given a role, disabled: each has its effect at once and stands in the audit log."""
    assert (await act(operator, "post_users", name="olga", role="viewer", password="short"))[0] == 422
    assert (await act(operator, "post_users", name="olga", role="viewer", password=LONG))[0] == 303
    assert (await act(operator, "post_users", name="olga", role="admin", password=LONG))[0] == 409
    await act(operator, "post_users_name_role", name="olga", role="operator", reason="on call")
    await enter(operator, "olga", LONG)
    assert "/act/post_gateways" in await (await operator.get("/gateways")).text()
    assert (await operator.get("/people")).status == 403
    await enter(operator, "operator", PASSWORD)
    await act(operator, "post_users_name_disable", name="olga", reason="left")
    assert await enter(operator, "olga", LONG) == 401
    await enter(operator, "operator", PASSWORD)
    entries = (await (await operator.get("/api/v1/audit?subject=user:olga")).json())["items"]
    assert [entry["what"] for entry in entries] == ["user.disabled", "user.role_changed", "user.added"]
    assert LONG not in str(entries)
    shown = await (await operator.get("/audit")).text()
    assert "on call" in shown


async def test_the_last_admin_stays(operator: Web) -> None:  # noqa: F811
    """Nobody can lock everybody out, neither by role nor by disabling."""
    assert (await act(operator, "post_users_name_disable", name="operator"))[0] == 409
    assert (await act(operator, "post_users_name_role", name="operator", role="viewer"))[0] == 409
    assert (await operator.get("/people")).status == 200


async def test_own_password_needs_the_old_one_and_ends_other_logins(operator: Web) -> None:  # noqa: F811
    """The login that changed it goes on; a copy of an older one does not."""
    here = operator.session.cookie_jar.filter_cookies(operator.make_url("/"))["ipa_session"].value
    await enter(operator, "operator", PASSWORD)
    assert (await act(operator, "post_me_password", password_now="wrong", password=LONG))[0] == 403
    assert (await act(operator, "post_me_password", password_now=PASSWORD, password=LONG))[0] == 303
    assert (await operator.get("/api/v1/me")).status == 200
    answer = await operator.session.get(
        operator.make_url("/api/v1/me"), headers={"Cookie": f"ipa_session={here}"}, cookies={}
    )
    await answer.read()
    assert await database_of(operator)["web_sessions"].count_documents({}) == 1


async def test_a_token_is_shown_once(operator: Web) -> None:  # noqa: F811
    """The page after the form shows the secret; it works; deleted, it does not."""
    data = {"csrf": await form_token(operator), "name": "nightly", "scopes": "read", "days": "7"}
    shown = await (await operator.post("/act/post_tokens", data=data)).text()
    secret = shown.split("<code>ipa_")[1].split("</code>")[0]
    headers = {"Authorization": f"Bearer ipa_{secret}"}
    assert (await (await operator.get("/api/v1/me", headers=headers)).json())["permissions"] == ["read"]
    assert secret not in await (await operator.get("/people")).text()
    await act(operator, "delete_tokens_name", name="nightly")
    assert (await operator.get("/api/v1/me", headers=headers)).status == 401


async def test_a_write_with_a_key_happens_once(operator: Web) -> None:  # noqa: F811
    """The same key gives the first answer again; another request under it is refused; a failed one may come again."""
    headers = {"X-CSRF-Token": await form_token(operator), "Idempotency-Key": "k1"}
    body = {"name": "olga", "role": "viewer", "password": "short"}
    assert (await operator.post("/api/v1/users", json=body, headers=headers)).status == 422
    body["password"] = LONG
    first, again = [await operator.post("/api/v1/users", json=body, headers=headers) for _ in range(2)]
    assert (first.status, again.status, again.headers.get("Idempotent-Replayed")) == (201, 201, "true")
    assert await first.read() == await again.read()
    other = await operator.post("/api/v1/users", json=body | {"name": "otto"}, headers=headers)
    assert other.status == 422


async def test_the_command_lets_people_in(operator: Web, mongo_url: str) -> None:  # noqa: F811
    """`ipa users add` with a made or a piped password; the person logs in; `list`, `disable` and a token work."""
    app = operator.app
    assert app is not None
    environment = {
        "IPA_MONGO_URL": mongo_url,
        "IPA_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/",
        "IPA_STORE__DATABASE": app[SETTINGS].store.database,
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "PYTHONPATH": str(ROOT),
    }

    def ipa(*arguments: str, piped: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli", *arguments]
        return subprocess.run(command, env=environment, input=piped, capture_output=True, text=True, timeout=60)

    made = ipa("users", "add", "otto", "--generate").stdout.split("password: ")[1].strip()
    assert await enter(operator, "otto", made) == 303
    added = ipa("users", "add", "olga", "--role", "analyst", piped=f"{LONG}\n")
    assert added.returncode == 0, added.stderr
    refused = ipa("users", "add", "olga", piped=f"{LONG}\n")
    assert (refused.returncode, "taken" in refused.stderr) == (1, True)
    assert await enter(operator, "olga", LONG) == 303
    assert "analyst" in ipa("users", "list").stdout
    secret = ipa("tokens", "add", "cron").stdout.splitlines()[-1]
    assert (await operator.get("/api/v1/me", headers={"Authorization": f"Bearer {secret}"})).status == 200
    assert ipa("users", "disable", "olga").returncode == 0
    assert (await operator.get("/", allow_redirects=False)).status == 303
