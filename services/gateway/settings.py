"""What can be configured of the gateway, beyond what every service reads."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta
from runtime.errors import StartError
from runtime.outbound import read_authorities
from runtime.sealing import DEFAULT_JWT_SECRET, SealingSettings

from services.gateway.mail import is_address, read_smtp_url

SECRET_LENGTH_MIN = 32


Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]


class GatewaySettings(SealingSettings, frozen=True, kw_only=True):
    """The gateway's environment.

    jwt_secret_previous: access tokens signed with it are still taken, while secrets are changed.
    cors_origins: origins whose pages may call the API.
    trusted_proxies: networks of the proxies in front, as 10.0.0.0/8; only they are believed about X-Forwarded-For.
    ip_requests_per_minute: of one address without good credentials, or signing in.
    webhook_deliveries_per_minute: of vendors to one connector.
    outbound_allow: networks inside, as 10.0.0.0/8, that workspaces' webhooks may be sent to, also by http.
    outbound_ca_file: file of further authorities (PEM), for all that is asked by TLS, beside those that browsers trust.
    clerk_jwks_url: where the issuer's signing keys are; empty: only USE_MOCK can exchange tokens.
    clerk_audience: required `aud`; empty: not checked.
    clerk_authorized_parties: accepted `azp`; empty: not checked.
    oidc_issuer, oidc_client_id, oidc_client_secret: the platform's own provider for signing in by browser, and at the
        exchange; empty: none.
    causeloop_provision_key_hashes: SHA-256 in hex of every provisioning key that is taken; empty: none is.
    access_token_seconds, refresh_token_days: how long issued tokens live.
    public_url: where people and identity providers reach us; empty: the address that we listen on. Links in letters
        begin with it, passkeys are bound to its host, cookies are Secure when it is https.
    causeloop_data: the data folder. export_folder: where exports are written, which all gateways must see; empty:
        exports in the data folder.
    openai_api_key, openai_base_url: the operator's endpoint for explanations, any that speaks OpenAI's API, inside our
        network or not; either alone is enough, both empty: the evidence explains by itself, unless a workspace brings its own.
    openai_model: the model's name; openai_model_fast, openai_model_balanced, openai_model_deep: of each tier; empty: that.
    openai_allow_local: whether workspaces may name endpoints inside our network, and by http.
    smtp_url: the mail server, smtp://, smtp+starttls:// or smtps://user:password@host:port; empty: letters are caught
        in development, and not sent in production. mail_from: the sender's address, with or without a name.
    """

    jwt_secret_previous: str = ""
    cors_origins: tuple[str, ...] = ("http://localhost:3000",)
    trusted_proxies: tuple[str, ...] = ()
    ip_requests_per_minute: Annotated[int, Meta(ge=1)] = 600
    webhook_deliveries_per_minute: Annotated[int, Meta(ge=1)] = 12_000
    outbound_allow: tuple[str, ...] = ()
    outbound_ca_file: str = ""
    clerk_jwks_url: str = ""
    clerk_audience: str = ""
    clerk_authorized_parties: tuple[str, ...] = ()
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: str = ""
    causeloop_provision_key_hashes: tuple[Sha256, ...] = ()
    access_token_seconds: Annotated[int, Meta(ge=60, le=604_800)] = 3600
    refresh_token_days: Annotated[int, Meta(ge=1, le=365)] = 30

    @property
    def jwt_secrets(self) -> tuple[str, ...]:
        """What access tokens may be signed with, the present secret first."""
        return (self.jwt_secret, self.jwt_secret_previous) if self.jwt_secret_previous else (self.jwt_secret,)

    public_url: Annotated[str, Meta(pattern=r"^(https?://[^\s/?#@]+(/[^\s?#]*)?)?$(?!\n)")] = ""
    smtp_url: str = ""
    mail_from: str = ""
    openai_api_key: str = ""
    openai_base_url: Annotated[str, Meta(pattern=r"^(https?://[^\s/?#@]+(/[^\s?#]*)?)?$(?!\n)")] = ""
    openai_model: Annotated[str, Meta(min_length=1, max_length=100)] = "gpt-4o-mini"
    openai_model_fast: str = ""
    openai_model_balanced: str = ""
    openai_model_deep: str = ""
    openai_allow_local: bool = False
    causeloop_data: Path = Path(".causeloop")
    export_folder: str = ""

    @property
    def has_model(self) -> bool:
        """Whether the operator offers a model."""
        return bool(self.openai_api_key or self.openai_base_url)

    @property
    def openai_models(self) -> dict[str, str]:
        """The operator's model of each tier, by the tier's name."""
        return {
            "fast": self.openai_model_fast or self.openai_model,
            "balanced": self.openai_model_balanced or self.openai_model,
            "deep": self.openai_model_deep or self.openai_model,
        }

    @property
    def authorities(self) -> str:
        """The certificates (PEM) of `outbound_ca_file`. Raises StartError."""
        return read_authorities(self.outbound_ca_file)

    @property
    def exports_at(self) -> Path:
        """Where exports are written."""
        return Path(self.export_folder) if self.export_folder else self.causeloop_data / "exports"

    @property
    def public_address(self) -> str:
        """Where people reach us, without a slash at its end."""
        # A passkey belongs to a name, never to a bare address.
        host = "localhost" if is_loopback(self.host) else f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url.rstrip("/") or f"http://{host}:{self.port}"

    @property
    def is_https(self) -> bool:
        """Whether browsers reach us by https, so that cookies may be Secure."""
        return self.public_address.startswith("https://")

    @property
    def catches_mail(self) -> bool:
        """Whether letters are shown on a page of ours instead of being sent."""
        return not self.smtp_url and not self.is_production and is_loopback(self.host)

    @property
    def trusts_inside(self) -> bool:
        """Whether workspaces may name identity providers inside our network, and by http: on a developer's machine."""
        return not self.is_production and is_loopback(self.host)


