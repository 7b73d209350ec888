"""What a prediction rests on, as the API shows it: evidence, inputs, drivers, and what became of others like it."""

from typing import Annotated, Any

import msgspec
from contracts import prediction
from msgspec import Meta, Struct

Probability = Annotated[float, Meta(ge=0, le=1)]


class EvidenceItem(Struct, frozen=True, kw_only=True):
    """A fact that a prediction rests on."""

    kind: str
    text: str
    issue_ids: tuple[str, ...]


class Driver(Struct, frozen=True, kw_only=True):
    """A part of the distance from the base rate to the probability; all parts together are that distance."""

    kind: Annotated[str, Meta(description="history, pace, silence, frequency, rhythm or workspace.")]
    text: str
    log_odds: Annotated[
        float, Meta(description="Its size in log odds; above 0 it makes a recurrence likelier.")
    ]


class Bucket(Struct, frozen=True, kw_only=True):
    """What became of earlier forecasts of about this probability, when this one was made."""

    n: Annotated[int, Meta(description="Resolved in the twelve months before, of the same window and tenth.")]
    hits: int
    hit_rate: Annotated[float | None, Meta(description="Null while there are none.")]


class Basis(Struct, frozen=True, kw_only=True):
    """What the models looked at and said: with prior and fitted model, enough to compute it again."""

    model_id: Annotated[str, Meta(description="Of the model learned here; empty while there is none.")]
    n_events: int
    episode_quiet_days: float
    pace: Annotated[
        tuple[float, ...], Meta(description="Episodes, each counted half after 3.5, 14, 45, 150, 500 days.")
    ]
    burst: Annotated[tuple[float, ...], Meta(description="Events, each counted half after 3.5, 14, 45 days.")]
    gap_weight: float
    gap_sum: float
    gap_square: float
    last_gap_days: Annotated[float, Meta(description="Between the last two episodes; 0 while there is one.")]
    model_probability: Annotated[
        float, Meta(description="What the models say, whether or not the base rate answers.")
    ]
    gamma_poisson: float
    intensity_mix: float | None
    regression: float | None


class Inputs(Struct, frozen=True, kw_only=True):
    """The numbers that the probability was computed from."""

    n_recurrences: int
    exposure_days: float
    quiet_days: float
    prior_shape: float
    prior_rate_days: float
    base_rate: float
    n_resolved: int
    skill: float | None
    basis: Annotated[Basis | None, Meta(description="Null in predictions from before there was one.")]


def card(*, evidence: str, inputs: str) -> dict[str, Any]:
    """The fields of a prediction that its row holds as JSON."""
    facts = msgspec.json.decode(evidence, type=tuple[prediction.Evidence, ...])
    given = msgspec.json.decode(inputs, type=prediction.ForecastInputs)
    basis = given.basis
    return {
        "evidence": [msgspec.structs.asdict(fact) for fact in facts],
        "inputs": {
            **msgspec.structs.asdict(given),
            "basis": None if basis is None else msgspec.structs.asdict(basis),
        },
        "base_rate": given.base_rate,
        "drivers": [] if basis is None else [msgspec.structs.asdict(driver) for driver in basis.drivers],
        "bucket": None if basis is None else _bucket(basis),
    }


def _bucket(basis: prediction.ForecastBasis) -> Bucket:
    n, hits = basis.bucket_n, basis.bucket_hits
    return Bucket(n=n, hits=hits, hit_rate=hits / n if n else None)
