"""What SCIM's User and Group are here: of a person no more than is used, so that no more has to be kept and erased."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from pydantic import Field
from scim2_models import (
    URN,
    AuthenticationScheme,
    Bulk,
    CaseExact,
    ChangePassword,
    ComplexAttribute,
    ETag,
    Filter,
    GroupMembership,
    Meta,
    Mutability,
    Name,
    Pagination,
    Patch,
    Reference,
    Required,
    Resource,
    ResourceType,
    Schema,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
    Uniqueness,
)
from scim2_models import Email as StandardEmail

from services.gateway.identity.scim import _queries

PAGE_DEFAULT = 100
PAGE_MAX = 200
NAME_LENGTH_MAX = 320
_ADDRESS = re.compile(r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-zA-Z0-9.-]{1,189}")

AnyResource: TypeAlias = Resource[Any]  # Any: no extension is known here
R = TypeVar("R", bound=AnyResource)


class Email(StandardEmail):
    """An address."""

    value: Annotated[str | None, Required.true] = None


class User(Resource[Any]):
    """A member. Everything else that a directory sends is taken and not kept."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:User")

    user_name: Annotated[str | None, Uniqueness.server, Required.true] = None
    name: Name | None = None
    display_name: str | None = None
    locale: str | None = None
    timezone: str | None = None
    active: Annotated[bool | None, Required.true] = None
    emails: Annotated[list[Email] | None, Required.true] = None
    groups: Annotated[list[GroupMembership] | None, Mutability.read_only] = None


class GroupMember(ComplexAttribute):
    """Somebody in a group; only people, no groups in groups."""

    value: Annotated[str | None, Mutability.immutable, Required.true, CaseExact.true] = None
    ref: Annotated[Reference["User"] | None, Mutability.immutable] = Field(
        None, serialization_alias="$ref", validation_alias="$ref"
    )
    type: Annotated[str | None, Mutability.immutable] = Field(None, examples=["User"])


class Group(Resource[Any]):
    """A group of the directory."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:Group")

    display_name: Annotated[str | None, Required.true] = None
    members: list[GroupMember] | None = None


POLICY: Final = ScimPolicy(
    # Directories send what we do not keep, and Microsoft Entra writes PATCH in its own way.
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)
CONFIG: Final = ServiceProviderConfig(
    documentation_uri=None,
    patch=Patch(supported=True),
    bulk=Bulk(supported=False, max_operations=0, max_payload_size=0),
    filter=Filter(supported=True, max_results=PAGE_MAX),
    change_password=ChangePassword(supported=False),
    sort=Sort(supported=False),
    etag=ETag(supported=True),
    pagination=Pagination(cursor=False, index=True, default_page_size=PAGE_DEFAULT, max_page_size=PAGE_MAX),
    authentication_schemes=[
        AuthenticationScheme(
            type=AuthenticationScheme.Type.oauthbearertoken,
            name="Bearer token",
            description="The token of a service account with the scope scim:write.",
            primary=True,
        )
    ],
)
PROVIDER: Final = ScimProvider(models=[User, Group], config=CONFIG, policy=POLICY)
SCHEMAS: Final[Sequence[Schema]] = (
    *PROVIDER.schemas,
    ResourceType.to_schema(),
    ServiceProviderConfig.to_schema(),
    Schema.to_schema(),
)
"""What /Schemas lists; RFC 7643, 8.7 has the last three."""


def address_of(user: User) -> str | None:
    """The address that the person signs in with: the primary one, else the first, else a user name that is one."""
    emails = [email for email in user.emails or () if email.value]
    chosen = next((email.value for email in emails if email.primary), None)
    text = str(chosen or (emails[0].value if emails else user.user_name) or "")
    return text if _ADDRESS.fullmatch(text) else None


def completed(payload: dict[str, object], *, active: bool) -> dict[str, object]:
    """What a directory sent with what it may leave out: the address when that is the user name, and whether active."""
    given = {key.lower(): value for key, value in payload.items()}
    made = dict(payload)
    name = given.get("username")
    if not given.get("emails") and isinstance(name, str) and _ADDRESS.fullmatch(name):
        made["emails"] = [{"value": name, "primary": True}]
    if given.get("active") is None:
        made["active"] = active
    return made


def name_of(user: User) -> str:
    """What the person is called: as displayed, else as composed, else as they sign in."""
    name = user.name
    parts = [part for part in (name.given_name, name.family_name) if part] if name else []
    found = user.display_name or (name.formatted if name else None) or " ".join(parts) or user.user_name or ""
    return found.strip()[:200] or "?"


def kept_of(user: User) -> str:
    """What is kept of a user besides its keys, as JSON."""
    kept = user.model_dump(mode="json")
    for key in ("schemas", "id", "meta", "groups", "userName", "externalId", "active"):
        kept.pop(key, None)
    return msgspec.json.encode(kept).decode()


def as_user(row: _queries.Account, groups: Sequence[_queries.ListGroupsOfRow], *, base: str) -> User:
    """A member as SCIM's User; one whom no directory has described yet, by what we know."""
    if isinstance(row.attributes, Mapping):
        kept = dict(row.attributes)
    else:
        kept = {"displayName": row.name, "emails": [{"value": row.email, "primary": True}]}
    kept["active"] = row.status == "active"
    user = User.model_validate(
        {
            **kept,
            "userName": row.user_name or row.email,
            "externalId": row.external_id,
            "id": row.membership_id,
            "groups": [
                {
                    "value": g.group_id,
                    "$ref": f"{base}/Groups/{g.group_id}",
                    "display": g.display_name,
                    "type": "direct",
                }
                for g in groups
            ]
            or None,
        },
        scim_policy=POLICY,
    )
    return _with_meta(user, row.created_at, row.updated_at, f"{base}/Users/{row.membership_id}")


def as_group(row: _queries.Group, people: Sequence[_queries.ListMembersOfRow], *, base: str) -> Group:
    """A group as SCIM's Group."""
    group = Group(
        id=row.group_id,
        external_id=row.external_id,
        display_name=row.display_name,
        members=[
            GroupMember.model_validate(
                {
                    "value": person.membership_id,
                    "$ref": f"{base}/Users/{person.membership_id}",
                    "type": "User",
                }
            )
            for person in people
        ]
        or None,
    )
    return _with_meta(group, row.created_at, row.updated_at, f"{base}/Groups/{row.group_id}")


def _with_meta(resource: R, created: datetime, changed: datetime, location: str) -> R:
    """The resource with its place, its times and a version that changes with anything in it."""
    content = resource.model_dump_json().encode()
    resource.meta = Meta(
        resource_type=type(resource).__name__,
        created=created,
        last_modified=changed,
        location=Reference(location),
        version=f'W/"{sha256(content).hexdigest()[:20]}"',
    )
    return resource
