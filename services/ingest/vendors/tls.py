"""Whose certificates a connection believes: those that the reach does, or one authority of somebody's own alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLContext, SSLError, create_default_context
from tempfile import NamedTemporaryFile

from runtime.outbound import Reach, certificates, public_and, public_file

from services.ingest.errors import VendorError


def trusting(authority: str, reach: Reach, *, checks_name: bool = True) -> SSLContext:
    """What a server has to prove. authority: PEM, empty for those of the reach, who vouch for names.

    Raises VendorError for what is no certificate.
    """
    if not authority:
        return certificates(reach.authorities)
    try:
        context = create_default_context(cadata=authority)
    except (SSLError, ValueError) as error:
        raise VendorError("not_configured", f"ca_certificate is no certificate in PEM: {error}") from error
    context.check_hostname = checks_name
    return context


@contextmanager
def as_file(authority: str, reach: Reach) -> Iterator[str]:
    """The same for libraries that take nothing but a path; a file that is made for it is gone behind the block."""
    if not authority and not reach.authorities:
        # Each page of a database begins here, and they are a quarter of a megabyte.
        yield public_file()
        return
    with NamedTemporaryFile("w", encoding="utf-8", suffix=".pem") as file:
        file.write(authority or public_and(reach.authorities))
        file.flush()
        yield file.name
