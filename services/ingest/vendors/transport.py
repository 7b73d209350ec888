"""One guarded request to a vendor: for our own questions, and beneath Authlib's client."""

from collections.abc import Mapping

import httpx2
from runtime.outbound import Answer, Outbound, OutboundError, UnmakeableError

from services.ingest.errors import VendorError

SECONDS = 10.0
"""How long one request may take, from the look-up of the name to the last byte."""


async def send(
    outbound: Outbound,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes = b"",
) -> Answer:
    """What the vendor answers, whatever its status. Raises VendorError where it does not."""
    try:
        return await outbound.send(method, url, headers=headers, content=content, seconds=SECONDS)
    except OutboundError as error:
        raise unreached(error) from error


def unreached(error: OutboundError) -> VendorError:
    """Why there is no answer, as an error of vendors."""
    if isinstance(error, UnmakeableError):
        return VendorError("not_configured", str(error))
    return VendorError("address_refused" if error.is_refused else "unreachable", str(error))


class GuardedTransport(httpx2.AsyncBaseTransport):
    """What Authlib's client sends its requests through: the addresses that it may not ask are refused here."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises VendorError where there is no answer."""
        headers = {
            name: value
            for name, value in request.headers.items()
            if name not in {"host", "content-length", "accept-encoding", "connection"}
        }
        answer = await send(
            self._outbound, request.method, str(request.url), headers=headers, content=await request.aread()
        )
        return httpx2.Response(
            answer.status, headers=dict(answer.headers), content=answer.body, request=request
        )
