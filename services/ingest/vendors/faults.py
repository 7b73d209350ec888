"""Everything that can go wrong with a vendor, in words that a person who connects a source can act on."""

import re
from collections.abc import Iterable
from typing import Final, Literal

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

_TAGS: Final = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class VendorError(Exception):
    """A vendor was not asked, did not answer, or answered what cannot be used.

    detail: for people, at most 500 characters, without secrets. retry_after: seconds, where the vendor said them.
    """

    def __init__(self, code: Code, detail: str, *, retry_after: float | None = None) -> None:
        self.code: Code = code
        self.detail = detail[:DETAIL_CHARACTERS_MAX]
        self.retry_after = retry_after
        super().__init__(f"{code}: {self.detail}")


def words(text: str, secrets: Iterable[str]) -> str:
    """What a vendor says, on one line, without markup, without what we sent in confidence, and not much of it."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SECRET_CHARACTERS_MIN:
            text = text.replace(secret, "…")
    return " ".join(_TAGS.sub(" ", text).split())[: DETAIL_CHARACTERS_MAX - 100]
