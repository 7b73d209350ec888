"""WebAuthn ceremonies, pure: what the browser is asked for, and whether its answer is good."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from msgspec import Struct
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
from webauthn.helpers import options_to_json_dict
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from webauthn.registration.verify_registration_response import VerifiedRegistration

from services.gateway.errors import InvalidFactorError

R = TypeVar("R")
_NAME = "Causeloop"


class RelyingParty(Struct, frozen=True):
    """Who asks: the host that passkeys are bound to, and the origins whose pages may ask in its name."""

    id: str
    origins: tuple[str, ...]

    @classmethod
    def at(cls, public_url: str, *, others: Sequence[str] = ()) -> "RelyingParty":
        """The one behind an address; of the other origins those whose host is its own or below it."""
        host = urlsplit(public_url).hostname or ""
        below = (
            origin
            for origin in others
            if (urlsplit(origin).hostname or "") == host
            or (urlsplit(origin).hostname or "").endswith("." + host)
        )
        return cls(host, tuple(dict.fromkeys((origin_of(public_url), *below))))


class Descriptor(Struct, frozen=True):
    """A passkey that the browser may look for."""

    credential_id: bytes
    transports: Sequence[str]


def origin_of(url: str) -> str:
    """Scheme, host and port of an address, as a browser says them."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def registration_options(
    party: RelyingParty, *, user_id: str, email: str, name: str, challenge: bytes, known: Sequence[Descriptor]
) -> Mapping[str, object]:
    """What `navigator.credentials.create({publicKey})` takes, bytes in base64url."""
    options = generate_registration_options(
        rp_id=party.id,
        rp_name=_NAME,
        user_id=user_id.encode(),
        user_name=email,
        user_display_name=name,
        challenge=challenge,
        exclude_credentials=_descriptors(known),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED,
            user_verification=UserVerificationRequirement.PREFERRED,
        ),
    )
    return options_to_json_dict(options)


def authentication_options(
    party: RelyingParty, *, challenge: bytes, known: Sequence[Descriptor]
) -> Mapping[str, object]:
    """What `navigator.credentials.get({publicKey})` takes, bytes in base64url."""
    return options_to_json_dict(
        generate_authentication_options(
            rp_id=party.id, challenge=challenge, allow_credentials=_descriptors(known)
        )
    )


def verify_registration(
    party: RelyingParty, credential: Mapping[str, object], *, challenge: bytes
) -> VerifiedRegistration:
    """The new passkey. Raises InvalidFactorError for any answer but a good one to this challenge."""
    return _verified(
        lambda: verify_registration_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
        )
    )


def verify_authentication(
    party: RelyingParty,
    credential: Mapping[str, object],
    *,
    challenge: bytes,
    public_key: bytes,
    sign_count: int,
) -> VerifiedAuthentication:
    """That the passkey signed this challenge. Raises InvalidFactorError, also when its counter does not rise."""
    return _verified(
        lambda: verify_authentication_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            credential_public_key=public_key,
            credential_current_sign_count=sign_count,
        )
    )


def _verified(check: Callable[[], R]) -> R:
    try:
        return check()
    # The library parses what a stranger sends, and lets errors of its parsers through.
    except Exception as error:  # see above
        raise InvalidFactorError("The passkey's answer is not good for this challenge and origin.") from error


def _descriptors(known: Sequence[Descriptor]) -> list[PublicKeyCredentialDescriptor]:
    ways = {way.value for way in AuthenticatorTransport}
    return [
        PublicKeyCredentialDescriptor(
            id=one.credential_id,
            transports=[AuthenticatorTransport(way) for way in one.transports if way in ways] or None,
        )
        for one in known
    ]
