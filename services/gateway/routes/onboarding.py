"""The first steps of a new workspace, and how far it has come."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias, get_args

from msgspec import Meta, Struct
from runtime.database import tenant

from services.gateway import _queries as read_model
from services.gateway.identity.people.acting import Act
from services.gateway.identity.tenancy import _queries
from services.gateway.routes.operation import AnyOperation, Call, Gateway, NoQuery, Operation, not_found

Step: TypeAlias = Literal["welcome", "connect_source", "set_alerts", "invite_team", "review_first_pattern"]

STEPS: Final[tuple[Step, ...]] = get_args(Step)
"""In the order in which they are shown."""
ISSUES_COUNTED_MAX: Final = 10_000
_FIRST_SYNC: Final[Mapping[str, Literal["pending", "running", "succeeded", "error"]]] = {
    "queued": "running",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "error",
}
"""Status of a run → how the first sync stands."""


class FirstSync(Struct, frozen=True, kw_only=True):
    """Whether anything has come in."""

    status: Annotated[
        Literal["pending", "running", "succeeded", "error"],
        Meta(description="Succeeded as soon as an issue is there, whichever way it came."),
    ]
    issues_ingested: Annotated[int, Meta(description=f"At most {ISSUES_COUNTED_MAX} are counted.")]


class Onboarding(Struct, frozen=True, kw_only=True):
    """How far the workspace has come. current_step: the first that is not done, or the last."""

    current_step: Step
    completed_steps: tuple[Step, ...]
    is_complete: bool
    workspace_created: bool
    members_invited: Annotated[int, Meta(description="Invitations that were sent and not taken back.")]
    connectors_connected: int
    alert_rule_created: Annotated[bool, Meta(description="Whether the step set_alerts is done.")]
    first_sync: FirstSync
    updated_at: datetime


class StepDone(Struct, frozen=True, kw_only=True):
    """A step that is done, and where that leaves the workspace."""

    step: Step
    completed: bool
    onboarding: Onboarding


class OnboardingConfig(Struct, frozen=True, kw_only=True):
    """What the first steps suggest."""

    steps: tuple[Step, ...]
    probability_threshold: Annotated[float, Meta(ge=0, le=1, description="For the first alert.")]
    window_days: int
    invites_max: int
    invite_roles: tuple[str, ...]
    default_invite_role: str


async def read_onboarding(gateway: Gateway, workspace_id: str) -> Onboarding:
    """How far the workspace has come. Raises NotFoundError."""
    async with tenant(gateway.people, workspace_id) as conn:
        row = await _queries.get_onboarding(conn, workspace_id=workspace_id)
    if row is None:
        raise not_found("workspace", workspace_id)
    async with tenant(gateway.pool, workspace_id) as conn:
        n_issues = await read_model.count_issues_up_to(
            conn, workspace_id=workspace_id, at_most=ISSUES_COUNTED_MAX
        )
        counted = await read_model.count_connectors(conn, workspace_id=workspace_id)
    n_connected = 0 if counted is None else counted.n_connected
    # Connecting is the step, whoever forgets to say that it is done.
    done = tuple(
        step for step in STEPS if step in row.completed_steps or (step == "connect_source" and n_connected)
    )
    left = tuple(step for step in STEPS if step not in done)
    run = None if counted is None else counted.first_run_status
    return Onboarding(
        current_step=left[0] if left else STEPS[-1],
        completed_steps=done,
        is_complete=not left,
        workspace_created=True,
        members_invited=row.members_invited,
        connectors_connected=n_connected,
        alert_rule_created="set_alerts" in done,
        first_sync=FirstSync(
            status="succeeded" if n_issues else _FIRST_SYNC.get(run or "", "pending"),
            issues_ingested=n_issues,
        ),
        updated_at=row.updated_at,
    )


async def get_onboarding(gateway: Gateway, call: Call[NoQuery, None]) -> Onboarding:
    """How far the workspace has come."""
    return await read_onboarding(gateway, call.workspace_id)


async def get_config(_gateway: Gateway, _call: Call[NoQuery, None]) -> OnboardingConfig:
    """What the first steps suggest; the same for everybody."""
    return OnboardingConfig(
        steps=STEPS,
        probability_threshold=0.75,
        window_days=7,
        invites_max=3,
        invite_roles=("viewer", "analyst", "admin"),
        default_invite_role="analyst",
    )


async def complete_step(gateway: Gateway, call: Call[NoQuery, None]) -> StepDone:
    """Note that a step is done; again changes nothing."""
    step = next((known for known in STEPS if known == call.path["step"]), None)
    if step is None:
        raise not_found("step", call.path["step"])
    act = Act(principal=call.principal, ip=call.ip, now=gateway.resources.clock())
    async with tenant(gateway.people, call.workspace_id) as conn:
        before = await _queries.lock_onboarding(conn, workspace_id=call.workspace_id)
        if before is None:
            raise not_found("workspace", call.workspace_id)
        if step not in before:
            done = [known for known in STEPS if known in before or known == step]
            left = [known for known in STEPS if known not in done]
            await _queries.update_onboarding(
                conn,
                workspace_id=call.workspace_id,
                completed_steps=list(done),
                current_step=left[0] if left else STEPS[-1],
                is_complete=not left,
                updated_at=act.now,
            )
            target = ("workspace", call.workspace_id)
            await act.write_down(conn, "onboarding.step_completed", "update", target, step=step)
    return StepDone(step=step, completed=True, onboarding=await read_onboarding(gateway, call.workspace_id))


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="getOnboarding",
        method="GET",
        path="/v1/onboarding",
        tag="Workspace",
        summary="See how far the workspace has come.",
        scope="workspace:read",
        replies={200: Onboarding},
        refusals=(404,),
        handle=get_onboarding,
    ),
    Operation(
        id="getOnboardingConfig",
        method="GET",
        path="/v1/onboarding/config",
        tag="Workspace",
        summary="What the first steps suggest.",
        scope="workspace:read",
        replies={200: OnboardingConfig},
        handle=get_config,
    ),
    Operation(
        id="completeOnboardingStep",
        method="POST",
        path="/v1/onboarding/steps/{step}/complete",
        tag="Workspace",
        summary="Note that a step is done.",
        description=f"Steps: {', '.join(STEPS)}. In any order; once is enough.",
        scope="workspace:write",
        replies={200: StepDone},
        refusals=(404,),
        handle=complete_step,
    ),
)