def check(settings: GatewaySettings) -> None:
    """Raise StartError when these settings would be unsafe in production, or where others can reach us."""
    if settings.jwt_secret == DEFAULT_JWT_SECRET and not is_loopback(settings.host):
        raise StartError(
            f"HOST={settings.host} can be reached by others, so the default JWT_SECRET is refused."
            " Make one with `openssl rand -base64 48`."
        )
    if settings.use_mock and not is_loopback(settings.host):
        raise StartError(
            f"HOST={settings.host} can be reached by others, so USE_MOCK=1, which accepts any token, is refused."
            " Set HOST=127.0.0.1, or USE_MOCK=0 and an issuer."
        )
    check_mail(settings)
    settings.master_keys()
    _check_addresses(settings)
    _check_networks(settings)
    if not settings.is_production:
        return
    if settings.jwt_secret == DEFAULT_JWT_SECRET or len(settings.jwt_secret) < SECRET_LENGTH_MIN:
        raise StartError(
            f"ENVIRONMENT=production needs a JWT_SECRET of at least {SECRET_LENGTH_MIN} characters that is not"
            " the default. Make one with `openssl rand -base64 48`."
        )
    if settings.jwt_secret_previous and len(settings.jwt_secret_previous) < SECRET_LENGTH_MIN:
        raise StartError(
            f"ENVIRONMENT=production needs a JWT_SECRET_PREVIOUS of at least {SECRET_LENGTH_MIN} characters,"
            " or none."
        )
    if settings.use_mock:
        raise StartError(
            "ENVIRONMENT=production refuses USE_MOCK=1, which accepts any token. Unset one of them."
        )


def check_mail(settings: GatewaySettings) -> None:
    """Raise StartError when no letter could be sent with these settings."""
    if not settings.smtp_url:
        return
    try:
        read_smtp_url(settings.smtp_url)
    except ValueError as error:
        raise StartError(f"{error}.") from error
    if not is_address(settings.mail_from):
        raise StartError("SMTP_URL needs MAIL_FROM, such as Causeloop <causeloop@example.com>.")


def _check_addresses(settings: GatewaySettings) -> None:
    for variable, url in (("PUBLIC_URL", settings.public_url), ("OIDC_ISSUER", settings.oidc_issuer)):
        parts = urlsplit(url)
        if url and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise StartError(f"{variable} is no address such as https://causeloop.example.com.")
        if url and settings.is_production and parts.scheme != "https":
            raise StartError(f"ENVIRONMENT=production needs {variable} to begin with https://.")
    if settings.oidc_issuer and not settings.oidc_client_id:
        raise StartError("OIDC_ISSUER needs OIDC_CLIENT_ID, which its tokens are made out to.")


def _check_networks(settings: GatewaySettings) -> None:
    for variable, networks in (
        ("TRUSTED_PROXIES", settings.trusted_proxies),
        ("OUTBOUND_ALLOW", settings.outbound_allow),
    ):
        for text in networks:
            try:
                ip_network(text)
            except ValueError as error:
                raise StartError(f"{variable} takes networks such as 10.0.0.0/8: {error}.") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; a name other than localhost may be anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
