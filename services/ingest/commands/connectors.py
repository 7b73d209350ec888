"""What becomes of a connector and of its runs; settings come checked, as `connectors.connecting.checked` gives them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from contracts import Event, Recorded, connector

from services.ingest.errors import ConnectorPausedError, InvalidConnectorError, RunEndedError
from services.ingest.state import FAILED_RUNS_MAX, Connector, Standing, SyncRun

BACKFILL_MAX = timedelta(days=3 * 366)
DETAIL_LENGTH_MAX = 500

LASTING_REASONS = frozenset({"credentials_rejected", "not_configured", "address_refused"})
"""Reasons that only a person can do something about: nothing is polled until somebody has."""
EXPIRED_REASON = "oauth_expired"
LIMITED_REASON = "rate_limited"


def create_connector(
    connector_id: str,
    settings: connector.ConnectorSettings,
    *,
    secrets: Sequence[str],
    is_proved: bool,
    created_by: str | None,
) -> list[connector.Event]:
    """A new connector. is_proved: there is nothing to ask the vendor, so it stands connected at once."""
    status = connector.ConnectorStatus.CONNECTED if is_proved else connector.ConnectorStatus.PENDING
    events: list[connector.Event] = [
        connector.ConnectorCreated(
            connector_id=connector_id, settings=settings, status=status, created_by=created_by
        )
    ]
    if secrets:
        events.append(
            connector.ConnectorCredentialsChanged(connector_id=connector_id, secrets=tuple(secrets))
        )
    return events


def configure_connector(
    state: Connector,
    settings: connector.ConnectorSettings,
    *,
    secrets: Sequence[str] | None,
    is_paused: bool | None,
    is_proved: bool,
) -> list[connector.Event]:
    """What is different now.

    secrets: names of all that there are, where a person gave some; None: none were given. Whoever gives credentials
    or another way to sign in has to prove them: it stands pending until a test or a run succeeds. So does one that
    stood at "error" and is set otherwise.
    """
    events: list[connector.Event] = []
    if settings != state.settings:
        events.append(connector.ConnectorConfigured(connector_id=state.connector_id, settings=settings))
    if secrets is not None:
        events.append(
            connector.ConnectorCredentialsChanged(connector_id=state.connector_id, secrets=tuple(secrets))
        )
    has_to_prove = (
        secrets is not None
        or settings.auth != state.settings.auth
        or (
            settings.config != state.settings.config
            and state.standing.status is connector.ConnectorStatus.ERROR
        )
    )
    standing = state.standing
    if has_to_prove:
        standing = Standing(
            connector.ConnectorStatus.CONNECTED if is_proved else connector.ConnectorStatus.PENDING
        )
    pauses = state.is_paused if is_paused is None else is_paused
    return [*events, *_stands(state, standing, is_paused=pauses)]


def delete_connector(state: Connector) -> list[connector.Event]:
    """The connector's end; nothing where it is gone already."""
    return [] if state.is_deleted else [connector.ConnectorDeleted(connector_id=state.connector_id)]


def authorize_connector(state: Connector, *, secrets: Sequence[str]) -> list[connector.Event]:
    """A person has agreed and the vendor has given a grant. secrets: names of all that there are now."""
    changed = connector.ConnectorCredentialsChanged(connector_id=state.connector_id, secrets=tuple(secrets))
    return [changed, *stand(state, Standing(connector.ConnectorStatus.CONNECTED))]


def stand(state: Connector, standing: Standing) -> list[connector.Event]:
    """That a connector stands somewhere else; a paused one stays paused, and stands there once it is resumed."""
    return _stands(state, standing, is_paused=state.is_paused)


def judge(
    state: Connector, reason: str, detail: str, *, n_failed_before: int | None
) -> list[connector.Event]:
    """Where a connector stands after the vendor was asked.

    reason: empty where all went well, else a code of VendorError. n_failed_before: runs that failed in a row before
    this one; None: it was no run but a test, which tells nothing of passing troubles.
    """
    if not reason:
        return stand(state, Standing(connector.ConnectorStatus.CONNECTED))
    detail = detail[:DETAIL_LENGTH_MAX]
    if reason == EXPIRED_REASON:
        return stand(state, Standing(connector.ConnectorStatus.OAUTH_EXPIRED, reason, detail))
    is_passing = reason not in LASTING_REASONS
    if is_passing and (
        n_failed_before is None or reason == LIMITED_REASON or n_failed_before + 1 < FAILED_RUNS_MAX
    ):
        return []
    return stand(state, Standing(connector.ConnectorStatus.ERROR, reason, detail))


