"""What a tracker's refusal says: of what was asked, of its limit, or of a trouble of its own behind which a ticket may be."""

import json
from datetime import UTC, datetime
from unittest.mock import AsyncMock

import pytest
from contracts import connector
from runtime.outbound import EVERYWHERE, Answer, Outbound

from services.ingest.connectors import tickets
from services.ingest.connectors.connecting import Source
from services.ingest.connectors.registry import manifest_of
from services.ingest.errors import VendorError
from services.ingest.vendors.error_codes import code_of
from services.ingest.vendors.tickets import RefusedError, Tracker, UnsettledError


def graphql(code: str) -> object:
    return {"errors": [{"message": "No", "extensions": {"code": code}}]}


@pytest.mark.parametrize(
    ("tracker", "status", "headers", "body", "kind", "said"),
    [
        ("linear", 400, {}, graphql("RATELIMITED"), VendorError, ("rate_limited", None)),
        ("linear", 400, {"retry-after": "7"}, {}, VendorError, ("rate_limited", 7.0)),
        ("linear", 403, {"x-ratelimit-remaining": "0"}, {}, VendorError, ("rate_limited", None)),
        ("linear", 403, {"x-ratelimit-remaining": "9"}, {}, VendorError, ("credentials_rejected", None)),
        ("linear", 200, {}, graphql("INTERNAL_SERVER_ERROR"), UnsettledError, ("vendor_failed", None)),
        ("linear", 200, {}, graphql("INVALID_INPUT"), RefusedError, ("not_configured", None)),
        ("linear", 400, {}, "no object", RefusedError, ("not_configured", None)),
        ("slack", 200, {}, {"ok": False, "error": "ratelimited"}, VendorError, ("rate_limited", None)),
        ("slack", 200, {}, {"ok": False, "error": "fatal_error"}, UnsettledError, ("vendor_failed", None)),
        ("slack", 200, {}, {"ok": False, "error": "is_archived"}, RefusedError, ("not_configured", None)),
        ("linear", 203, {"content-type": "text/html"}, "", VendorError, ("credentials_rejected", None)),
        (
            "linear",
            302,
            {"location": "https://sso.example/_signin?x"},
            "",
            VendorError,
            ("credentials_rejected", None),
        ),
    ],
)
async def test_what_passes_is_no_refusal(
    tracker: str,
    status: int,
    headers: dict[str, str],
    body: object,
    kind: type[VendorError],
    said: tuple[str, float | None],
) -> None:
    manifest = manifest_of(tracker)
    assert manifest.push is not None
    settings = connector.ConnectorSettings(type=tracker, display_name="", auth=0, streams=(), mapping={})
    source = Source("con_1", settings, manifest)
    asked = Tracker(source, manifest.push, {"access_token": "t", "api_key": "t"}, Outbound(EVERYWHERE))
    asked._outbound = AsyncMock(
        send=AsyncMock(return_value=Answer(status, headers, json.dumps(body).encode()))
    )
    target = {"team_id": "T1"} if tracker == "linear" else {"channel": "C1"}
    given = tickets.values({}, "tkt_1", target=target, begun_at=datetime.now(UTC))
    with pytest.raises(VendorError) as failed:
        await asked.create(given | tickets.text_values(manifest.push, "Raise the pool", "text"))
    assert type(failed.value) is kind
    assert (failed.value.code, failed.value.retry_after) == said


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([{"message": "Timeout while resolving field 'author'; try again"}], None),
        ([{"message": "Syntax error: unexpected token"}], None),
        ({"code": -32602, "message": "The page token has expired"}, None),
        ("the authentication service is away", None),
        ([{"message": "Out of scope", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}], "vendor_failed"),
        ([{"message": "Not authorized yet", "type": "RATE_LIMITED"}], "rate_limited"),
        ([{"message": "Wait", "extensions": {"code": "COMPLEXITY_BUDGET_EXHAUSTED"}}], "rate_limited"),
        ([{"message": "No", "extensions": {"code": "UserUnauthorizedException"}}], "credentials_rejected"),
        ([{"message": "No", "type": "INSUFFICIENT_SCOPES"}], "credentials_rejected"),
        ({"code": -32602, "message": "Invalid params.", "data": "Not authorised."}, "credentials_rejected"),
        ("Invalid API key", "credentials_rejected"),
        ("missing_scope", "credentials_rejected"),
    ],
)
def test_no_word_in_passing_is_taken_for_rejected_credentials(errors: object, code: str | None) -> None:
    """They switch a connector off until a person comes: codes count first, then words that mean nothing else."""
    assert code_of(errors, str(errors)) == code
