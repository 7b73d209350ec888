"""Everything that can go wrong with a vendor, in words that a person who connects a source can act on."""

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Final, Literal
from urllib.parse import quote, quote_plus

Code = Literal[
    "credentials_rejected",
    "oauth_expired",
    "rate_limited",
    "unreachable",
    "vendor_failed",
    "bad_answer",
    "address_refused",
    "not_configured",
]

DETAIL_CHARACTERS_MAX: Final = 500
SECRET_CHARACTERS_MIN: Final = 4
"""A shorter secret is not looked for in a vendor's words: it would blacken half of them."""

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

_READ_MAX: Final = 4_096
"""Of what a vendor says, characters that are looked at for its words."""
_ENCODED_MIN: Final = 6
_ENCODED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_%\\=")
_SIGNED_IN: Final = re.compile(
    r"""(\bauthorization\b["']?\s*[:=]\s*["']?(?:(?:basic|bearer|token)\s+)?)[^\s"'<>,;]+"""
    r"""|(\b(?:basic|bearer)\s+)[A-Za-z0-9+/=._~%-]{16,}""",
    re.IGNORECASE,
)
"""How requests say who asks; "Basic authentication" is no such thing."""
_TAGS: Final = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class VendorError(Exception):
    """A vendor was not asked, did not answer, or answered what cannot be used.

    detail: for people, at most 500 characters, without secrets. retry_after: seconds, where the vendor said them.
    status: by which HTTP status it refused what was asked; None: otherwise.
    """

    def __init__(
        self, code: Code, detail: str, *, retry_after: float | None = None, status: int | None = None
    ) -> None:
        self.code: Code = code
        self.status = status
        self.detail = detail[:DETAIL_CHARACTERS_MAX]
        self.retry_after = retry_after
        super().__init__(f"{code}: {self.detail}")


class AccountBusyError(VendorError):
    """A vendor was not asked, since by our own pace its account is not to be asked so soon. seconds: until it may be."""

    def __init__(self, seconds: float) -> None:
        super().__init__("rate_limited", "others ask this account as well", retry_after=seconds)
        self.seconds = seconds


class RefusedError(VendorError):
    """A vendor says what is wrong with what was asked of it; nothing was done, and its connector is as good as before."""


def code_of(errors: object, said: str = "") -> Code | None:
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


def words(text: str, secrets: Iterable[str]) -> str:
    """What a vendor says, on one line, without markup, without what we sent in confidence, and not much of it."""
    return " ".join(_TAGS.sub(" ", hidden(text, secrets)).split())[: DETAIL_CHARACTERS_MAX - 100]


def hidden(text: str, secrets: Iterable[str]) -> str:
    """The beginning of a text without these secrets, however a vendor spells them, and without a request's credentials.

    A vendor that repeats its request escapes it for wherever it writes it, and Base64 holds secrets beside names. The
    text is cut behind what is hidden, so that no half of a secret is left at its end.
    """
    known = [secret for secret in secrets if len(secret) >= SECRET_CHARACTERS_MIN]
    plain = {spelt for secret in known for spelt in _spellings(secret)}
    encoded = {spelt for secret in known for core in _cores(secret) for spelt in _spellings(core)}
    kept, at = [], 0
    if plain:
        wanted = re.compile(f"({_any_of(encoded)})|{_any_of(plain)}", re.IGNORECASE)
        longest = max(map(len, plain | encoded))
        for match in wanted.finditer(text, 0, _READ_MAX + longest):
            start, end = match.span()
            if start >= _READ_MAX:
                break
            if match[1] is not None:
                # What stands around it in the same word is of the same code.
                while start > at and text[start - 1] in _ENCODED and text[start - 1] != "=":
                    start -= 1
                while end < len(text) and text[end] in _ENCODED:
                    end += 1
            if start >= at:
                kept += [text[at:start], "…"]
            at = max(at, end)
    kept.append(text[at:_READ_MAX])
    return _SIGNED_IN.sub(lambda match: (match[1] or match[2]) + "…", "".join(kept))


def _spellings(text: str) -> Iterator[str]:
    """A text as it is, in addresses and forms, in JSON and in HTML."""
    yield text
    yield quote(text)
    yield quote(text, safe="")
    yield quote_plus(text)
    for is_ascii in (True, False):
        written = json.dumps(text, ensure_ascii=is_ascii)[1:-1]
        yield written
        yield written.replace("/", "\\/")
    marked = html.escape(text)
    yield html.escape(text, quote=False)
    for apostrophe in ("&#x27;", "&#39;", "&#039;", "&apos;"):
        yield marked.replace("&#x27;", apostrophe)
        yield marked.replace("&#x27;", apostrophe).replace("&quot;", "&#34;")


def _cores(secret: str) -> Iterator[str]:
    """What Base64 makes of a secret wherever it stands in what is encoded, without the characters it shares."""
    for text in {secret, quote_plus(secret)}:
        for n_before in range(3):
            content = bytes(n_before) + text.encode()
            core = b64encode(content).decode()[(n_before * 8 + 5) // 6 : len(content) * 8 // 6]
            if len(core) >= _ENCODED_MIN:
                yield core
                yield core.translate({ord("+"): "-", ord("/"): "_"})


def _any_of(texts: Iterable[str]) -> str:
    """The longest first. Of none: what nothing matches."""
    return "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) or "(?!)"
