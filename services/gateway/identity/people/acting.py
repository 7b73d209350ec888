"""A deed about people: who does it, what is written down of it, and what the database's rules say to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal

import msgspec
import psycopg
from msgspec import Struct
from psycopg import AsyncConnection
from runtime.errors import ForbiddenError, StateConflictError

from services.gateway.errors import LastAdminError, SeatLimitError
from services.gateway.identity.people import _queries
from services.gateway.identity.scopes import can_grant
from services.gateway.identity.tokens import Principal

Category = Literal["create", "update", "delete", "invite", "revoke", "export", "other"]


class Act(Struct, frozen=True, kw_only=True):
    """Somebody does something, now. ip: where they call from; empty: unknown."""

    principal: Principal
    ip: str
    now: datetime

    @property
    def workspace_id(self) -> str:
        """Where."""
        return self.principal.workspace_id

    def check_may_grant(self, role: str) -> None:
        """Raise ForbiddenError when the role has anything that the one who acts has not."""
        if not can_grant(self.principal.scopes, role):
            raise ForbiddenError(
                f"The role {role} may do more than you may, so it is not yours to give or to take.",
                details={"role": role},
            )

    async def write_down(
        self,
        conn: AsyncConnection[Any],
        action: str,
        category: Category,
        target: tuple[str, str],
        **metadata: str | None,
    ) -> None:
        """Add to the audit log, in the transaction of the deed. target: type and id. metadata: ids and words only."""
        await _queries.audit(
            conn,
            actor=self.principal.user_id,
            action=action,
            category=category,
            target_type=target[0],
            target_id=target[1],
            metadata=msgspec.json.encode(metadata).decode(),
            ip=self.ip or None,
        )


@contextmanager
def rules_as_refusals() -> Iterator[None]:
    """Turn what the database's rules raise about memberships into refusals for the caller."""
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        raise StateConflictError("Somebody was faster: that person is there already.") from error
    except psycopg.Error as error:
        match error.sqlstate:
            case "CL001":
                seats = error.diag.message_detail or "0"
                raise SeatLimitError(
                    f"All {seats} seats of the organization are taken. Suspend or remove a member, or get more seats.",
                    details={"limit": "seats", "seats": seats},
                ) from error
            case "CL002":
                raise LastAdminError(
                    "The last owner of the workspace has to stay one. Make another member an owner first."
                ) from error
        raise
