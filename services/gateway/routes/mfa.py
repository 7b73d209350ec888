"""Second factors of whoever is signed in: authenticator app, passkeys, recovery codes."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.errors import InvalidFactorError, UnsupportedFactorError
from services.gateway.identity.mfa._queries import Passkey
from services.gateway.identity.mfa.factors import Caller, State
from services.gateway.identity.scopes import SELF
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation

Code = Annotated[str, Meta(pattern=r"^[0-9]{6}$(?!\n)", description="The six digits that the app shows.")]
RecoveryCode = Annotated[
    str, Meta(min_length=16, max_length=40, description="One of the ten codes; good once.")
]
PasskeyName = Annotated[str, Meta(min_length=1, max_length=100, pattern="^[^\\x00]+$")]


class MfaPasskey(Struct, frozen=True, kw_only=True):
    """A passkey."""

    id: str
    name: str
    is_synced: Annotated[bool, Meta(description="Whether its maker copies it to the person's other devices.")]
    created_at: datetime
    last_used_at: datetime | None


class MfaState(Struct, frozen=True, kw_only=True):
    """What is set up, and whether this session has given it."""

    required: Annotated[
        bool, Meta(description="This session owes a factor: until then other routes answer 403 mfa_required.")
    ]
    second_factor_at: Annotated[datetime | None, Meta(description="When this session gave one.")]
    totp_confirmed_at: Annotated[
        datetime | None, Meta(description="Since when the authenticator app counts.")
    ]
    passkeys: tuple[MfaPasskey, ...]
    recovery_codes_left: Annotated[int, Meta(ge=0)]


class TotpEnrolment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which kind of factor to set up."""

    factor: Annotated[
        Literal["totp", "sms"],
        Meta(description="There is no SMS: it can be redirected and phished. `sms` gets a 422 that says so."),
    ] = "totp"


class TotpSecret(Struct, frozen=True, kw_only=True):
    """What an authenticator app is set up with; shown this once."""

    secret: Annotated[str, Meta(description="Base32, for typing in.")]
    otpauth_uri: str
    qr_svg: Annotated[str, Meta(description="The URI as a QR code: a data: URI of an SVG, for an <img>.")]


class TotpConfirmation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first code of a new authenticator app."""

    code: Code


class RecoveryCodes(Struct, frozen=True, kw_only=True):
    """Ten codes for the day the factor is lost; shown this once, only hashes are kept."""

    recovery_codes: tuple[str, ...]


class FactorProof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A code of the app, or a recovery code; exactly one of them."""

    code: Code | UnsetType = UNSET
    recovery_code: RecoveryCode | UnsetType = UNSET


class FactorGiven(Struct, frozen=True, kw_only=True):
    """That the session has its second factor now."""

    second_factor_at: datetime


class PasskeyOptions(Struct, frozen=True, kw_only=True):
    """What to hand to the browser within five minutes; good for one answer."""

    public_key: Annotated[
        dict[str, object],
        Meta(description="For navigator.credentials.create or get, bytes in base64url (parse…FromJSON)."),
    ]


class NewPasskey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A passkey that the browser made."""

    name: PasskeyName
    credential: Annotated[
        dict[str, object], Meta(description="PublicKeyCredential.toJSON() of navigator.credentials.create.")
    ]


class PasskeyProof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A passkey's signature."""

    credential: Annotated[
        dict[str, object], Meta(description="PublicKeyCredential.toJSON() of navigator.credentials.get.")
    ]


class AddedPasskey(Struct, frozen=True, kw_only=True):
    """The passkey, and the recovery codes if there were none before."""

    passkey: MfaPasskey
    recovery_codes: tuple[str, ...]


class PasskeyChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A passkey's new name."""

    name: PasskeyName


def _caller(call: Call[NoQuery, object]) -> Caller:
    return Caller(call.principal, call.ip)


def _look_again(gateway: Gateway, call: Call[NoQuery, object]) -> None:
    """What the session may do has changed, from its next request on."""
    gateway.access.forget(call.principal.session_id, call.principal.user_id)


def _shown(passkey: Passkey) -> MfaPasskey:
    return MfaPasskey(
        id=passkey.passkey_id,
        name=passkey.name,
        is_synced=passkey.is_synced,
        created_at=passkey.created_at,
        last_used_at=passkey.last_used_at,
    )


