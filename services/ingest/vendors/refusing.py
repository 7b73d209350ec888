"""What somebody who asked is told when a vendor fails."""

from runtime.errors import AppError

from services.ingest.errors import VendorRefusedError, VendorUnavailableError
from services.ingest.vendors.faults import VendorError

_PASSING = frozenset({"rate_limited", "unreachable", "vendor_failed", "bad_answer"})


def refusal(error: VendorError) -> AppError:
    """The refusal that a vendor's failure becomes: of the request, or of the moment."""
    if error.code in _PASSING:
        return VendorUnavailableError(error.code, error.detail, retry_after=error.retry_after)
    return VendorRefusedError(error.code, error.detail)
