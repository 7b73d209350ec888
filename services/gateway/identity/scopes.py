"""Which scopes there are, and which a role has. Roles are cumulative."""

from collections.abc import Mapping
from typing import Final

_READ = (
    "issues:read",
    "patterns:read",
    "predictions:read",
    "recommendations:read",
    "workspace:read",
)
_WORK = (
    "issues:write",
    "patterns:write",
    "predictions:write",
    "recommendations:write",
    "ingest:write",
)
_ADMINISTER = ("workspace:write",)
_OWN = ("workspace:admin",)

ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "viewer": _READ,
    "analyst": (*_READ, *_WORK),
    "admin": (*_READ, *_WORK, *_ADMINISTER),
    "owner": (*_READ, *_WORK, *_ADMINISTER, *_OWN),
}
"""Role → its scopes."""
