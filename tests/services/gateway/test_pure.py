"""Small pure parts: words, curves, folds, tokens, job ids, settings."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from runtime.errors import StartError, UnauthorizedError
from runtime.sealing import DEFAULT_JWT_SECRET
from testkit.builders import NOW

from services.gateway.forecasting import Outlook, composite, curve, first_breach
from services.gateway.identity.scopes import ROLES
from services.gateway.identity.tokens import (
    FOREVER,
    TICKET_SECONDS,
    Claimed,
    Principal,
    issue_access_token,
    issue_ticket,
    read_access_token,
    read_ticket,
)
from services.gateway.routes.jobs import Job, job_id, read_job_id
from services.gateway.settings import GatewaySettings, check
from services.gateway.vocabulary import search_terms, severity_codes, statuses_of

INPUTS = (
    '{"n_recurrences":3,"exposure_days":40.0,"quiet_days":2.0,"prior_shape":0.5,"prior_rate_days":30.0,'
    '"base_rate":0.3,"n_resolved":0}'
)


def outlook(probability: float, *, pattern_id: str = "pat_1", window_days: int = 30) -> Outlook:
    return Outlook(
        pattern_id=pattern_id,
        pattern_name="A pattern",
        window_days=window_days,
        probability=probability,
        lower=probability / 2,
        upper=min(1.0, probability * 1.2),
        inputs=INPUTS,
        trigger="",
        generated_at=NOW,
    )


def test_status_words_stand_for_their_group() -> None:
    """`open` and `closed` are groups; a fine status is itself."""
    assert statuses_of(["open", "wont_fix"]) == ["analyzed", "analyzing", "new", "wont_fix"]
    assert statuses_of(["closed"]) == ["closed", "wont_fix"]
    assert severity_codes(["critical", "p4"]) == ["p1", "p4"]


def test_a_search_cannot_smuggle_wildcards() -> None:
    """% and _ mean themselves."""
    assert search_terms("100%  a_b\\") == ["%100\\%%", "%a\\_b\\\\%"]


@given(probability=st.floats(0.002, 0.98), window=st.sampled_from([7, 30, 90]))
def test_a_curve_grows_to_the_frozen_probability(probability: float, window: int) -> None:
    """One point per day, never falling, inside its interval, ending where the forecast is."""
    points = curve(outlook(probability, window_days=window))
    values = [point.value for point in points]
    assert len(points) == window
    assert values == sorted(values)
    assert values[-1] == pytest.approx(probability)
    assert all(point.lower <= point.value <= point.upper for point in points)


def test_the_breach_is_the_first_pattern_to_reach_the_line() -> None:
    """The more probable pattern reaches it earlier; without any there is none."""
    found = first_breach([outlook(0.75), outlook(0.95, pattern_id="pat_2")], threshold=0.7)
    assert found is not None
    assert found[0].pattern_id == "pat_2"
    assert found[2] >= 0.7
    assert first_breach([outlook(0.3)], threshold=0.7) is None


def test_the_composite_is_the_mean() -> None:
    """Of two patterns, day by day."""
    both = composite([curve(outlook(0.2)), curve(outlook(0.6))])
    assert both[-1].value == pytest.approx(0.4)
    assert composite([]) == ()


def principal(expires_at: datetime) -> Principal:
    return Principal(
        workspace_id="ws_1",
        user_id="usr_1",
        role="analyst",
        scopes=ROLES["analyst"].scopes,
        session_id="ses_1",
        expires_at=expires_at,
    )


def test_an_access_token_says_who_it_is_for() -> None:
    """There and back; not with another secret, not later, not changed."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    mine = principal(now + timedelta(hours=1))
    token = issue_access_token(mine, secret="s" * 32, now=now)
    assert read_access_token(token, secrets=("s" * 32,), now=now) == Claimed(
        workspace_id=mine.workspace_id,
        user_id=mine.user_id,
        session_id=mine.session_id,
        expires_at=mine.expires_at,
    )
    for wrong in ("x" * 32, "s" * 31 + "t"):
        with pytest.raises(UnauthorizedError):
            read_access_token(token, secrets=(wrong,), now=now)
    with pytest.raises(UnauthorizedError):
        read_access_token(token, secrets=("s" * 32,), now=now + timedelta(hours=1))
    with pytest.raises(UnauthorizedError):
        read_access_token(token[:-2] + "xx", secrets=("s" * 32,), now=now)


