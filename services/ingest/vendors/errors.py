"""What can go wrong with a vendor."""

from typing import Literal

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
DETAIL_CHARACTERS_MAX = 500


class VendorError(Exception):
    """A vendor did not do what was asked.

    code: stable, for programs. detail: for people, with the vendor's words, bounded, without secrets.
    retry_after: seconds that the vendor asks us to wait; None: it did not say.
    """

    def __init__(self, code: Code, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code: Code = code
        self.detail = detail
        self.retry_after = retry_after
