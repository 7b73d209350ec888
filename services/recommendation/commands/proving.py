"""Decisions about fixes: when a proof starts, what changes it, and how it ends. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from contracts import derived_id, pattern, recommendation
from msgspec import Struct

from services.recommendation.engine import proof
from services.recommendation.engine.reference import Reference, is_credited
from services.recommendation.state import Fix, Pattern, Recommendation, Watch

WATCHED: Final = frozenset({pattern.PatternStatus.WATCHING, pattern.PatternStatus.RESOLVED})
Reason = recommendation.InconclusiveReason
_IMPLEMENTED = recommendation.RecommendationStatus.IMPLEMENTED


class Case(Struct, frozen=True, kw_only=True):
    """Everything that the proofs of one pattern depend on.

    fixes: of the pattern, in the order in which they were made. made: its recommendations. failures: of the pattern.
    """

    pattern: Pattern
    fixes: Sequence[Fix] = ()
    made: Sequence[Recommendation] = ()
    failures: Sequence[proof.Failure] = ()
    terms: proof.Terms = proof.Terms()


class DecidedFix(Struct, frozen=True, kw_only=True):
    """An event of a fix that is due. expected: sequence of the fix's last event, 0 = none. at: event time, None = now."""

    fix_id: str
    expected: int
    event: recommendation.Event
    at: datetime | None = None


def terms_of(*, least_days: int | None, most_days: int | None, level: float | None) -> proof.Terms:
    """What a workspace wants of a proof; what it never said is the default."""
    default = proof.Terms()
    least = default.least_days if least_days is None else least_days
    return proof.Terms(
        level=default.level if level is None else level,
        least_days=least,
        most_days=max(least, default.most_days if most_days is None else most_days),
    )


def is_new_fix(case: Case) -> bool:
    """Whether the pattern is watched for a fix of which there is no proof yet."""
    watch = case.pattern.watch
    if watch is None or case.pattern.status is not pattern.PatternStatus.WATCHING:
        return False
    return all(fix.fix_id != _fix_id(case.pattern, watch) for fix in case.fixes)


def prove(case: Case, *, reference: Reference, now: datetime) -> list[DecidedFix]:
    """Every event that the proofs of a pattern are due, as things now are.

    reference: the workspace's other patterns; looked at when a proof starts.
    """
    decided: list[DecidedFix] = []
    watch = case.pattern.watch
    if watch is not None and is_new_fix(case):
        decided.append(_started(case, watch, reference=reference, now=now))
    current = None if watch is None else _fix_id(case.pattern, watch)
    for fix in case.fixes:
        decided += _followed(case, fix, is_current=fix.fix_id == current, now=now)
    return decided


def _started(case: Case, watch: Watch, *, reference: Reference, now: datetime) -> DecidedFix:
    seen = case.pattern
    measures = _measures(case)
    environment, version = _scope(case, watch, measures)
    fix = proof.Fix(fixed_at=watch.fixed_at, environment=environment, version=version)
    judged = proof.judge(fix, case.failures, case.terms, gap_days=reference.gap_days, now=now)
    before = proof.times_before(fix, case.failures)
    event = recommendation.ProofStarted(
        fix_id=_fix_id(seen, watch),
        pattern_id=seen.pattern_id,
        recommendation_ids=tuple(made.recommendation_id for made in measures),
        note=watch.note,
        environment=environment,
        version=version,
        inputs=_inputs(judged, case.terms),
        ledger=recommendation.LedgerInputs(
            is_credited=is_credited(before, at=watch.fixed_at, gap_days=reference.gap_days),
            ratio=reference.ratio,
            ratio_variance=reference.ratio_variance,
            dispersion=reference.dispersion,
            n_patterns=reference.n_patterns,
        ),
    )
    return DecidedFix(fix_id=event.fix_id, expected=0, event=event, at=watch.fixed_at)


def _scope(case: Case, watch: Watch, measures: Sequence[Recommendation]) -> proof.Scope:
    """Where all that is proved from now on was done: the measures, this closure, and the closure that was being proved.

    A closure and a measure of the same moment are one: what the one leaves out, the other says.
    """
    said = (watch.environment, watch.version)
    scopes: list[proof.Scope] = []
    is_named = False
    for made in measures:
        scope = (made.environment, made.version)
        if made.implemented_at == watch.fixed_at:
            is_named = True
            scope = scope if any(scope) else said
        scopes.append(scope)
    for fix in case.fixes:
        if fix.standing == "proving" and (fix.note or not fix.recommendation_ids):
            scopes.append((fix.environment, fix.version))
    if any(said) or not is_named:
        scopes.append(said)
    return proof.reach_of(scopes)


def _followed(case: Case, fix: Fix, *, is_current: bool, now: datetime) -> Iterator[DecidedFix]:
    """What has become of a fix that was started before."""
    if fix.is_over and not _is_in_ledger(fix, is_current=is_current, now=now):
        return
    if fix.standing != "proving" and not is_current:
        return
    scope = proof.Fix(fixed_at=fix.fixed_at, environment=fix.environment, version=fix.version)
    failures = case.failures
    if not is_current and case.pattern.watch is not None:
        # What came after the fix that took over speaks of that one only.
        until = max(fix.fixed_at, case.pattern.watch.fixed_at)
        failures = [failure for failure in failures if failure.occurred_at <= until]
    judged = proof.judge(scope, failures, case.terms, gap_days=fix.inputs.gap_days, now=now)
    event = _verdict(case, fix, judged, is_current=is_current) or _news(case, fix, judged)
    if event is not None:
        broke = judged.recurrence if isinstance(event, recommendation.FixBroken) else None
        yield DecidedFix(
            fix_id=fix.fix_id, expected=fix.seq, event=event, at=broke.occurred_at if broke else None
        )


