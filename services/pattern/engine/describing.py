"""What a pattern is called and what its members share."""

from collections.abc import Sequence
from typing import Final

from contracts.generated.pattern import FingerprintDimension

from .grouping import Exemplar
from .issues import DIMENSIONS
from .masking import readable
from .memory import Pattern

GROWTH_TO_DESCRIBE_ANEW: Final = 1.5
_LEAST_SHARE = 0.5
# The hour says something only of enough members.
_N_MEMBERS_FOR_HOUR = 5
_TELLING: Final = ("error_type", "component", "service", "team", "environment", "source", "hour_of_day")


def fingerprint(pattern: Pattern) -> tuple[FingerprintDimension, ...]:
    """The values that at least half of the members have, most shared first, then most telling."""
    shared = []
    for order, name in enumerate(_TELLING):
        i = DIMENSIONS.index(name)
        value = pattern.common[i]
        if value is None or (name == "hour_of_day" and pattern.n_members < _N_MEMBERS_FOR_HOUR):
            continue
        share = round(pattern.values[i][value] / pattern.n_members, 4)
        if share >= _LEAST_SHARE:
            shared.append((-share, order, FingerprintDimension(name=name, value=value, share=share)))
    return tuple(dimension for _, _, dimension in sorted(shared, key=lambda item: item[:2]))


def name_of(pattern: Pattern, exemplars: Sequence[Exemplar]) -> str:
    """The title that most members repeat, made readable; without text, what the members share. 1 to 200 characters."""
    titled = [exemplar for exemplar in exemplars if exemplar.title]
    if titled:
        best = max(titled, key=lambda exemplar: pattern.keys.get(exemplar.grouping_key, 0))
        return readable(best.title)
    common = dict(zip(DIMENSIONS, pattern.common, strict=True))
    parts = [common[name] for name in ("error_type", "component", "service") if common[name]]
    return (
        readable("Failures of " + " / ".join(part for part in parts if part))
        if parts
        else "Failures without text"
    )