def _state(state: State) -> MfaState:
    return MfaState(
        required=state.is_owed,
        second_factor_at=state.second_factor_at,
        totp_confirmed_at=state.totp_confirmed_at,
        passkeys=tuple(_shown(passkey) for passkey in state.passkeys),
        recovery_codes_left=state.n_recovery_codes,
    )


def _proof(body: FactorProof) -> tuple[str | None, str | None]:
    """The code or the recovery code. Raises InvalidFactorError for both or none."""
    code = None if body.code is UNSET else body.code
    recovery_code = None if body.recovery_code is UNSET else body.recovery_code
    if (code is None) == (recovery_code is None):
        raise InvalidFactorError(
            "Send either code or recovery_code.", details={"code": "either this or recovery_code"}
        )
    return code, recovery_code


async def get_state(gateway: Gateway, call: Call[NoQuery, None]) -> MfaState:
    """What is set up."""
    return _state(await gateway.factors.state(_caller(call)))


async def enrol_totp(gateway: Gateway, call: Call[NoQuery, TotpEnrolment]) -> TotpSecret:
    """A secret for an authenticator app."""
    if call.body.factor == "sms":
        raise UnsupportedFactorError(
            "Codes are not sent by SMS. Use an authenticator app (totp) or a passkey.",
            details={"factor": "use totp here, or POST /v1/mfa/passkeys/registration"},
        )
    made = await gateway.factors.enrol_totp(_caller(call))
    return TotpSecret(secret=made.secret, otpauth_uri=made.uri, qr_svg=made.qr)


async def confirm_totp(gateway: Gateway, call: Call[NoQuery, TotpConfirmation]) -> RecoveryCodes:
    """Recovery codes for a confirmed authenticator app."""
    codes = await gateway.factors.confirm_totp(_caller(call), call.body.code)
    _look_again(gateway, call)
    return RecoveryCodes(recovery_codes=codes)


async def remove_totp(gateway: Gateway, call: Call[NoQuery, FactorProof]) -> MfaState:
    """What is left without the authenticator app."""
    code, recovery_code = _proof(call.body)
    await gateway.factors.remove_totp(_caller(call), code=code, recovery_code=recovery_code)
    _look_again(gateway, call)
    return _state(await gateway.factors.state(_caller(call)))


async def verify(gateway: Gateway, call: Call[NoQuery, FactorProof]) -> FactorGiven:
    """The session with its second factor."""
    code, recovery_code = _proof(call.body)
    given_at = await gateway.factors.give(_caller(call), code=code, recovery_code=recovery_code)
    _look_again(gateway, call)
    return FactorGiven(second_factor_at=given_at)


async def renew_codes(gateway: Gateway, call: Call[NoQuery, None]) -> RecoveryCodes:
    """New recovery codes."""
    return RecoveryCodes(recovery_codes=await gateway.factors.renew_codes(_caller(call)))


async def begin_passkey(gateway: Gateway, call: Call[NoQuery, None]) -> PasskeyOptions:
    """Options for a new passkey."""
    return PasskeyOptions(public_key=dict(await gateway.factors.begin_passkey(_caller(call))))


async def add_passkey(gateway: Gateway, call: Call[NoQuery, NewPasskey]) -> AddedPasskey:
    """The new passkey."""
    passkey, codes = await gateway.factors.add_passkey(
        _caller(call), call.body.credential, name=call.body.name
    )
    _look_again(gateway, call)
    return AddedPasskey(passkey=_shown(passkey), recovery_codes=codes)


async def ask_passkey(gateway: Gateway, call: Call[NoQuery, None]) -> PasskeyOptions:
    """Options for a passkey's signature."""
    return PasskeyOptions(public_key=dict(await gateway.factors.ask_passkey(_caller(call))))


async def give_passkey(gateway: Gateway, call: Call[NoQuery, PasskeyProof]) -> FactorGiven:
    """The session with its second factor."""
    given_at = await gateway.factors.give_passkey(_caller(call), call.body.credential)
    _look_again(gateway, call)
    return FactorGiven(second_factor_at=given_at)


async def rename_passkey(gateway: Gateway, call: Call[NoQuery, PasskeyChange]) -> MfaPasskey:
    """The passkey under its new name."""
    return _shown(
        await gateway.factors.rename_passkey(_caller(call), call.path["passkey_id"], name=call.body.name)
    )


