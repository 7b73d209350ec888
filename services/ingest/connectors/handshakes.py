"""Calls by which a vendor makes sure of us before it delivers: what they are answered. Pure.

Most come before the vendor can sign. Each is harmless without proof: an echo keeps nothing and says no more than that
somebody listens at an address that only whoever has it can know; a secret is taken only while the connector has none,
so it can replace nothing that is believed. What has an effect beyond that, a confirmation, needs proof.
"""

import re
from collections.abc import Mapping
from typing import Final, assert_never

import msgspec
from msgspec import Struct

from services.ingest.connectors.expressions import ExpressionError
from services.ingest.connectors.manifest import (
    Echo,
    GivenSecret,
    Handshake,
    Presence,
    SnsConfirmation,
    Webhook,
)
from services.ingest.connectors.verification import Call

ECHO_LENGTH_MAX: Final = 1_000
SECRET_LENGTHS: Final = range(8, 513)

_CONFIRM_AT: Final = re.compile(
    r"https://sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/\?Action=ConfirmSubscription&[\w=&%:.-]+"
)


class Greeting(Struct, frozen=True, kw_only=True):
    """What the vendor is answered, and what has to be done before that.

    secret: to be kept as the connector's, if it still has none. is_read: a person has to see it once.
    confirm_at: an address to be fetched.
    """

    body: str = ""
    content_type: str = ""
    headers: Mapping[str, str] = {}
    secret: str = ""
    is_read: bool = False
    confirm_at: str = ""


def greet(
    webhook: Webhook, call: Call, payload: object, *, is_proved: bool, has_secret: bool
) -> Greeting | None:
    """The greeting that a call is, by the first of the manifest's handshakes that fits; None: it is none.

    payload: the decoded body; None where there is none. is_proved: the call has been believed; it is asked about once
    before that and once after.
    """
    for handshake in webhook.handshake:
        greeting = _greeting(handshake, call, payload, is_proved=is_proved, has_secret=has_secret)
        if greeting is not None:
            return greeting
    return None


def _greeting(
    handshake: Handshake, call: Call, payload: object, *, is_proved: bool, has_secret: bool
) -> Greeting | None:
    match handshake:
        case Echo():
            return _echo(handshake, call, payload) if is_proved is handshake.is_proved else None
        case Presence():
            return Greeting() if call.method == "HEAD" else None
        case GivenSecret():
            return _given_secret(handshake, call, payload) if not has_secret else None
        case SnsConfirmation():
            return _confirmation(payload) if is_proved else None
        case _:
            assert_never(handshake)


def _echo(handshake: Echo, call: Call, payload: object) -> Greeting | None:
    if call.method != handshake.method:
        return None
    text = call.query.get(handshake.query) if handshake.query else _found(handshake, call, payload)
    if not isinstance(text, str) or not 0 < len(text) <= ECHO_LENGTH_MAX:
        return None
    if handshake.answer is None:
        return Greeting(body=text, content_type="text/plain")
    body = msgspec.json.encode({handshake.answer: text}).decode()
    return Greeting(body=body, content_type="application/json")


def _given_secret(handshake: GivenSecret, call: Call, payload: object) -> Greeting | None:
    secret = _found(handshake, call, payload)
    if not isinstance(secret, str) or len(secret) not in SECRET_LENGTHS:
        return None
    if not (secret.isascii() and secret.isprintable()):
        return None
    headers = {handshake.header: secret} if handshake.header else {}
    return Greeting(headers=headers, secret=secret, is_read=handshake.is_read)


def _confirmation(payload: object) -> Greeting | None:
    if not isinstance(payload, dict) or payload.get("Type") != "SubscriptionConfirmation":
        return None
    address = str(payload.get("SubscribeURL") or "")
    return Greeting(confirm_at=address) if _CONFIRM_AT.fullmatch(address) else None


def _found(handshake: Echo | GivenSecret, call: Call, payload: object) -> object:
    if handshake.header is not None:
        return call.header(handshake.header)
    try:
        return None if handshake.path is None else handshake.path.find(payload)
    except ExpressionError:
        return None
