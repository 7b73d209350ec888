"""What a mapping makes of records, and what would change under another; nothing is stored. Pure."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from contracts import connector

from services.ingest.connectors.connecting import Source
from services.ingest.connectors.manifest import Manifest
from services.ingest.connectors.mapping import Ignored, Mapped, Outcome, Rejected, map_record


def preview(manifest: Manifest, record: object, *, index: int, now: datetime) -> connector.MappedRecord:
    """What a record of a sample becomes."""
    return _shown(map_record(manifest, record, now=now), index, ())


def preview_change(
    present: Source, proposed: Source, record: object, *, index: int, now: datetime
) -> connector.MappedRecord:
    """What a record that is kept becomes, and which fields that changes; "outcome" where it is an issue only in one."""
    before, after = (_qualified(source, record, now) for source in (present, proposed))
    return _shown(after, index, _changed(before, after))


def _qualified(source: Source, record: object, now: datetime) -> Outcome:
    outcome = map_record(source.manifest, record, now=now)
    # What is kept is an issue, whatever ticket is named in it.
    issue = None if isinstance(outcome, Rejected) else outcome.issue
    return outcome if issue is None else Mapped(source.qualified(issue), record)


def _changed(before: Outcome, after: Outcome) -> Sequence[str]:
    if isinstance(before, Mapped) and isinstance(after, Mapped):
        names = before.issue.__struct_fields__
        return [name for name in names if getattr(before.issue, name) != getattr(after.issue, name)]
    return [] if type(before) is type(after) else ["outcome"]


def _shown(outcome: Outcome, index: int, changed: Sequence[str]) -> connector.MappedRecord:
    match outcome:
        case Mapped(issue):
            document = msgspec.to_builtins(issue)
            return connector.MappedRecord(
                index=index, issue=document, is_ignored=False, path="", reason="", changed=tuple(changed)
            )
        case Ignored():
            return connector.MappedRecord(
                index=index, is_ignored=True, path="", reason="", changed=tuple(changed)
            )
        case Rejected(reason, path):
            return connector.MappedRecord(
                index=index, is_ignored=False, path=path, reason=reason, changed=tuple(changed)
            )
