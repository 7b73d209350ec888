"""How a request is signed in: the manifest's ways, as `requests` wants them."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, assert_never
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from joserfc import jwt
from joserfc.jwk import RSAKey
from requests import PreparedRequest
from requests.auth import AuthBase

from services.ingest.connectors.manifest import (
    ApiKey,
    Auth,
    AuthorizationCode,
    AwsKeys,
    Basic,
    ClientCredentials,
    DatabaseLogin,
    JwtBearer,
    KeyPair,
    NoAuth,
)
from services.ingest.connectors.templates import Values
from services.ingest.errors import VendorError

REGION_OF_GLOBAL_SERVICES: Final = "us-east-1"
SIGNED_FOR: Final = timedelta(minutes=5)


class SigV4(AuthBase):
    """Signature Version 4 as botocore makes it; nothing else of botocore is used."""

    def __init__(self, *, service: str, region: str, key_id: str, secret: str, token: str | None) -> None:
        self._service, self._region = service, region
        self._key_id, self._secret, self._token = key_id, secret, token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """The request, signed; botocore is loaded at the first one."""
        from botocore.auth import SigV4Auth  # type: ignore[import-untyped]  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]  # noqa: PLC0415
        from botocore.credentials import Credentials  # type: ignore[import-untyped]  # noqa: PLC0415

        signed_names = ("content-type", "x-amz-target")
        headers = {name: value for name, value in request.headers.items() if name.lower() in signed_names}
        asked = AWSRequest(method=request.method, url=request.url, data=request.body or b"", headers=headers)
        credentials = Credentials(self._key_id, self._secret, self._token)
        SigV4Auth(credentials, self._service, self._region).add_auth(asked)
        request.headers.update(dict(asked.headers.items()))
        return request


class SignedByUser(AuthBase):
    """A JWT by a user's private key, new for each request, as Snowflake's SQL API takes it.

    account: as in its address; a region behind a dot does not count. private_key: PEM.
    Source: https://docs.snowflake.com/en/developer-guide/sql-api/authenticating.
    Raises VendorError("not_configured") for what is no such key.
    """

    def __init__(self, *, account: str, user: str, private_key: str, passphrase: str) -> None:
        try:
            key = load_pem_private_key(private_key.encode(), passphrase.encode() or None)
            if not isinstance(key, RSAPrivateKey):
                raise TypeError
        except (ValueError, TypeError):
            # Its words may repeat the key.
            raise VendorError(
                "not_configured", "private_key is no RSA key in PEM, or its passphrase is another"
            ) from None
        self._key = RSAKey.import_key(key)
        self._name = f"{account.partition('.')[0]}.{user}".upper()
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._fingerprint = f"SHA256:{b64encode(sha256(public).digest()).decode()}"

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """The request, signed."""
        now = datetime.now(UTC)
        claims = {
            "iss": f"{self._name}.{self._fingerprint}",
            "sub": self._name,
            "iat": now,
            "exp": now + SIGNED_FOR,
        }
        token = jwt.encode({"alg": "RS256", "typ": "JWT"}, claims, self._key)
        request.headers["Authorization"] = f"Bearer {token}"
        request.headers["X-Snowflake-Authorization-Token-Type"] = "KEYPAIR_JWT"
        return request


class Together(AuthBase):
    """Several, one after the other: Datadog wants two headers, Trello two parameters."""

    def __init__(self, parts: Sequence[AuthBase]) -> None:
        self._parts = parts

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """The request, signed by each."""
        for part in self._parts:
            request = part(request)
        return request


def signer(auth: Auth, values: Values, secrets: Mapping[str, str], base_url: str) -> AuthBase | None:
    """What signs in every request; None where nothing is asked.

    Raises VendorError: "not_configured" for a secret that nobody gave, "oauth_expired" for a missing token.
    """
    from dlt.sources.helpers.rest_client.auth import (  # noqa: PLC0415  # dlt is loaded by workers only
        APIKeyAuth,
        BearerTokenAuth,
        HttpBasicAuth,
    )

    match auth:
        case ApiKey():
            headers, params = auth.headers.items(), auth.params.items()
            return Together(
                [
                    *(APIKeyAuth(name=name, api_key=values.text(text)) for name, text in headers),
                    *(APIKeyAuth(name, api_key=values.text(text), location="query") for name, text in params),
                ]
            )
        case Basic():
            return HttpBasicAuth(username=values.text(auth.username), password=values.text(auth.password))
        case AuthorizationCode() | ClientCredentials() | JwtBearer():
            if not secrets.get("access_token"):
                raise VendorError("oauth_expired", "there is no access token; sign in again")
            return BearerTokenAuth(token=secrets["access_token"])
        case AwsKeys():
            return SigV4(
                service=auth.service,
                region=_region(base_url),
                key_id=values.text("{secret.access_key_id}"),
                secret=values.text("{secret.secret_access_key}"),
                token=secrets.get("session_token"),
            )
        case KeyPair():
            return SignedByUser(
                account=values.text(auth.account),
                user=values.text("{secret.username}"),
                private_key=values.text("{secret.private_key}"),
                passphrase=secrets.get("passphrase", ""),
            )
        case NoAuth():
            return None
        case DatabaseLogin():
            raise VendorError("not_configured", "a database is not asked by HTTP")
    assert_never(auth)


def _region(base_url: str) -> str:
    """The region in a host such as monitoring.eu-central-1.amazonaws.com."""
    labels = (urlsplit(base_url).hostname or "").split(".")
    return labels[1] if len(labels) > 3 else REGION_OF_GLOBAL_SERVICES
