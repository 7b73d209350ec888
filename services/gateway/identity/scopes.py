"""The one table of scopes: what each opens, and which role has it. docs/reference/scopes.md is written from it."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

from msgspec import Struct

Tab: TypeAlias = Literal["Data", "Integrations", "Workspace", "AI & Reports", "Admin"]

SELF: Final = "self"
"""An operation's scope when it is about the caller alone: a signed-in person of any role; no API token."""
ANYBODY: Final = "any"
"""An operation's scope when every token that is good is enough."""
PLATFORM: Final = "platform"
"""An operation's scope when it is for whoever runs the platform: a provisioning key, which opens nothing else."""


class Scope(Struct, frozen=True):
    """A permission. tab: where the page of API tokens lists it."""

    name: str
    tab: Tab
    description: str


class Role(Struct, frozen=True):
    """A bundle of scopes that a membership has.

    rank: for ordering; what one may grant is told by `can_grant`, since some bundles lie beside each other.
    """

    name: str
    label: str
    rank: int
    scopes: frozenset[str]


SCOPES: Final[Mapping[str, Scope]] = {
    scope.name: scope
    for scope in (
        Scope("issues:read", "Data", "Read issues, their history and what is alike."),
        Scope("issues:write", "Data", "Report, change, close, link and analyse issues."),
        Scope("patterns:read", "Data", "Read patterns, their members and their frequency."),
        Scope("patterns:write", "Data", "Rename, merge and close patterns; recompute clusters."),
        Scope("predictions:read", "Data", "Read predictions and how good they were."),
        Scope("predictions:write", "Data", "Dismiss predictions; change alert rules."),
        Scope("recommendations:read", "Data", "Read recommendations and the playbook."),
        Scope(
            "recommendations:write",
            "Data",
            "Accept, dismiss and finish recommendations; change the playbook.",
        ),
        Scope("ingest:write", "Integrations", "Send events and batches of issues."),
        Scope("connectors:read", "Integrations", "Read connectors, their runs and the catalogue of sources."),
        Scope("connectors:write", "Integrations", "Add, test and run connectors."),
        Scope(
            "connectors:admin", "Integrations", "Change credentials and schedules of connectors; delete them."
        ),
        Scope(
            "webhooks:admin",
            "Integrations",
            "Manage outbound and inbound webhooks: so send any event anywhere, and give a connector another webhook secret.",
        ),
        Scope("workspace:read", "Workspace", "Read the workspace, its settings and its onboarding."),
        Scope("workspace:write", "Workspace", "Change the workspace, its settings and its onboarding."),
        Scope(
            "workspace:admin", "Workspace", "Change how long data is kept, and what else cannot be undone."
        ),
        Scope("members:read", "Workspace", "List members, invitations and roles."),
        Scope("members:write", "Workspace", "Invite people, suspend them, change roles."),
        Scope("members:admin", "Workspace", "Remove members."),
        Scope("reports:read", "AI & Reports", "Read reports."),
        Scope("reports:write", "AI & Reports", "Make and schedule reports."),
        Scope("tokens:read", "Admin", "List one's own API tokens."),
        Scope("tokens:write", "Admin", "Make, rotate and revoke one's own API tokens."),
        Scope("service_accounts:read", "Admin", "List service accounts and their tokens."),
        Scope("service_accounts:write", "Admin", "Manage service accounts and their tokens."),
        Scope("audit:read", "Admin", "Read, verify and export the audit log."),
        Scope("governance:read", "Admin", "Read exports and erasure requests."),
        Scope("governance:write", "Admin", "Export the workspace; decide on erasure requests."),
        Scope("workspace.compliance:read", "Admin", "Read the retention policy."),
        Scope("workspace.compliance:write", "Admin", "Change the retention policy."),
        Scope("sso:admin", "Admin", "Manage single sign-on connections and enforce them."),
        Scope("scim:write", "Admin", "Provision members and groups by SCIM."),
        Scope("organization:admin", "Admin", "Manage the organization and its plan."),
    )
}
"""Every scope by name."""

