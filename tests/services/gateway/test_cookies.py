"""Cookies: who may use them for what, and how they are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.errors import StartError

from services.gateway.edge.cookies import (
    forgotten_session,
    is_from_own_page,
    read_cookies,
    session_cookies,
)
from services.gateway.settings import GatewaySettings, check

OWN = frozenset({"https://causeloop.example"})
METHODS = st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])


@given(method=METHODS, origin=st.text(max_size=40))
def test_what_changes_something_needs_an_origin_of_ours(method: str, origin: str) -> None:
    """Whatever another one looks like, and whatever else the browser says."""
    headers = {b"origin": origin.encode("utf-8", "ignore"), b"sec-fetch-site": b"same-origin"}
    assert is_from_own_page(method, headers, OWN) is (origin.lower() in OWN)
    assert is_from_own_page(method, {b"origin": b"https://causeloop.example"}, OWN)


@pytest.mark.parametrize("site", [None, b"cross-site", b"same-site", b"none", b""])
def test_without_an_origin_only_a_page_of_the_same_origin_counts(site: bytes | None) -> None:
    """An old browser that says nothing is refused; reading is free."""
    headers = {} if site is None else {b"sec-fetch-site": site}
    assert not is_from_own_page("POST", headers, OWN)
    assert is_from_own_page("POST", {b"sec-fetch-site": b"same-origin"}, OWN)
    assert is_from_own_page("GET", headers, OWN)


def test_what_others_have_set_does_not_hide_ours() -> None:
    """Broken cookies of another application on the same host."""
    assert read_cookies(b'a="b;, {"x":1}; causeloop_access=ey.J-_; =; flag') == {
        "a": '"b',
        ', {"x":1}': "",
        "causeloop_access": "ey.J-_",
        "flag": "",
    }
    assert read_cookies(None) == read_cookies(b"") == {}


def test_cookies_are_secure_behind_https_and_go_where_they_are_used() -> None:
    """A forgotten one has the same path, or the browser would keep it."""
    kept = session_cookies("a", "r", access_seconds=60, refresh_seconds=600, is_secure=True)
    assert [(one.path, one.seconds, one.is_secure, one.same_site) for one in kept] == [
        ("/", 60, True, "strict"),
        ("/v1/auth/refresh", 600, True, "strict"),
    ]
    forgotten = forgotten_session(is_secure=True)
    assert [(one.name, one.path) for one in forgotten] == [(one.name, one.path) for one in kept]
    assert {(one.value, one.seconds) for one in forgotten} == {("", 0)}


KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
GOOD = {
    "environment": "production",
    "jwt_secret": "a-secret-for-tests-of-32-characters",
    "causeloop_master_key": KEY,
    "public_url": "https://causeloop.example",
    "oidc_issuer": "https://login.example",
    "oidc_client_id": "causeloop",
}


def settings(**fields: object) -> GatewaySettings:
    urls = dict.fromkeys(("nats_url", "database_url", "database_projector_url"), "")
    return GatewaySettings(**{"port": 4000, **urls, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "variable"),
    [
        ({"causeloop_master_key": ""}, "CAUSELOOP_MASTER_KEY"),
        ({"causeloop_master_key": "c2hvcnQ="}, "CAUSELOOP_MASTER_KEY"),
        ({"causeloop_master_key": "no base64"}, "CAUSELOOP_MASTER_KEY"),
        ({"causeloop_master_key_previous": (KEY, "c2hvcnQ=")}, "CAUSELOOP_MASTER_KEY_PREVIOUS"),
        ({"public_url": "http://causeloop.example"}, "PUBLIC_URL"),
        ({"oidc_issuer": "http://login.example"}, "OIDC_ISSUER"),
        ({"oidc_issuer": "login.example"}, "OIDC_ISSUER"),
        ({"oidc_client_id": ""}, "OIDC_CLIENT_ID"),
    ],
)
def test_production_refuses_to_start_unsafely(fields: dict[str, object], variable: str) -> None:
    """And says which variable it is."""
    check(settings(**GOOD))
    with pytest.raises(StartError, match=variable):
        check(settings(**{**GOOD, **fields}))


def test_the_public_address_is_a_name_that_passkeys_can_belong_to() -> None:
    """Not a bare loopback address."""
    assert settings().public_address == "http://localhost:4000"
    assert settings(host="::1").public_address == "http://localhost:4000"
    assert settings(public_url="https://causeloop.example/").public_address == "https://causeloop.example"
