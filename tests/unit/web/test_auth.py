"""Form tokens, destinations after the login, passwords, and what the routes leave open."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from aiohttp import web
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from storage.web_sessions import token_digest
from web.auth import csrf_fits, csrf_token, safe_destination
from web.passwords import _NOBODY, _verify, needs_new_hash
from web.routes import API, FREE_RESOURCES, PAGES, add_routes


@given(st.text(min_size=1, max_size=60), st.text(max_size=60))
def test_form_token_fits_only_its_own_cookie(cookie: str, other: str) -> None:
    """A form token is accepted with the cookie it was made for, and with no other."""
    assert csrf_fits(cookie, csrf_token(cookie)) is True
    assert csrf_fits(other, csrf_token(cookie)) is (other == cookie)


def test_form_token_without_cookie_never_fits() -> None:
    """Without a cookie no token is right, not even the token of the empty cookie."""
    assert [csrf_fits(cookie, csrf_token("")) for cookie in (None, "")] == [False, False]


def test_form_token_of_a_wrong_kind_is_refused() -> None:
    """An uploaded file or a missing field in place of the token is refused without an error."""
    assert [csrf_fits("cookie", token) for token in (None, b"x", 5)] == [False, False, False]


@given(st.one_of(st.text(max_size=80), st.text("/\\:.@ehxt\t\n", max_size=12), st.none()))
def test_destination_stays_on_this_site(wanted: str | None) -> None:
    """Whatever ``next`` says, a browser that follows it stays on this host."""
    destination = safe_destination(wanted)
    assert destination.startswith("/")
    followed = urlsplit(urljoin("http://here.example/login", destination.replace("\\", "/")))
    assert followed.netloc == "here.example"


def test_unknown_person_costs_as_much_as_a_known_one() -> None:
    """The stand-in hash has today's parameters, so checking it takes as long, and no password fits it."""
    assert needs_new_hash(_NOBODY) is False
    assert [_verify(_NOBODY, password) for password in ("", "operator", "A" * 32)] == [False, False, False]


def test_password_fits_its_hash_only() -> None:
    """The right password is accepted; a wrong one and a broken hash are refused without an error."""
    known = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("correct horse")
    tries = [(known, "correct horse"), (known, "correct horse "), ("not a hash", "correct horse")]
    assert [_verify(*tried) for tried in tries] == [True, False, False]


def test_stored_digest_does_not_hold_the_token() -> None:
    """What is stored of a session is a SHA-256, from which the token cannot be read."""
    assert token_digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_every_route_but_the_known_few_needs_a_login() -> None:
    """The only free addresses are the login, the static files, the icon and the two probes."""
    app = web.Application()
    add_routes(app)
    resources = {resource.canonical for resource in app.router.resources()}
    assert resources & FREE_RESOURCES == {"/login", "/static", "/favicon.ico", "/livez", "/readyz", "/openapi.json"}
    assert {*PAGES, *API} <= resources - FREE_RESOURCES