_SUMMARY = frozenset({"workspace:read", "patterns:read", "predictions:read"})
_LEAD = _SUMMARY | {"recommendations:read", "reports:read"}
_VIEW = _LEAD | {"connectors:read", "issues:read", "members:read", "tokens:read", "tokens:write"}
_WORK = _VIEW | {
    "issues:write",
    "patterns:write",
    "predictions:write",
    "recommendations:write",
    "ingest:write",
    "connectors:write",
    "reports:write",
}
_GOVERN = frozenset(
    {
        "audit:read",
        "governance:read",
        "governance:write",
        "workspace.compliance:read",
        "workspace.compliance:write",
    }
)
_SECURE = frozenset({"audit:read", "members:write", "service_accounts:read", "service_accounts:write"})
_ADMINISTER = (
    _WORK
    | _GOVERN
    | _SECURE
    | {"workspace:write", "workspace:admin", "members:admin", "connectors:admin", "webhooks:admin"}
)
# Whoever decides which identity provider is believed can become anybody, so single sign-on is the owner's.
_OWN = _ADMINISTER | {"sso:admin", "scim:write", "organization:admin"}

ROLES: Final[Mapping[str, Role]] = {
    role.name: role
    for role in (
        Role("read_only", "Read Only", 0, _SUMMARY),
        Role("executive", "Executive", 1, _LEAD),
        Role("viewer", "Viewer", 2, _VIEW),
        Role("analyst", "Analyst", 3, _WORK),
        Role("compliance_admin", "Compliance Admin", 4, _VIEW | _GOVERN),
        Role("security_admin", "Security Admin", 4, _VIEW | _SECURE),
        Role("admin", "Workspace Admin", 5, _ADMINISTER),
        Role("owner", "Owner", 6, _OWN),
    )
}
"""Every role by name, the least first."""

ROLE_ALIASES: Final[Mapping[str, str]] = {"tenant_admin": "admin"}
"""Other names that a role is taken by."""


def can_grant(scopes: Collection[str], role: str) -> bool:
    """Whether somebody with these scopes may make somebody else this: nobody hands out what they do not have."""
    return ROLES[role].scopes <= frozenset(scopes)


def reference() -> str:
    """The page docs/reference/scopes.md."""
    lines = [
        "# Scopes and roles",
        "",
        "Written from `services/gateway/identity/scopes.py` by `make generate`; do not edit.",
        "",
        "A token carries scopes; the scope that an operation needs is its `x-required-scope` in `/openapi.json`. A",
        "signed-in person has the scopes of their role in the workspace, as it is at each request. A personal API token",
        "has the scopes it was made with as far as its owner still has them; a service account's token has its own.",
        "`GET /v1/api-tokens/scopes` gives this table as JSON. Nobody can grant a role, or give a token a scope, that",
        "they do not have themselves.",
        "",
        "| Role | Label | Rank |",
        "|---|---|---|",
        *(f"| `{role.name}` | {role.label} | {role.rank} |" for role in ROLES.values()),
        "",
        "`tenant_admin` is taken as `admin`. `viewer`, `analyst`, `admin` and `owner` each have all that the one before",
        "has; the others lie beside them.",
    ]
    for tab in dict.fromkeys(scope.tab for scope in SCOPES.values()):
        lines += ["", f"## {tab}", "", "| Scope | Opens | Roles |", "|---|---|---|"]
        lines += [
            f"| `{scope.name}` | {scope.description} | {_holders(scope.name)} |"
            for scope in SCOPES.values()
            if scope.tab == tab
        ]
    return "\n".join(lines) + "\n"


def _holders(scope: str) -> str:
    return ", ".join(role.name for role in ROLES.values() if scope in role.scopes)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
