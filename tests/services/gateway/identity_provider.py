"""A real OpenID Connect provider over HTTP: oidc-provider-mock, which here also insists on PKCE."""

import os
import secrets
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

import flask
import httpx
import oidc_provider_mock
from authlib import jose
from werkzeug.serving import make_server

# The library that the provider is made of insists on https otherwise.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

CLIENT_ID = "causeloop"
CLIENT_SECRET = "the secret/of causeloop"
REDIRECT_URI = "http://localhost/v1/auth/callback"


class IdentityProvider:
    """Runs until closed. token_age: of the tokens it makes; negative: they have expired already."""

    def __init__(self, *, token_age: timedelta = timedelta(hours=1)) -> None:
        self._app = oidc_provider_mock.app(access_token_max_age=token_age)
        self._challenges: dict[str, str] = {}
        self._server = make_server("localhost", 0, self._with_pkce, threaded=True)
        self.issuer = f"http://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def know(self, email: str, *, is_verified: bool = True, **claims: Any) -> str:
        """Make somebody known; their subject, which is not their address."""
        subject = f"subject-{secrets.token_hex(6)}"
        known = {"email": email, "email_verified": is_verified, "name": "Ada Lovelace", **claims}
        self.describe(subject, **known)
        return subject

    def describe(self, subject: str, **claims: Any) -> None:
        """Say this, and nothing else, of a subject."""
        httpx.put(f"{self.issuer}/users/{subject}", json=claims, timeout=30).raise_for_status()

    def rotate(self) -> None:
        """Sign with a new key, and publish only that one."""
        with self._app.test_request_context():
            self._app.preprocess_request()
            flask.g.oidc_provider_mock_storage.jwk = jose.RSAKey.generate_key(is_private=True)

    def consent(self, address: str, subject: str, **changed: str) -> str:
        """Sign in at the authorization endpoint; where the browser is sent back to.

        changed: parameters that somebody tampers with on the way.
        """
        parts = urlsplit(address)
        query = urlencode({**dict(parse_qsl(parts.query)), **changed})
        answer = httpx.post(urlunsplit(parts._replace(query=query)), data={"sub": subject}, timeout=30)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def id_token(self, subject: str, *, client_id: str = CLIENT_ID) -> str:
        """A token that the provider makes out to a client."""
        verifier = secrets.token_urlsafe(48)
        asked = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": "openid email profile",
            "nonce": "n",
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        location = self.consent(f"{self.issuer}/oauth2/authorize?{urlencode(asked)}", subject)
        form = {
            "grant_type": "authorization_code",
            "code": parse_qs(urlsplit(location).query)["code"][0],
            "redirect_uri": REDIRECT_URI,
            "code_verifier": verifier,
        }
        answer = httpx.post(f"{self.issuer}/oauth2/token", data=form, auth=(client_id, "x"), timeout=30)
        return str(answer.json()["id_token"])

    def _with_pkce(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """The provider, and what RFC 7636 asks of it, which it leaves out."""
        if environ["PATH_INFO"] == "/oauth2/authorize" and environ["REQUEST_METHOD"] == "POST":
            asked = parse_qs(environ["QUERY_STRING"])
            assert asked["code_challenge_method"] == ["S256"]

            def remember(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
                sent = parse_qs(urlsplit(dict(headers).get("Location", "")).query)
                if "code" in sent:
                    self._challenges[sent["code"][0]] = asked["code_challenge"][0]
                return start(status, headers, *rest)

            return self._app(environ, remember)
        if environ["PATH_INFO"] == "/oauth2/token":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = BytesIO(body)
            form = parse_qs(body.decode())
            expected = self._challenges.get(form["code"][0])
            if expected is not None and challenge_of(form.get("code_verifier", [""])[0]) != expected:
                start("400 Bad Request", [("Content-Type", "application/json")])
                return [b'{"error": "invalid_grant"}']
        return self._app(environ, start)


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a code verifier."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
