"""What can be configured of the gateway, beyond what every service reads."""

from ipaddress import ip_address
from typing import Annotated

from msgspec import Meta
from runtime.errors import StartError
from runtime.settings import ServiceSettings

DEFAULT_JWT_SECRET = "dev-secret-change-me"  # noqa: S105  # refused in production, see check()
SECRET_LENGTH_MIN = 32


class GatewaySettings(ServiceSettings, frozen=True, kw_only=True):
    """The gateway's environment.

    jwt_secret: signs access tokens, cursors and job ids.
    cors_origins: origins whose pages may call the API.
    clerk_jwks_url: where the issuer's signing keys are; empty: only USE_MOCK can exchange tokens.
    clerk_audience: required `aud`; empty: not checked.
    clerk_authorized_parties: accepted `azp`; empty: not checked.
    access_token_seconds, refresh_token_days: how long issued tokens live.
    """

    jwt_secret: str = DEFAULT_JWT_SECRET
    cors_origins: tuple[str, ...] = ("http://localhost:3000",)
    clerk_jwks_url: str = ""
    clerk_audience: str = ""
    clerk_authorized_parties: tuple[str, ...] = ()
    access_token_seconds: Annotated[int, Meta(ge=60, le=604_800)] = 259_200
    refresh_token_days: Annotated[int, Meta(ge=1, le=365)] = 30

    @property
    def is_production(self) -> bool:
        """Whether the development fall-backs are off."""
        return self.environment == "production"


def check(settings: GatewaySettings) -> None:
    """Raise StartError when these settings would be unsafe in production, or where others can reach us."""
    if settings.jwt_secret == DEFAULT_JWT_SECRET and not _is_loopback(settings.host):
        raise StartError(
            f"HOST={settings.host} can be reached by others, so the default JWT_SECRET is refused."
            " Make one with `openssl rand -base64 48`."
        )
    if not settings.is_production:
        return
    if settings.jwt_secret == DEFAULT_JWT_SECRET or len(settings.jwt_secret) < SECRET_LENGTH_MIN:
        raise StartError(
            f"ENVIRONMENT=production needs a JWT_SECRET of at least {SECRET_LENGTH_MIN} characters that is not"
            " the default. Make one with `openssl rand -base64 48`."
        )
    if settings.use_mock:
        raise StartError(
            "ENVIRONMENT=production refuses USE_MOCK=1, which accepts any token. Unset one of them."
        )


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; a name other than localhost may be anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
