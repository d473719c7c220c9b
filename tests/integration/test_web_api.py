"""The REST interface on a real mongod: pages, ETags, tokens, roles, and writes that happen once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from storage.api_tokens import ApiToken, add_token
from storage.audit import audit_entry, record_audit
from storage.users import change_role, set_disabled
from storage.web_sessions import token_digest
from tests.integration.test_web import Web, database_of, log_in, operator, stranger  # noqa: F401  fixtures
from tests.web_documents import fill

NOW = datetime.now(UTC)
SECRET = "ipa_" + "t" * 43


async def token(client: Web, *scopes: str, lasts: timedelta = timedelta(days=1)) -> dict[str, str]:
    """The header of a program with a token."""
    made = ApiToken(
        digest=token_digest(SECRET),
        name="nightly",
        scopes=list(scopes),
        made_by="operator",
        created_at=NOW,
        expires_at=NOW + lasts,
    )
    assert await add_token(database_of(client), made)
    return {"Authorization": f"Bearer {SECRET}"}


async def test_lists_come_in_pages_without_gap_or_repeat(operator: Web) -> None:  # noqa: F811
    """Following the cursors shows every attempt once, newest first, also those of the same moment."""
    database = database_of(operator)
    await fill(database, NOW, attempts=60)
    await database["attempts"].update_many(
        {}, [{"$set": {"attempted_at": {"$dateTrunc": {"date": "$attempted_at", "unit": "minute"}}}}]
    )
    seen, cursor = [], None
    while True:
        params = {"limit": "7"} | ({"cursor": cursor} if cursor else {})
        page = await (await operator.get("/api/v1/payments", params=params)).json()
        seen += [(item["attempted_at"], item["_id"]) for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert len(seen) == await database["attempts"].count_documents({})
    assert seen == sorted(set(seen), reverse=True)


async def test_an_unchanged_answer_is_not_sent_again(operator: Web) -> None:  # noqa: F811
    """The ETag of an answer brings 304 without a body; a change brings a new answer."""
    await fill(database_of(operator), NOW, attempts=5)
    first = await operator.get("/api/v1/payments")
    tag = first.headers["ETag"]
    again = await operator.get("/api/v1/payments", headers={"If-None-Match": tag})
    assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
    await database_of(operator)["attempts"].delete_one({})
    assert (await operator.get("/api/v1/payments", headers={"If-None-Match": tag})).status == 200


async def test_bad_parameters_are_told(operator: Web) -> None:  # noqa: F811
    """400 with a problem document that says which parameter, and repeats nothing that was sent."""
    for query in ("limit=0", "limit=201", "limit=x", "cursor=%7B", "status=paid", "nope=1", "limit=1&limit=2"):
        answer = await operator.get(f"/api/v1/payments?{query}")
        assert (answer.status, answer.content_type) == (400, "application/problem+json"), query
        assert "paid" not in await answer.text()
    for query in ("country=IN", "amount=0-10", "arm=a%2Fb"):
        answer = await operator.get(f"/api/v1/routing?{query}")
        assert (answer.status, answer.content_type) == (400, "application/problem+json"), query
    assert (await operator.get("/api/v1/routing?method=card&gateway=alpha")).status == 200


async def test_a_token_opens_what_its_scopes_say(stranger: Web) -> None:  # noqa: F811
    """Programs read with `read`, see no page, and get 403 beyond their scopes and 401 once the token has expired."""
    headers = await token(stranger, "read")
    answers = {
        path: (await stranger.get(path, headers=headers)).status for path in ("/api/v1/overview", "/api/v1/audit", "/")
    }
    assert answers == {"/api/v1/overview": 200, "/api/v1/audit": 403, "/": 403}
    assert (await stranger.get("/api/v1/overview", headers={"Authorization": "Bearer ipa_guess"})).status == 401
    stored = await database_of(stranger)["api_tokens"].find().to_list()
    assert SECRET not in str(stored)
    await database_of(stranger)["api_tokens"].update_one({}, {"$set": {"expires_at": NOW - timedelta(seconds=1)}})
    assert (await stranger.get("/api/v1/overview", headers=headers)).status == 401


async def test_a_role_counts_at_once(operator: Web) -> None:  # noqa: F811
    """A viewer may not read the audit log; a disabled person's open login opens nothing, and a new login fails."""
    database = database_of(operator)
    assert (await operator.get("/api/v1/audit")).status == 200
    await change_role(database, "operator", "viewer")
    assert (await operator.get("/api/v1/audit")).status == 403
    await set_disabled(database, "operator", NOW)
    assert (await operator.get("/api/v1/overview")).status == 401
    assert (await log_in(operator)).status == 401


async def test_the_audit_log_is_read_newest_first(operator: Web) -> None:  # noqa: F811
    """Entries can be looked up by who, what and subject."""
    database = database_of(operator)
    for number in range(5):
        entry = audit_entry(
            NOW + timedelta(seconds=number),
            who="olga" if number % 2 else "anomaly_watcher",
            what="gateway.paused",
            subject=f"gateway:g{number}",
            reason="a test",
            automatic=not number % 2,
        )
        await record_audit(database, entry)
    everything = await (await operator.get("/api/v1/audit")).json()
    assert [entry["subject"] for entry in everything["items"]] == [f"gateway:g{n}" for n in (4, 3, 2, 1, 0)]
    hers = await (await operator.get("/api/v1/audit?who=olga&limit=1")).json()
    assert ([entry["subject"] for entry in hers["items"]], hers["next_cursor"] is None) == (["gateway:g3"], False)


async def test_the_description_is_free_to_read(stranger: Web) -> None:  # noqa: F811
    """A client generator needs no login."""
    answer = await stranger.get("/openapi.json")
    assert (answer.status, (await answer.json())["openapi"]) == (200, "3.1.0")