def test_a_ticket_stands_for_what_was_shown_and_for_a_moment() -> None:
    """A session or an API token, with its end; an access token is no ticket, and a ticket no access token."""
    now, secrets = datetime(2026, 1, 1, tzinfo=UTC), ("s" * 32,)
    mine = principal(now + timedelta(hours=1))
    machine = replace(mine, session_id="", token_id="tok_1", expires_at=FOREVER, kind="service")
    for shown, ends_at in ((mine, mine.expires_at), (machine, None)):
        ticket = issue_ticket(shown, secret=secrets[0], now=now)
        read = read_ticket(ticket, secrets=secrets, now=now + timedelta(seconds=TICKET_SECONDS - 1))
        assert read.claimed == Claimed(
            workspace_id=shown.workspace_id,
            user_id=shown.user_id,
            session_id=shown.session_id,
            token_id=shown.token_id,
            expires_at=ends_at,
        )
        assert (
            read.nonce
            != read_ticket(issue_ticket(shown, secret=secrets[0], now=now), secrets=secrets, now=now).nonce
        )
        with pytest.raises(UnauthorizedError):
            read_ticket(ticket, secrets=secrets, now=now + timedelta(seconds=TICKET_SECONDS))
        with pytest.raises(UnauthorizedError):
            read_access_token(ticket, secrets=secrets, now=now)
    with pytest.raises(UnauthorizedError):
        read_ticket(issue_access_token(mine, secret=secrets[0], now=now), secrets=secrets, now=now)


def test_roles_are_cumulative() -> None:
    """Each role has what the one before has."""
    roles = [ROLES[name].scopes for name in ("viewer", "analyst", "admin", "owner")]
    assert all(less < more for less, more in pairwise(roles))


@given(sequence=st.integers(0, 2**53), issue=st.sampled_from(["", "iss_1"]))
def test_a_job_id_carries_its_job_for_its_workspace_only(sequence: int, issue: str) -> None:
    """No table is needed, and nobody else's job can be asked about."""
    job = Job(sequence, 3, 1, 1_700_000_000_000, issue)
    identifier = job_id(job, workspace_id="ws_1", secret="s")
    assert read_job_id(identifier, workspace_id="ws_1", secret="s") == job
    assert read_job_id(identifier, workspace_id="ws_2", secret="s") is None
    assert read_job_id(identifier[:-1] + "!", workspace_id="ws_1", secret="s") is None


@pytest.mark.parametrize(
    ("fields", "is_refused"),
    [
        ({"jwt_secret": "x" * 40}, False),
        ({"jwt_secret": "x" * 40, "causeloop_master_key": ""}, True),
        ({}, True),
        ({"jwt_secret": "short"}, True),
        ({"jwt_secret": "x" * 40, "use_mock": True}, True),
    ],
)
def test_production_refuses_unsafe_settings(fields: dict[str, Any], is_refused: bool) -> None:
    """A default or short secret, no master key, and mock mode."""
    urls = dict.fromkeys(("nats_url", "database_url", "database_projector_url", "database_owner_url"), "x")
    key = {"causeloop_master_key": b64encode(b"k" * 32).decode()}
    made = GatewaySettings(**{"port": 1, "environment": "production", **key, **urls, **fields})
    if not is_refused:
        check(made)
        return
    with pytest.raises(StartError):
        check(made)
    check(replace(made, environment="development", jwt_secret=DEFAULT_JWT_SECRET))
