"""From what people decide to a version that groups, on real servers: fitted in the background, compared, switched on, and back."""

from datetime import timedelta

import msgspec
import pytest
from contracts import pattern, workspace
from eventlog import Append, EventLog, verify
from testkit.builders import recorded
from testkit.servers import Database
from testkit.waiting import eventually

from services.pattern.engine.refitting import MIN_DECISIONS
from services.pattern.engine.weights import shipped
from services.pattern.errors import GroupingVersionNotFoundError, GroupingVersionRejectedError
from services.pattern.projections import PROJECTION

from .running import CONTEXT, WORKSPACE, Running, failure, running
from .test_refitting import THINGS

PATIENCE = 240.0
"""Seconds: a process of its own that gives way to every other one, on a machine that may be busy."""
TITLES = ("The {} page shows nothing", "The {} screen flickers", "The {} screen stays blank")


async def decide(service: Running, first: int, last: int) -> None:
    """Of each thing, a blank screen is the page that shows nothing, and never the screen that flickers."""
    reports = [
        failure(3 * number + which, title.format(thing))
        for number, thing in enumerate(THINGS[first:last], first)
        for which, title in enumerate(TITLES)
    ]
    ids = await service.report(*reports)
    patterns = await service.patterns_of(ids)
    for at in range(0, len(ids), 3):
        page, flicker, blank = patterns[at : at + 3]
        assert page is not None and flicker is not None and blank is not None
        if blank == flicker:
            unlink = pattern.UnlinkIssue(issue_id=ids[at + 2], pattern_id=flicker)
            await service.endpoints.unlink_issue(unlink, CONTEXT)
        else:
            reject = pattern.AnswerSuggestion(
                pattern_id=flicker, issue_id=ids[at + 2], begun_pattern_id=blank, is_accepted=False
            )
            await service.endpoints.answer_suggestion(reject, CONTEXT)
        link = pattern.LinkIssue(pattern_id=page, issue_id=ids[at + 2])
        await service.endpoints.link_issue(link, CONTEXT)


async def said(service: Running, kind: type[pattern.Event]) -> list[pattern.Event]:
    """Events of a kind about the workspace's versions, after a turn of the leader."""
    await service.reaction.tick(now=service.now)
    history = await service.event_log.history(WORKSPACE, "grouping", WORKSPACE)
    return [event.data for event in history if isinstance(event.data, kind)]


async def join(service: Running, number: int, thing: str) -> pattern.Link:
    """The membership of a report in other words than an earlier one."""
    await service.report(failure(number, f"The {thing} page shows nothing"))
    (found,) = await service.report(failure(number + 1, f"The {thing} page shows nothing at all"))
    (pattern_id,) = await service.patterns_of([found])
    events = await service.events(pattern_id or "")
    links = [link for event in events if isinstance(event, pattern.IssuesLinked) for link in event.links]
    return next(link for link in links if link.issue_id == found)


async def test_people_decide_a_version_is_fitted_compared_switched_on_and_taken_back(
    event_log: EventLog, database: Database
) -> None:
    """Nothing is grouped by it before; afterwards memberships name it, also after a restart; then the shipped one again."""
    lower = workspace.WorkspaceSettingsChanged(workspace_id=WORKSPACE, confidence_threshold=0.3)
    async with running(event_log, database) as service:
        few = MIN_DECISIONS // 2 - 1
        await decide(service, 0, few)
        await service.grouped()
        assert await said(service, pattern.GroupingVersionFitted) == []
        await decide(service, few, few + 1)
        fitted = (await eventually(lambda: said(service, pattern.GroupingVersionFitted), deadline=PATIENCE))[
            0
        ]
        assert isinstance(fitted, pattern.GroupingVersionFitted)
        assert fitted.is_better and fitted.n_decisions >= MIN_DECISIONS
        version = fitted.linker.version
        assert version.startswith("linker@") and version.endswith(".w1")
        assert fitted.shipped.version == shipped().version
        compared = (
            await eventually(lambda: said(service, pattern.GroupingVersionCompared), deadline=PATIENCE)
        )[0]
        assert isinstance(compared, pattern.GroupingVersionCompared)
        assert (compared.version_id, compared.base_version_id) == (fitted.version_id, "shipped")
        assert compared.n_moved == len(compared.moves) and compared.n_asked == compared.n_texts
        # Another day without a decision fits nothing; somebody asks for a comparison, and gets that one.
        service.now += timedelta(days=2)
        ask = pattern.CompareGroupingVersion(version_id=fitted.version_id)
        asked = await service.endpoints.compare_grouping_version(ask, CONTEXT)
        assert asked == await service.endpoints.compare_grouping_version(ask, CONTEXT)

        async def is_answered() -> bool:
            found = await said(service, pattern.GroupingVersionCompared)
            return asked.run_id in [
                each.run_id for each in found if isinstance(each, pattern.GroupingVersionCompared)
            ]

        await eventually(is_answered, deadline=PATIENCE)
        assert len(await said(service, pattern.GroupingVersionFitted)) == 1
        await event_log.append(Append(recorded(lower, WORKSPACE, source="gateway"), None))
        assert (await join(service, 800, "zeppelin")).method_version == shipped().version
        switch = pattern.ActivateGroupingVersion(version_id=fitted.version_id)
        changed = await service.endpoints.activate_grouping_version(switch, CONTEXT)
        assert changed == await service.endpoints.activate_grouping_version(switch, CONTEXT)
        assert (await join(service, 810, "submarine")).method_version == version
        unknown = pattern.ActivateGroupingVersion(version_id="gvr_unknown")
        with pytest.raises(GroupingVersionNotFoundError):
            await service.endpoints.activate_grouping_version(unknown, CONTEXT)
        await service.assert_memory_equals_rows()
    async with running(event_log, database) as service:
        assert (await join(service, 820, "windmill")).method_version == version
        back = pattern.ActivateGroupingVersion(version_id="shipped")
        await service.endpoints.activate_grouping_version(back, CONTEXT)
        assert (await join(service, 830, "igloo")).method_version == shipped().version
        await service.assert_memory_equals_rows()
        certificate = await verify(
            event_log, PROJECTION, owner_url=database.owner_url, projector_url=database.projector_url
        )
        assert certificate.is_equal


async def test_a_version_of_another_build_is_neither_compared_nor_switched_on(
    event_log: EventLog, database: Database
) -> None:
    """The shipped numbers would stand in for it, under its name."""
    fields = msgspec.structs.asdict(shipped()) | {
        "features": ("grams",),
        "weights": (1.0,),
        "version": "linker@old",
    }
    del fields["trained_on"]
    fitted = pattern.GroupingVersionFitted(
        workspace_id=WORKSPACE,
        version_id="gvr_old",
        number=1,
        linker=pattern.Linker(**fields),
        shipped=pattern.Linker(**fields),
        n_decisions=30,
        n_joining=15,
        shipped_loss=1.0,
        loss=0.5,
        is_better=True,
    )
    async with running(event_log, database) as service:
        await event_log.append(Append(recorded(fitted, WORKSPACE, source="pattern"), None))
        await service.grouped()
        with pytest.raises(GroupingVersionRejectedError):
            await service.endpoints.compare_grouping_version(
                pattern.CompareGroupingVersion(version_id="gvr_old"), CONTEXT
            )
        with pytest.raises(GroupingVersionRejectedError):
            await service.endpoints.activate_grouping_version(
                pattern.ActivateGroupingVersion(version_id="gvr_old"), CONTEXT
            )