def _is_in_ledger(fix: Fix, *, is_current: bool, now: datetime) -> bool:
    """A broken fix is still counted: it may have made the pattern rarer."""
    return is_current and fix.standing == "broken" and now - fix.fixed_at <= timedelta(days=proof.LEDGER_DAYS)


def _verdict(
    case: Case, fix: Fix, judged: proof.Judgement, *, is_current: bool
) -> recommendation.FixVerified | recommendation.FixBroken | recommendation.FixInconclusive | None:
    """The end of a proof, or of what had been verified; None while nothing is decided."""
    inputs = _inputs(judged, case.terms)
    if fix.standing == "broken":
        return None
    if judged.recurrence is not None:
        return recommendation.FixBroken(
            fix_id=fix.fix_id,
            pattern_id=fix.pattern_id,
            fixed_at=fix.fixed_at,
            issue_id=judged.recurrence.issue_id,
            quiet_days=judged.quiet_days,
            confidence=judged.confidence,
            was_verified=fix.standing == "verified",
            inputs=inputs,
        )
    if fix.standing != "proving":
        return None
    reason: Reason | None = None
    if not is_current:
        reason = Reason.SUPERSEDED
    elif _is_withdrawn(case, fix):
        reason = Reason.WITHDRAWN
    elif judged.standing == "inconclusive":
        reason = Reason.BOUND_REACHED
    if reason is not None:
        return recommendation.FixInconclusive(
            fix_id=fix.fix_id,
            pattern_id=fix.pattern_id,
            fixed_at=fix.fixed_at,
            reason=reason,
            quiet_days=judged.quiet_days,
            confidence=judged.confidence,
            inputs=inputs,
        )
    if judged.standing == "verified":
        return recommendation.FixVerified(
            fix_id=fix.fix_id,
            pattern_id=fix.pattern_id,
            fixed_at=fix.fixed_at,
            quiet_days=judged.quiet_days,
            confidence=judged.confidence,
            inputs=inputs,
        )
    return None


def _news(
    case: Case, fix: Fix, judged: proof.Judgement
) -> recommendation.ProofNoted | recommendation.ProofReassessed | None:
    """What else has changed of a fix."""
    watch = case.pattern.watch
    if fix.standing == "proving" and watch is not None and watch.note and watch.note != fix.note:
        return recommendation.ProofNoted(fix_id=fix.fix_id, pattern_id=fix.pattern_id, note=watch.note)
    inputs = _inputs(judged, case.terms)
    if inputs == fix.inputs or fix.standing not in ("proving", "broken"):
        return None
    drop = judged.rate_drop
    return recommendation.ProofReassessed(
        fix_id=fix.fix_id,
        pattern_id=fix.pattern_id,
        inputs=inputs,
        rate_drop=None
        if drop is None
        else recommendation.RateDrop(days_after=drop.days_after, p_value=drop.p_value, power=drop.power),
    )


def _is_withdrawn(case: Case, fix: Fix) -> bool:
    """Whether people took it back: another status, or no measure left and no note that says what was done."""
    if case.pattern.status not in WATCHED:
        return True
    if fix.note or not fix.recommendation_ids:
        return False
    standing = {made.recommendation_id for made in case.made if made.status is _IMPLEMENTED}
    return not standing.intersection(fix.recommendation_ids)


def _measures(case: Case) -> list[Recommendation]:
    """The implemented recommendations that no earlier fix with a verdict was made of."""
    return [
        made
        for made in case.made
        if made.status is _IMPLEMENTED and not any(_was_judged_by(fix, made) for fix in case.fixes)
    ]


def _was_judged_by(fix: Fix, made: Recommendation) -> bool:
    if fix.ended_as in (Reason.SUPERSEDED, Reason.WITHDRAWN) or fix.standing == "proving":
        return False
    is_since = made.implemented_at is not None and made.implemented_at > fix.fixed_at
    return made.recommendation_id in fix.recommendation_ids and not is_since


def _fix_id(seen: Pattern, watch: Watch) -> str:
    return derived_id("fix_", seen.workspace_id, seen.pattern_id, watch.watch_id)


def _inputs(judged: proof.Judgement, terms: proof.Terms) -> recommendation.ProofInputs:
    return recommendation.ProofInputs(
        prior_shape=proof.PRIOR_SHAPE,
        gap_days=judged.baseline.gap_days,
        n_recurrences=judged.baseline.n_recurrences,
        exposure_days=judged.baseline.exposure_days,
        level=terms.level,
        least_days=terms.least_days,
        most_days=terms.most_days,
        window_days=judged.window_days,
        n_recurrences_after=judged.n_recurrences_after,
        n_residual=judged.n_residual,
        model_version=proof.MODEL_VERSION,
    )
