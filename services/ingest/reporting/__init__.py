"""Facts into the log: what was reported of issues, what was decided about sources; again where somebody was faster."""

from services.ingest.reporting.issues import (
    AGGREGATE,
    ATTEMPTS_MAX,
    SERVICE,
    Turn,
    known_of,
    or_unreachable,
    report,
    weigh,
)
from services.ingest.reporting.sources import Sources

__all__ = [
    "AGGREGATE",
    "ATTEMPTS_MAX",
    "SERVICE",
    "Sources",
    "Turn",
    "known_of",
    "or_unreachable",
    "report",
    "weigh",
]