def is_polled(status: connector.ConnectorStatus, reason: str) -> bool:
    """Whether a schedule counts: also while credentials wait for their first run, and while a trouble may pass."""
    match status:
        case connector.ConnectorStatus.CONNECTED | connector.ConnectorStatus.PENDING:
            return True
        case connector.ConnectorStatus.ERROR:
            return reason not in LASTING_REASONS
        case connector.ConnectorStatus.PAUSED | connector.ConnectorStatus.OAUTH_EXPIRED:
            return False


def request_run(
    state: Connector,
    *,
    run_id: str,
    kind: connector.SyncKind,
    window: tuple[datetime | None, datetime | None] = (None, None),
    requested_by: str | None,
    now: datetime,
) -> connector.SyncRequested:
    """A run that waits for a worker. window: of a backfill; its end is now where it is absent.

    Raises ConnectorPausedError, and InvalidConnectorError for a window that is none.
    """
    if state.is_paused and kind is not connector.SyncKind.REMAP:
        raise ConnectorPausedError(state.connector_id)
    start, end = window
    if kind is connector.SyncKind.BACKFILL:
        start, end = _backfill(start, end, now)
    elif start is not None or end is not None:
        raise InvalidConnectorError({"window_start": "is only for a backfill; leave it out"})
    return connector.SyncRequested(
        run_id=run_id,
        connector_id=state.connector_id,
        kind=kind,
        window_start=start,
        window_end=end,
        requested_by=requested_by,
    )


def progress_run(
    run: SyncRun, *, n_chunks_done: int, n_chunks: int, counts: connector.SyncCounts
) -> connector.SyncProgressed:
    """How far a run is."""
    return connector.SyncProgressed(
        run_id=run.request.run_id,
        connector_id=run.request.connector_id,
        n_chunks_done=n_chunks_done,
        n_chunks=n_chunks,
        counts=counts,
    )


def end_run(
    run: SyncRun,
    outcome: connector.SyncOutcome,
    *,
    counts: connector.SyncCounts,
    reason: str = "",
    detail: str = "",
) -> connector.SyncEnded:
    """The end of a run."""
    return connector.SyncEnded(
        run_id=run.request.run_id,
        connector_id=run.request.connector_id,
        outcome=outcome,
        counts=counts,
        reason=reason,
        detail=detail[:DETAIL_LENGTH_MAX],
    )


def cancel_run(run: SyncRun) -> connector.SyncEnded | None:
    """The end of a run that somebody wants ended; None where somebody has. Raises RunEndedError."""
    if run.ended is None:
        return end_run(run, connector.SyncOutcome.CANCELLED, counts=run.counts)
    if run.ended.outcome is connector.SyncOutcome.CANCELLED:
        return None
    raise RunEndedError(run.request.run_id)


def is_purgeable(history: Sequence[Recorded[Event]], *, before: datetime) -> bool:
    """Whether these events are of a run that ended before then."""
    return (
        bool(history)
        and isinstance(history[-1].data, connector.SyncEnded)
        and history[-1].recorded_at < before
    )


def _stands(state: Connector, standing: Standing, *, is_paused: bool) -> list[connector.Event]:
    statuses: list[Standing] = []
    if standing != state.standing or (state.is_paused and not is_paused):
        statuses.append(standing)
    if is_paused and (statuses or not state.is_paused):
        statuses.append(Standing(connector.ConnectorStatus.PAUSED))
    return [
        connector.ConnectorStatusChanged(
            connector_id=state.connector_id, status=each.status, reason=each.reason, detail=each.detail
        )
        for each in statuses
    ]


def _backfill(start: datetime | None, end: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    end = now if end is None else end
    if start is None:
        raise InvalidConnectorError({"window_start": "is missing; say from when"})
    if end > now:
        raise InvalidConnectorError({"window_end": "lies in the future; leave it out for now"})
    if start >= end:
        raise InvalidConnectorError({"window_start": "must lie before window_end"})
    if end - start > BACKFILL_MAX:
        raise InvalidConnectorError(
            {
                "window_start": f"lies more than {BACKFILL_MAX.days} days before window_end; ask for less at once"
            }
        )
    return start, end
