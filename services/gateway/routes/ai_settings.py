"""Whom a workspace lets explain its failures, and what is taken out of them before."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway.explaining.advice import is_own
from services.gateway.identity.people.acting import Act
from services.gateway.identity.tenancy import ai
from services.gateway.identity.tenancy._queries import AiSettingsRow
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation

ModelName = Annotated[
    str, Meta(max_length=100, pattern=r"^[A-Za-z0-9._:/@+-]*$(?!\n)", description="Empty: none of its own.")
]
BaseUrl = Annotated[
    str,
    Meta(
        max_length=500,
        pattern=r"^(https?://[^\s/?#@\x00]+(/[^\s?#\x00]*)?)?$(?!\n)",
        description="Address of an OpenAI-compatible API, such as https://api.openai.com/v1; empty: none of its own.",
    ),
]
ApiKey = Annotated[
    str, Meta(max_length=500, pattern=r"^[\x21-\x7e]*$(?!\n)", description="Never shown again.")
]


class AiSettings(Struct, frozen=True, kw_only=True):
    """How failures are explained."""

    model_enabled: Annotated[
        bool, Meta(description="Whether a model may be asked; otherwise the evidence answers.")
    ]
    answers_by: Annotated[
        Literal["evidence", "operator", "workspace"],
        Meta(description="Who answers now: the evidence, the operator's model or the workspace's own."),
    ]
    base_url: str | None
    has_api_key: bool
    model_fast: str | None
    model_balanced: str | None
    model_deep: str | None
    redact_emails: Annotated[
        bool, Meta(description="Whether e-mail addresses are taken out; secrets always are.")
    ]
    redact_ip_addresses: bool


class AiSettingsChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change; what is absent stays. The names of models count for the workspace's own endpoint only."""

    model_enabled: bool | None = None
    base_url: Annotated[BaseUrl | None, Meta(description="Another address without another key has none.")] = (
        None
    )
    api_key: ApiKey | None = None
    model_fast: ModelName | None = None
    model_balanced: ModelName | None = None
    model_deep: ModelName | None = None
    redact_emails: bool | None = None
    redact_ip_addresses: bool | None = None


def _present(gateway: Gateway, row: AiSettingsRow) -> AiSettings:
    fields = msgspec.structs.asdict(row)
    answers_by = "evidence"
    if row.model_enabled and is_own(row):
        answers_by = "workspace"
    elif row.model_enabled and gateway.settings.has_model:
        answers_by = "operator"
    fields |= {"has_api_key": row.api_key_sealed is not None, "answers_by": answers_by}
    return msgspec.convert(fields, AiSettings)


def _act(gateway: Gateway, call: Call[NoQuery, object]) -> Act:
    return Act(principal=call.principal, ip=call.ip, now=gateway.resources.clock())


async def get_ai_settings(gateway: Gateway, call: Call[NoQuery, None]) -> AiSettings:
    """The settings."""
    async with tenant(gateway.people, call.workspace_id) as conn:
        return _present(gateway, await ai.find(conn, _act(gateway, call)))


async def change_ai_settings(gateway: Gateway, call: Call[NoQuery, AiSettingsChange]) -> AiSettings:
    """Change them."""
    given = {name: value for name, value in msgspec.structs.asdict(call.body).items() if value is not None}
    async with tenant(gateway.people, call.workspace_id) as conn:
        act = _act(gateway, call)
        row = await ai.change(conn, act, gateway.vault, given) if given else await ai.find(conn, act)
        return _present(gateway, row)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="getAiSettings",
        method="GET",
        path="/v1/settings/ai",
        tag="Workspace",
        summary="See who explains failures, and what is taken out before.",
        scope="workspace:read",
        replies={200: AiSettings},
        handle=get_ai_settings,
    ),
    Operation(
        id="updateAiSettings",
        method="PATCH",
        path="/v1/settings/ai",
        tag="Workspace",
        summary="Choose who explains failures, and what is taken out before.",
        scope="workspace:write",
        body=AiSettingsChange,
        replies={200: AiSettings},
        handle=change_ai_settings,
    ),
)
