"""Second factors over HTTP: the gate in front of everything else, and what opens it."""

from typing import Any

import httpx
import pyotp
import pytest
from testkit.stack import Stack

from .authenticator import Authenticator
from .tenants import onboard, sign_in


class Person:
    """Somebody with any number of sessions."""

    def __init__(self, stack: Stack, email: str) -> None:
        self.url = stack.url
        self.origin = f"http://localhost:{stack.services['gateway'].port}"
        self.email = email
        self.clients: list[httpx.Client] = []

    def session(self) -> httpx.Client:
        """A new sign-in."""
        headers = {"Authorization": f"Bearer {sign_in(self.url, self.email)}"}
        self.clients.append(httpx.Client(base_url=self.url, headers=headers, timeout=30))
        return self.clients[-1]


@pytest.fixture
async def person(stack: Stack) -> Any:
    tenant = await onboard(stack.database.owner_url)
    made = Person(stack, tenant.owner_email)
    yield made
    for client in made.clients:
        client.close()


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def enrol(client: httpx.Client) -> tuple[str, list[str]]:
    """A confirmed authenticator app's secret, and the recovery codes."""
    made = client.post("/v1/mfa/totp", json={})
    assert made.status_code == 201, made.text
    secret = made.json()["secret"]
    confirmed = client.post("/v1/mfa/totp/confirm", json={"code": pyotp.TOTP(secret).now()})
    assert confirmed.status_code == 200, confirmed.text
    return secret, confirmed.json()["recovery_codes"]


def test_a_second_factor_is_asked_for_in_every_other_session(person: Person) -> None:
    """At its next request; what takes the factor and what leaves stay open."""
    first, second = person.session(), person.session()
    made = first.post("/v1/api-tokens", json={"name": "ci", "scopes": ["issues:read"]})
    assert second.get("/v1/workspace").status_code == 200
    _, codes = enrol(first)
    assert first.get("/v1/workspace").status_code == 200
    for answer in (
        second.get("/v1/workspace"),
        second.get("/v1/users/me"),
        second.post("/v1/mfa/totp", json={}),
        second.request("DELETE", "/v1/mfa/totp", json={"recovery_code": codes[1]}),
        second.post("/v1/mfa/recovery-codes"),
        second.post("/v1/mfa/passkeys/registration"),
    ):
        assert (answer.status_code, code_of(answer)) == (403, "mfa_required")
    assert second.get("/v1/mfa").json()["required"] is True
    wrong = second.post("/v1/mfa/verify", json={"recovery_code": "a" * 19})
    assert (wrong.status_code, code_of(wrong)) == (422, "invalid_factor")
    given = second.post("/v1/mfa/verify", json={"recovery_code": codes[0]})
    assert given.status_code == 200, given.text
    assert second.get("/v1/workspace").status_code == 200
    third = person.session()
    assert third.get("/v1/workspace").status_code == 403
    assert third.post("/v1/auth/sign-out").status_code == 204
    headers = {"Authorization": f"Bearer {made.json()['secret']}"}
    assert httpx.get(f"{person.url}/v1/issues", headers=headers, timeout=30).status_code == 200
    gone = first.request("DELETE", "/v1/mfa/totp", json={"recovery_code": codes[1]})
    assert (gone.status_code, gone.json()["recovery_codes_left"]) == (200, 0)
    assert person.session().get("/v1/workspace").status_code == 200


def test_a_passkey_opens_a_session(person: Person) -> None:
    """Bound to the host of PUBLIC_URL, which is localhost by default."""
    first = person.session()
    key = Authenticator(person.origin)
    options = first.post("/v1/mfa/passkeys/registration").json()["public_key"]
    assert options["rp"]["id"] == "localhost"
    added = first.post("/v1/mfa/passkeys", json={"name": "Key", "credential": key.create(options)})
    assert added.status_code == 201, added.text
    assert len(added.json()["recovery_codes"]) == 10
    second = person.session()
    assert code_of(second.get("/v1/workspace")) == "mfa_required"
    options = second.post("/v1/mfa/passkeys/authentication").json()["public_key"]
    signed = {"credential": key.get(options)}
    assert second.post("/v1/mfa/passkeys/authentication/verify", json=signed).status_code == 200
    assert second.get("/v1/workspace").status_code == 200
    again = second.post("/v1/mfa/passkeys/authentication/verify", json=signed)
    assert (again.status_code, code_of(again)) == (422, "invalid_factor")
    path = f"/v1/mfa/passkeys/{added.json()['passkey']['id']}"
    assert second.patch(path, json={"name": "Blue"}).json()["name"] == "Blue"
    assert second.delete(path).json()["passkeys"] == []
    assert second.delete(path).status_code == 404


def test_sms_is_refused_with_what_to_use_instead(person: Person) -> None:
    """Clearly."""
    answer = person.session().post("/v1/mfa/totp", json={"factor": "sms"})
    assert (answer.status_code, code_of(answer)) == (422, "unsupported_factor")
    assert "authenticator app" in answer.json()["detail"]


def test_guesses_are_limited_with_a_time_to_wait(person: Person) -> None:
    """Five a minute; the minute may change in between, so up to ten are tried."""
    client = person.session()
    enrol(client)
    answers = [client.post("/v1/mfa/verify", json={"code": "000000"}) for _ in range(11)]
    assert {answer.status_code for answer in answers} == {422, 429}
    limited = next(answer for answer in answers if answer.status_code == 429)
    assert code_of(limited) == "rate_limited"
    assert 1 <= int(limited.headers["retry-after"]) <= 60


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (422, "invalid_factor")),
        ({"code": "123456", "recovery_code": "a" * 19}, (422, "invalid_factor")),
        ({"code": "12345"}, (400, "validation_error")),
    ],
)
def test_one_proof_is_given_at_a_time(
    person: Person, body: dict[str, str], expected: tuple[int, str]
) -> None:
    """Either a code of six digits or a recovery code."""
    answer = person.session().post("/v1/mfa/verify", json=body)
    assert (answer.status_code, code_of(answer)) == expected


def test_an_api_token_has_no_factors(person: Person) -> None:
    """It is nobody who could give one."""
    made = person.session().post("/v1/api-tokens", json={"name": "ci", "scopes": ["issues:read"]})
    headers = {"Authorization": f"Bearer {made.json()['secret']}"}
    for method, path in (("GET", "/v1/mfa"), ("POST", "/v1/mfa/passkeys/registration")):
        answer = httpx.request(method, f"{person.url}{path}", headers=headers, timeout=30)
        assert (answer.status_code, code_of(answer)) == (403, "forbidden")