async def remove_passkey(gateway: Gateway, call: Call[NoQuery, None]) -> MfaState:
    """What is left without the passkey."""
    await gateway.factors.remove_passkey(_caller(call), call.path["passkey_id"])
    _look_again(gateway, call)
    return _state(await gateway.factors.state(_caller(call)))


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="getMfa",
        method="GET",
        path="/v1/mfa",
        tag="MFA",
        summary="Show which second factors are set up.",
        scope=SELF,
        of_the_person=True,
        without_second_factor=True,
        replies={200: MfaState},
        handle=get_state,
    ),
    Operation(
        id="enrolTotp",
        method="POST",
        path="/v1/mfa/totp",
        tag="MFA",
        summary="Begin to set up an authenticator app.",
        description="It counts once its first code is confirmed; until then a second call makes a new secret.",
        scope=SELF,
        of_the_person=True,
        body=TotpEnrolment,
        replies={201: TotpSecret},
        refusals=(409, 422),
        handle=enrol_totp,
    ),
    Operation(
        id="confirmTotp",
        method="POST",
        path="/v1/mfa/totp/confirm",
        tag="MFA",
        summary="Confirm the authenticator app with its first code.",
        scope=SELF,
        of_the_person=True,
        body=TotpConfirmation,
        replies={200: RecoveryCodes},
        refusals=(404, 409, 422, 429),
        handle=confirm_totp,
    ),
    Operation(
        id="removeTotp",
        method="DELETE",
        path="/v1/mfa/totp",
        tag="MFA",
        summary="Remove the authenticator app, against a code.",
        scope=SELF,
        of_the_person=True,
        body=FactorProof,
        replies={200: MfaState},
        refusals=(404, 422, 429),
        handle=remove_totp,
    ),
    Operation(
        id="verifyMfa",
        method="POST",
        path="/v1/mfa/verify",
        tag="MFA",
        summary="Give this session its second factor by a code.",
        description="A code is taken once, within one step of 30 seconds of the clock; five attempts a minute.",
        scope=SELF,
        of_the_person=True,
        without_second_factor=True,
        body=FactorProof,
        replies={200: FactorGiven},
        refusals=(404, 422, 429),
        handle=verify,
    ),
    Operation(
        id="renewRecoveryCodes",
        method="POST",
        path="/v1/mfa/recovery-codes",
        tag="MFA",
        summary="Replace the recovery codes.",
        scope=SELF,
        of_the_person=True,
        replies={201: RecoveryCodes},
        refusals=(404,),
        handle=renew_codes,
    ),
    Operation(
        id="beginPasskey",
        method="POST",
        path="/v1/mfa/passkeys/registration",
        tag="MFA",
        summary="Begin to add a passkey.",
        scope=SELF,
        of_the_person=True,
        replies={200: PasskeyOptions},
        refusals=(409,),
        handle=begin_passkey,
    ),
    Operation(
        id="addPasskey",
        method="POST",
        path="/v1/mfa/passkeys",
        tag="MFA",
        summary="Add the passkey that the browser made.",
        scope=SELF,
        of_the_person=True,
        body=NewPasskey,
        replies={201: AddedPasskey},
        refusals=(409, 422),
        handle=add_passkey,
    ),
    Operation(
        id="askPasskey",
        method="POST",
        path="/v1/mfa/passkeys/authentication",
        tag="MFA",
        summary="Begin to give the second factor by a passkey.",
        scope=SELF,
        of_the_person=True,
        without_second_factor=True,
        replies={200: PasskeyOptions},
        refusals=(404,),
        handle=ask_passkey,
    ),
    Operation(
        id="givePasskey",
        method="POST",
        path="/v1/mfa/passkeys/authentication/verify",
        tag="MFA",
        summary="Give this session its second factor by a passkey.",
        scope=SELF,
        of_the_person=True,
        without_second_factor=True,
        body=PasskeyProof,
        replies={200: FactorGiven},
        refusals=(422,),
        handle=give_passkey,
    ),
    Operation(
        id="renamePasskey",
        method="PATCH",
        path="/v1/mfa/passkeys/{passkey_id}",
        tag="MFA",
        summary="Rename a passkey.",
        scope=SELF,
        of_the_person=True,
        body=PasskeyChange,
        replies={200: MfaPasskey},
        handle=rename_passkey,
    ),
    Operation(
        id="removePasskey",
        method="DELETE",
        path="/v1/mfa/passkeys/{passkey_id}",
        tag="MFA",
        summary="Remove a passkey.",
        scope=SELF,
        of_the_person=True,
        replies={200: MfaState},
        handle=remove_passkey,
    ),
)
