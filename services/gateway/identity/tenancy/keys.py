"""Provisioning keys: secrets of whoever runs the platform, known here by their hashes in the environment."""

import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from runtime.errors import UnauthorizedError, UnavailableError

from services.gateway.identity.tokens import Principal

PROVISION_PREFIX: Final = "clp_admin_"
PLATFORM_ID: Final = "platform"
"""What stands where other principals have a workspace."""


def platform(key: str, *, hashes: Sequence[str]) -> Principal:
    """Whoever runs the platform, by a provisioning key.

    Raises UnavailableError when no key is configured, UnauthorizedError for one that is not. Every hash is compared,
    each in constant time, so that the answer's time tells nothing of them.
    """
    if not hashes:
        raise UnavailableError(
            "Provisioning over HTTP is off: CAUSELOOP_PROVISION_KEY_HASHES is empty.", retry_after=3600
        )
    hashed = sha256(key.encode()).hexdigest()
    if not sum(hmac.compare_digest(hashed, known) for known in hashes):
        raise UnauthorizedError("The provisioning key is not known.")
    return Principal(
        workspace_id=PLATFORM_ID,
        organization_id=PLATFORM_ID,
        # Which of the keys it was, for the audit log; of the hash, so it opens nothing.
        user_id=f"key_{hashed[:16]}",
        role="",
        scopes=frozenset(),
        session_id="",
        kind="platform",
        expires_at=datetime.max.replace(tzinfo=UTC),
    )
