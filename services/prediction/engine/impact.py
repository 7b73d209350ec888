"""What a recurrence would cost, from the severities seen so far."""

from collections.abc import Mapping

from contracts.generated.ingest import Severity
from contracts.generated.prediction import Impact

_IMPACT = {
    Severity.P1: Impact.CRITICAL,
    Severity.P2: Impact.HIGH,
    Severity.P3: Impact.MEDIUM,
    Severity.P4: Impact.LOW,
}


def impact(counts: Mapping[Severity, int]) -> Impact:
    """The impact of the most common severity, of the graver one where two are equally common; medium if none."""
    seen = [severity for severity in Severity if counts.get(severity, 0) > 0]
    if not seen:
        return Impact.MEDIUM
    return _IMPACT[min(seen, key=lambda severity: (-counts[severity], severity))]
