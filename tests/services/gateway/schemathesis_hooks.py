"""What JSON Schema cannot say of valid values: which times a source may send, that cursors come from us, and where the
log ends."""

from datetime import UTC, datetime

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

_MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone above

schemathesis.openapi.format(
    "date-time", _MOMENTS.map(lambda moment: moment.isoformat().replace("+00:00", "Z"))
)


@schemathesis.hook
def before_call(context, case, kwargs):  # type: ignore[no-untyped-def]  # the library's hook
    """Only a list's own reply has a cursor that is good, only a GET an entity tag, only a sender a key that was not
    used for something else, only the log an end that as_of may not lie behind, only the future an end of a token, and only a list of names a time zone; so none is made up where the request is to be valid."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if case.query:
        case.query.pop("cursor", None)
        if str(case.query.get("as_of", "")).isdecimal():
            case.query["as_of"] = 0
    if isinstance(case.body, dict):
        for name in ("expires_at", "timezone"):
            case.body.pop(name, None)
    for name in ("If-Match", "If-None-Match", "Idempotency-Key"):
        if case.headers:
            case.headers.pop(name, None)
