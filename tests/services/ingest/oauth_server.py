"""A vendor's authorization server over HTTP, made of Authlib's server part: PKCE, refresh tokens that rotate, three grants."""

import os
import threading
from functools import cache
from time import sleep
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import flask
import httpx
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin
from authlib.oauth2.rfc6749 import grants as standard
from authlib.oauth2.rfc6749.models import AuthorizationCodeMixin
from authlib.oauth2.rfc7523 import JWTBearerGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from joserfc.jwk import RSAKey
from werkzeug.serving import make_server

CLIENT_ID = "causeloop-at-vendor"
CLIENT_SECRET = "planted-client-secret/+ of causeloop"
METHODS = ("client_secret_basic", "client_secret_post")
ACCOUNT = "robot@project.example"
REDIRECT_URI = "https://causeloop.example/v1/connectors/oauth/callback"

# Its library insists on https otherwise.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"


@cache
def _key() -> RSAKey:
    """One for all servers: making it takes a quarter of a second of processor."""
    return RSAKey.generate_key(2048)


class _Client(ClientMixin):
    def __init__(self, client_id: str, secret: str) -> None:
        self.client_id, self.secret = client_id, secret

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        return REDIRECT_URI

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == REDIRECT_URI

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in {"client_secret_post", "client_secret_basic"}

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return True


class _Code(AuthorizationCodeMixin):
    def __init__(self, request: Any) -> None:
        self.redirect_uri = request.payload.redirect_uri
        self.scope = request.payload.scope
        self.code_challenge = request.payload.data.get("code_challenge")
        self.code_challenge_method = request.payload.data.get("code_challenge_method")

    def get_redirect_uri(self) -> Any:
        return self.redirect_uri

    def get_scope(self) -> Any:
        return self.scope


class _Token(TokenMixin):
    def __init__(self, scope: str) -> None:
        self.scope = scope

    def check_client(self, client: Any) -> bool:
        return bool(client.client_id == CLIENT_ID)

    def get_scope(self) -> str:
        return self.scope

    def is_expired(self) -> bool:
        return False

    def is_revoked(self) -> bool:
        return False


class OAuthServer:
    """Runs until closed.

    expires_in: life of the tokens that it gives; None: it does not say. extras: what its answers hold beside them.
    delay: seconds that it takes for an answer. failure: status and body that it answers instead.
    forms: what was sent to the token endpoint. refreshes: how often a refresh token was taken.
    """

    def __init__(self) -> None:
        self.expires_in: int | None = 3600
        self.extras: dict[str, str] = {}
        self.delay = 0.0
        self.failure: tuple[int, str] | None = None
        self.forms: list[dict[str, str]] = []
        self.authorizations: list[str] = []
        self.refreshes = 0
        self.issued: set[str] = set()
        self.key = _key()
        self._codes: dict[str, _Code] = {}
        self._refresh_tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()
        app = flask.Flask(__name__)
        app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
        self._server = AuthorizationServer(app, self._client, self._save)
        self._register()
        app.add_url_rule("/authorize", view_func=self._authorize, methods=["GET"])
        app.add_url_rule("/token", view_func=self._token, methods=["POST"])
        self._http = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def agree(self, url: str) -> dict[str, str]:
        """What a browser brings back when a person agrees: code and state."""
        answer = httpx.get(url, timeout=30)
        assert answer.status_code == 302, answer.text
        location = urlsplit(answer.headers["location"])
        assert f"{location.scheme}://{location.netloc}{location.path}" == REDIRECT_URI
        return {name: values[0] for name, values in parse_qs(location.query).items()}

    def revoke(self) -> None:
        """Take no refresh token any more."""
        self._refresh_tokens.clear()

    def _client(self, client_id: str) -> _Client | None:
        return _Client(CLIENT_ID, CLIENT_SECRET) if client_id == CLIENT_ID else None

    def _save(self, token: dict[str, Any], request: Any) -> None:
        token.pop("expires_in", None)
        if self.expires_in is not None:
            token["expires_in"] = self.expires_in
        token.update(self.extras)
        self.issued.add(token["access_token"])
        if "refresh_token" in token:
            self._refresh_tokens[token["refresh_token"]] = _Token(token.get("scope", ""))

    def _authorize(self) -> Any:
        self.authorizations.append(flask.request.url)
        grant = self._server.get_consent_grant(end_user=self)
        return self._server.create_authorization_response(grant=grant, grant_user=self)

    def _token(self) -> Any:
        form = flask.request.form.to_dict()
        self.forms.append(form)
        sleep(self.delay)
        if self.failure is not None:
            status, body = self.failure
            return flask.Response(
                body.replace("{form}", urlencode(form)), status, content_type="application/json"
            )
        with self._lock:
            return self._server.create_token_response()

    def _register(self) -> None:
        vendor = self

        class Code(standard.AuthorizationCodeGrant):
            TOKEN_ENDPOINT_AUTH_METHODS = METHODS

            def save_authorization_code(self, code: str, request: Any) -> None:
                vendor._codes[code] = _Code(request)

            def query_authorization_code(self, code: str, client: Any) -> Any:
                return vendor._codes.get(code)

            def delete_authorization_code(self, authorization_code: Any) -> None:
                vendor._codes = {
                    c: kept for c, kept in vendor._codes.items() if kept is not authorization_code
                }

            def authenticate_user(self, authorization_code: Any) -> Any:
                return vendor

        class Refresh(standard.RefreshTokenGrant):
            TOKEN_ENDPOINT_AUTH_METHODS = METHODS
            INCLUDE_NEW_REFRESH_TOKEN = True

            def authenticate_refresh_token(self, refresh_token: str) -> Any:
                return vendor._refresh_tokens.pop(refresh_token, None)

            def authenticate_user(self, refresh_token: Any) -> Any:
                return vendor

            def revoke_old_credential(self, refresh_token: Any) -> None:
                vendor.refreshes += 1

        class Machine(standard.ClientCredentialsGrant):
            TOKEN_ENDPOINT_AUTH_METHODS = METHODS

        class Account(JWTBearerGrant):
            def resolve_issuer_client(self, issuer: str) -> Any:
                return _Client(CLIENT_ID, CLIENT_SECRET) if issuer == ACCOUNT else None

            def resolve_client_public_key(self, client: Any) -> Any:
                return vendor.key

            def get_audiences(self) -> list[str]:
                return [f"{vendor.url}/token"]

        self._server.register_grant(Code, [CodeChallenge(required=True)])
        for grant in (Refresh, Machine, Account):
            self._server.register_grant(grant)
