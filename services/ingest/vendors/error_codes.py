"""What a vendor means by the errors that it tells in an answer's body."""

import re
from typing import Final

from services.ingest.errors import VendorErrorCode

_LIMITED: Final = frozenset(
    {"ratelimited", "ratelimitexceeded", "complexityexception", "complexitybudgetexhausted"}
    | {"maxconcurrencyexceeded", "fieldlimitexceeded"}
)
_TROUBLED: Final = frozenset(
    {"internal", "internalerror", "internalservererror", "fatalerror", "serviceunavailable", "requesttimeout"}
    | {"locktimeout", "networkerror"}
)
_REJECTED: Final = frozenset(
    {"invalidauth", "notauthed", "accountinactive", "tokenrevoked", "tokenexpired", "notallowedtokentype"}
    | {"missingscope", "nopermission", "accessdenied", "permissiondenied", "insufficientscopes", "forbidden"}
    | {"unauthorized", "unauthenticated", "authenticationerror", "userunauthorizedexception"}
    | {"invalidtoken", "invalidapikey", "invalidcredentials"}
)
"""Codes of errors in small letters alone, of GraphQL, Slack (https://docs.slack.dev/reference/methods/chat.postMessage),
Linear (https://linear.app/developers/rate-limiting), Monday (https://developer.monday.com/api-reference/docs/error-handling)
and GitHub: of a limit, of a trouble that passes, and of who asks."""
_ABOUT_CREDENTIALS: Final = re.compile(
    r"\b(?:un(?:authori[sz]ed|authenticated)|not (?:authori[sz]ed|authenticated)|forbidden|re-login"
    r"|(?:access|permission) (?:is |was )?denied|(?:authentication|authorization) (?:is )?(?:required|failed)"
    r"|(?:invalid|wrong|incorrect|missing|expired|revoked) (?:(?:api|access|auth) ?(?:token|key)|credentials?)"
    r"|(?:insufficient|missing) (?:permissions?|scopes?|privileges?))\b",
    re.IGNORECASE,
)
"""Words of those that have no code. A page has tokens, too, an issue an author, and their services may be away."""


def code_of(errors: object, said: str = "") -> VendorErrorCode | None:
    """What errors mean that a vendor tells in a body: by their codes, what passes first, then by its words; None: neither
    says. errors: as in GraphQL (https://spec.graphql.org, 7.1), JSON-RPC or Slack.
    """
    found: list[object] = []
    for error in errors if isinstance(errors, list) else [errors]:
        extensions = error.get("extensions") if isinstance(error, dict) else None
        for part in (error, extensions):
            found += [part.get("code"), part.get("type")] if isinstance(part, dict) else [part]
    codes = {re.sub("[^a-z]", "", code.lower()) for code in found if isinstance(code, str)}
    if codes & _LIMITED:
        return "rate_limited"
    if codes & _TROUBLED:
        return "vendor_failed"
    return "credentials_rejected" if codes & _REJECTED or _ABOUT_CREDENTIALS.search(said) else None
