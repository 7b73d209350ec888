"""Whose certificates a connection believes: those that browsers trust, or one authority of somebody's own alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLContext, SSLError, create_default_context
from tempfile import NamedTemporaryFile

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from services.ingest.vendors.faults import VendorError


def trusting(authority: str, *, checks_name: bool = True) -> SSLContext:
    """What a server has to prove. authority: PEM, empty for those that browsers trust.

    Raises VendorError for what is no certificate.
    """
    if authority:
        try:
            context = create_default_context(cadata=authority)
        except (SSLError, ValueError) as error:
            raise VendorError(
                "not_configured", f"ca_certificate is no certificate in PEM: {error}"
            ) from error
    else:
        context = create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)
    context.check_hostname = checks_name
    return context


@contextmanager
def as_file(authority: str) -> Iterator[str]:
    """The same for libraries that take nothing but a path; the file is gone behind the block."""
    if not authority:
        yield DEFAULT_CA_BUNDLE_PATH
        return
    with NamedTemporaryFile("w", encoding="ascii", suffix=".pem") as file:
        file.write(authority)
        file.flush()
        yield file.name
