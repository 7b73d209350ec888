"""What of a vendor's words may be shown: on one line, short, and without what we sent in confidence."""

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

from services.ingest.errors import DETAIL_CHARACTERS_MAX

SECRET_CHARACTERS_MIN: Final = 4
"""A shorter secret is not looked for in a vendor's words: it would blacken half of them."""

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
