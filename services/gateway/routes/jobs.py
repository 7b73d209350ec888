"""Job ids that carry their own job: what has to be reached, signed, so that no table is needed."""

import base64
import binascii

import msgspec
from msgspec import Struct

from services.gateway.identity.tokens import is_signed, sign

PREFIX = "ing_job_"
_SIGNATURE_BYTES = 16


class Job(Struct, frozen=True, array_like=True):
    """An intake of records.

    sequence: what the read model has to reach; 0: nothing was appended.
    issue_id: the last new issue, which is grouped after all others; empty: there is none.
    """

    sequence: int
    accepted: int
    rejected: int
    received_at_ms: int
    issue_id: str


def job_id(job: Job, *, workspace_id: str, secret: str) -> str:
    """The job as a signed id that only its workspace can ask about."""
    payload = msgspec.json.encode(job)
    signature = sign(secret, "job", workspace_id, payload.decode())
    return PREFIX + base64.urlsafe_b64encode(signature + payload).decode().rstrip("=")


def read_job_id(identifier: str, *, workspace_id: str, secret: str) -> Job | None:
    """The job that an id carries; None when it is not ours or of another workspace."""
    if not identifier.startswith(PREFIX):
        return None
    text = identifier.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if is_signed(signature, secret, "job", workspace_id, payload.decode()):
            return msgspec.json.decode(payload, type=Job)
    except (binascii.Error, ValueError):
        pass
    return None
