"""What a webhook is sent: the closed list of events, the envelope and its signatures. Pure."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from hmac import digest
from secrets import token_bytes
from typing import Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

EventType: TypeAlias = Literal[
    "issue.created",
    "issue.status.changed",
    "pattern.detected",
    "prediction.created",
    "prediction.alert.fired",
    "recommendation.created",
    "recommendation.status.changed",
    "fix.verified",
    "fix.disproved",
    "connector.sync.succeeded",
    "connector.sync.failed",
]
EVENT_TYPES: Final[tuple[str, ...]] = get_args(EventType)
"""What can be chosen; a new one is added, none is taken away."""
OF_CONNECTORS: Final[frozenset[str]] = frozenset(
    name for name in EVENT_TYPES if name.startswith(("issue.", "connector."))
)
"""Those that come of one connector, so that a webhook can be about that one."""
TEST_TYPE: Final = "webhook.test"

SECRET_BYTES: Final = 32
_PREFIX: Final = "whsec_"


class Envelope(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every call.

    id: of the event, the same for every webhook and every attempt. created_at: when it was recorded.
    connector_id: whose event it is; absent where it is no connector's. data: the resource as GET shows it, at the time
        of sending.
    """

    id: str
    type: str
    workspace_id: str
    connector_id: str | None = None
    created_at: datetime
    data: Mapping[str, object]

    def body(self) -> bytes:
        """The exact bytes that are signed and sent."""
        return msgspec.json.encode(self)


def new_secret() -> str:
    """`whsec_` and 32 random bytes in base64, as Standard Webhooks has it."""
    return f"{_PREFIX}{b64encode(token_bytes(SECRET_BYTES)).decode()}"


def headers_of(
    body: bytes, *, event_id: str, event_type: str, delivery_id: str, at: datetime, secrets: Sequence[str]
) -> dict[str, str]:
    """What goes with a body: by https://www.standardwebhooks.com, and as our own inbound webhooks are signed.

    secrets: the present one first, then the one before as long as it signs too.
    """
    second = str(int(at.timestamp()))
    signed = b".".join((event_id.encode(), second.encode(), body))
    tokens = [b64encode(digest(_key(secret), signed, sha256)).decode() for secret in secrets]
    ours = [digest(secret.encode(), body, sha256).hex() for secret in secrets]
    headers = {
        "content-type": "application/json",
        "user-agent": "Causeloop-Webhooks/1",
        "webhook-id": event_id,
        "webhook-timestamp": second,
        "webhook-signature": " ".join(f"v1,{token}" for token in tokens),
        "x-causeloop-event": event_type,
        "x-causeloop-delivery": delivery_id,
        "x-causeloop-timestamp": second,
        "x-causeloop-signature": ours[0],
    }
    if len(ours) > 1:
        headers["x-causeloop-signature-previous"] = ours[1]
    return headers


def _key(secret: str) -> bytes:
    return b64decode(secret.removeprefix(_PREFIX), validate=True)
